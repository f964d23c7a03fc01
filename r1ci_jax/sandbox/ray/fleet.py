"""The nodes of a Ray cluster that run scripts: which exist, which are free, which are lost.

All this code runs on one event loop, which belongs to `ray_pool.RayPool`, so it needs no locks.
"""

import asyncio
import collections
import contextlib
import dataclasses
import logging
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.ray.connection import one_line
from r1ci_jax.sandbox.ray.node import NodeSandbox, pack_config
from r1ci_jax.sandbox.settings import SandboxConfig

SURVEY_SECONDS: Final = 1.0
"""Time between two readings of the list of nodes."""
PING_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 30.0
"""A node that does not answer a ping for this long is lost, even if Ray still lists it."""
START_SECONDS: Final = 20.0
"""A pool starts with the nodes that are ready after this time, if there are any."""
OPEN_SECONDS: Final = 90.0
"""Longest time for a node to start its sandbox, the wait for free cores included."""
REOPEN_SECONDS: Final = 30.0
"""A node that could not open a sandbox is tried again after this time."""
CLOSE_SECONDS: Final = 10.0
FAULTS: Final = 3
"""A node is restarted after this many faults of its sandbox in a row; otherwise it would be the
least loaded node and attract every script."""
CALLS: Final = 1 << 16
"""Concurrent calls to one node: thousands of sessions may wait there, and pings must arrive."""

_log = logging.getLogger(__name__)


class HostLost(Exception):
    """No answer will come from this host; the message gives the reason."""


class Deserted(Exception):
    """No node has existed for longer than the pool's patience."""


@dataclasses.dataclass(eq=False, kw_only=True)
class Host:
    """A node with an open sandbox."""

    node: str
    """Ray's id of the node."""
    name: str
    number: int
    """Index of the host in the sequence of joining."""
    workers: int
    actor: Any
    tier: str
    lost: asyncio.Future[str]
    """A future that is done, with the reason, when the node is lost."""
    outstanding: int = 0
    """Number of scripts and cells that have no answer yet."""
    sessions: int = 0
    served: int = 0
    faults: int = 0
    """Number of consecutive faults of its sandbox."""

    @property
    def is_free(self) -> bool:
        """Return whether it accepts scripts; it takes a few more than it runs, to stay busy."""
        return self.outstanding < self.workers + max(2, self.workers // 2)

    @property
    def load(self) -> tuple[float, float, int]:
        """Return the sort key by which hosts are chosen, the smallest first."""
        return self.outstanding / self.workers, self.sessions / self.workers, self.served


@dataclasses.dataclass(eq=False, kw_only=True)
class Waiter:
    """A caller that waits for a free host."""

    chosen: asyncio.Future[Host]
    avoid: frozenset[int]
    """Numbers of the hosts that failed the caller."""


class Fleet:
    """The hosts; one is opened when a node joins, dropped when it is lost, chosen by its load."""

    def __init__(self, ray: Any, config: SandboxConfig, patience: float):
        self.hosts: dict[str, Host] = {}
        self._ray = ray
        self._config = config
        self._patience = patience
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._waiting: collections.deque[Waiter] = collections.deque()
        self._joined = 0
        self._deserted_at: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Open a sandbox on every existing node.

        Raises:
            UserError: No node can open one.
        """
        await self._survey()
        if opening := list(self._opening.values()):
            await asyncio.wait(opening, timeout=START_SECONDS)
            if not self.hosts:
                await asyncio.wait(opening)
        if not self.hosts:
            raise UserError(f"no node of the Ray cluster can run scripts: {self._trouble()}")
        self._spawn(self._keep())

    async def close(self) -> None:
        """End the sandbox of every node. All other tasks of the loop have ended."""
        await asyncio.gather(*(self._dismiss(host) for host in list(self.hosts.values())))
        self.hosts.clear()

    async def slot(self, avoid: frozenset[int] = frozenset()) -> Host:
        """Reserve the least loaded free host for one call to `ask`, and return it.

        Raises:
            Deserted: There was no node for too long.
        """
        waiter = Waiter(chosen=asyncio.get_running_loop().create_future(), avoid=avoid)
        # A caller whose first host failed has waited long enough.
        (self._waiting.appendleft if avoid else self._waiting.append)(waiter)
        self._assign()
        try:
            return await waiter.chosen
        except asyncio.CancelledError:
            if waiter.chosen.done() and not waiter.chosen.cancelled():
                waiter.chosen.result().outstanding -= 1
            raise

    def reserve(self, host: Host) -> None:
        """Count a future call on a host that the caller is bound to."""
        host.outstanding += 1

    async def ask(self, host: Host, method: str, *arguments: object) -> Any:
        """Call a method of the host's actor; the host must have been reserved.

        If the caller is cancelled, the call still counts until its answer arrives.

        Raises:
            HostLost: The host is lost, or its actor failed.
        """
        host.served += 1
        try:
            answer = asyncio.wrap_future(getattr(host.actor, method).remote(*arguments).future())
        except self._ray.exceptions.RayError as error:
            host.outstanding -= 1
            self.lose(host, one_line(error))
            raise HostLost(one_line(error)) from None
        answer.add_done_callback(lambda done: self._answered(host, done))
        await asyncio.wait((answer, host.lost), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HostLost(f"node {host.name} {host.lost.result()}")
        try:
            return answer.result()
        except self._ray.exceptions.RayError as error:
            raise HostLost(f"node {host.name} failed: {one_line(error)}") from None

    def record_outcome(self, host: Host, *, faulty: bool) -> None:
        """Take note of how a host did; one that fails again and again is started afresh."""
        host.faults = host.faults + 1 if faulty else 0
        if host.faults >= FAULTS:
            self.lose(host, f"failed {FAULTS} times in a row")

    def lose(self, host: Host, why: str) -> None:
        """Drop a host, and notify all callers that wait for its answers."""
        if host.lost.done():
            return
        _log.warning("sandbox: node %s %s", host.name, why)
        host.lost.set_result(why)
        self.hosts.pop(host.node, None)
        self._troubles[host.node] = f"node {host.name} {why}"
        self._spawn(asyncio.to_thread(self._ray.kill, host.actor))
        self._assign()

    # ---- existing nodes

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SURVEY_SECONDS)
            try:
                await self._survey()
            except Exception as error:  # Ray's own connection has a problem: try again later
                self._troubles[""] = f"Ray does not list its nodes: {one_line(error)}"
            self._lose_patience()

    async def _survey(self) -> None:
        nodes = await asyncio.to_thread(self._ray.nodes)
        alive = {node["NodeID"]: node for node in nodes if node["Alive"]}
        for host in list(self.hosts.values()):
            if host.node not in alive:
                self.lose(host, "left the cluster")
        now = asyncio.get_running_loop().time()
        for identity, node in alive.items():
            cores = int(node["Resources"].get("CPU", 0))
            known = identity in self.hosts or identity in self._opening
            if not known and cores >= 1 and self._not_before.get(identity, 0.0) <= now:
                name = node.get("NodeManagerAddress") or node.get("NodeManagerHostname") or identity
                task = self._spawn(self._open(identity, str(name), cores))
                self._opening[identity] = task
                task.add_done_callback(lambda _, node=identity: self._opening.pop(node))

    async def _open(self, node: str, name: str, cores: int) -> None:
        """Start a sandbox on a node and add it to the hosts; store the reason of a failure."""
        workers = min(self._config.workers, cores)
        settings = pack_config(dataclasses.replace(self._config, workers=workers))
        actor = None
        try:
            actor = await asyncio.to_thread(self._place, node, workers)
            ok, said = await asyncio.wait_for(actor.open.remote(settings), OPEN_SECONDS)
        except TimeoutError:
            ok, said = False, f"has not given {workers} free cores within {OPEN_SECONDS:.0f} s"
        except self._ray.exceptions.RayError as error:
            ok, said = False, one_line(error)
        if not ok:
            _log.warning("sandbox: node %s: %s", name, said)
            self._troubles[node] = f"node {name}: {said}"
            self._not_before[node] = asyncio.get_running_loop().time() + REOPEN_SECONDS
            if actor is not None:
                await asyncio.to_thread(self._ray.kill, actor)
            return
        lost = asyncio.get_running_loop().create_future()
        host = Host(
            node=node, name=name, number=self._joined, workers=workers, actor=actor, tier=said,
            lost=lost,
        )  # fmt: skip
        self._joined += 1
        self._troubles.pop(node, None)
        self.hosts[node] = host
        self._spawn(self._watch(host))
        self._assign()

    def _place(self, node: str, workers: int) -> Any:
        """Create the actor of a node; it ends with this process, and Ray never restarts it.

        A node that returns has a new id, and its sandbox is tested again.
        """
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return (
            self._ray.remote(NodeSandbox)
            .options(
                num_cpus=workers,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=CALLS,
                scheduling_strategy=affinity(node, soft=False),
            )
            .remote()
        )

    async def _watch(self, host: Host) -> None:
        """Ping a host until it is lost; a machine without power closes no connection."""
        while not host.lost.done():
            await asyncio.sleep(PING_SECONDS)
            try:
                await asyncio.wait_for(host.actor.ping.remote(), SILENCE_SECONDS)
            except TimeoutError:
                self.lose(host, f"has not answered for {SILENCE_SECONDS:.0f} s")
            except self._ray.exceptions.RayError as error:
                self.lose(host, f"was lost: {one_line(error)}")

    async def _dismiss(self, host: Host) -> None:
        with contextlib.suppress(TimeoutError, self._ray.exceptions.RayError):  # it is killed next
            await asyncio.wait_for(host.actor.close.remote(), CLOSE_SECONDS)
        await asyncio.to_thread(self._ray.kill, host.actor)

    def _trouble(self) -> str:
        return "; ".join(self._troubles.values()) or "it has no node with a core for tasks"

    # ---- free hosts

    def _assign(self) -> None:
        """Assign free hosts to waiting callers, first come, first served."""
        passed_over = []
        while self._waiting and any(host.is_free for host in self.hosts.values()):
            waiter = self._waiting.popleft()
            if waiter.chosen.done():
                continue  # cancelled meanwhile
            hosts = list(self.hosts.values())
            good = [host for host in hosts if host.number not in waiter.avoid] or hosts
            host = min(good, key=lambda host: host.load)
            if host.is_free:
                self.reserve(host)
                waiter.chosen.set_result(host)
            else:
                passed_over.append(waiter)
        self._waiting.extendleft(reversed(passed_over))

    def _answered(self, host: Host, answer: asyncio.Future[Any]) -> None:
        host.outstanding -= 1
        error = None if answer.cancelled() else answer.exception()
        if error is not None and isinstance(error, self._ray.exceptions.RayActorError):
            self.lose(host, f"was lost: {one_line(error)}")  # before it gets more work
        self._assign()

    def _lose_patience(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.hosts:
            self._deserted_at = None
        elif self._deserted_at is None:
            self._deserted_at = now
        elif now - self._deserted_at > self._patience:
            for waiter in self._waiting:
                if not waiter.chosen.done():
                    waiter.chosen.set_exception(Deserted(self._trouble()))
            self._waiting.clear()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself keeps only weak references to tasks
        task.add_done_callback(self._tasks.discard)
        return task
