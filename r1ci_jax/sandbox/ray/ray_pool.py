"""The back end "ray": the sandbox's API for the nodes of a Ray cluster.

Each node has an actor (`node`) that owns a sandbox of its own. This process keeps the queue and
records the scripts it sent to each node (`fleet`). If a node is lost, its unfinished scripts run
again on other nodes.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Literal, override

from r1ci_jax.sandbox.ray.connection import LINK, import_ray
from r1ci_jax.sandbox.ray.fleet import Deserted, Fleet, Host, HostLost
from r1ci_jax.sandbox.ray.node import pack_text, unpack_result
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

ATTEMPTS: Final = 3
"""Number of nodes that try a script if the sandbox fails; a script's own failure is final."""
PATIENCE_SECONDS: Final = 120.0
"""Waiting scripts get the result `infra_error` after this time without any node."""
ANSWER_SECONDS: Final = 10.0
"""Longest wait for the interruption or the end of a session."""
CLOSED: Final = "the sandbox is closed"
LOST: Final = "the session's variables are lost, its next cell starts afresh"


class WaitingRoom:
    """A thread-safe bound on the number of waiting scripts."""

    def __init__(self, seats: int):
        self._seats = seats
        self._taken = 0
        self._closed = False
        self._change = threading.Condition()

    def enter(self, *, blocking: bool) -> Callable[[], None]:
        """Enter, after a wait if `blocking`; return a function to leave, callable repeatedly."""
        with self._change:
            if blocking:
                self._change.wait_for(lambda: self._closed or self._taken < self._seats)
            if self._closed:
                raise RuntimeError(CLOSED)
            self._taken += 1
        left = itertools.count()
        return lambda: self._leave() if next(left) == 0 else None

    def _leave(self) -> None:
        with self._change:
            self._taken -= 1
            self._change.notify()

    def close(self) -> None:
        """Refuse all callers from here on."""
        with self._change:
            self._closed = True
            self._change.notify_all()


class RayPool:
    """A thread-safe pool that runs scripts on the nodes of a Ray cluster.

    Every node runs up to `config.workers` scripts at a time, but at most one per core. Nodes that
    join later are used, too. If a node is lost, its scripts need another attempt.

    Raises:
        UserError: On creation, Ray is missing, the address cannot be reached, or no node can run
            jails.
    """

    def __init__(
        self,
        config: SandboxConfig,
        *,
        node_backend: Literal["zygote", "cold"] = "zygote",
        patience: float = PATIENCE_SECONDS,
    ):
        """Open the pool; `node_backend` is the back end that runs the scripts on each node."""
        self._config = config
        self._room = WaitingRoom(config.queue)
        self._gate = threading.Lock()
        self._closed = False
        self._sessions = itertools.count(1)
        self._ray = import_ray()
        LINK.join(self._ray, config.address, config.workers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ray", daemon=True)
        self._thread.start()
        local = dataclasses.replace(config, backend=node_backend, address="")
        self._fleet = Fleet(self._ray, local, patience)
        try:
            self.start(self._fleet.start()).result()
        except BaseException:
            self.close()
            raise

    @property
    def tier(self) -> str:
        """Describe the isolation on all nodes that exist now."""
        hosts = list(self._fleet.hosts.values())
        tiers = ", ".join(sorted({host.tier for host in hosts})) or "none there"
        return f"ray: {len(hosts)} node{'' if len(hosts) == 1 else 's'}, {tiers}"

    def submit(
        self, code: str, limits: Limits | None = None, collect: Sequence[str] = ()
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script; block while `config.queue` scripts wait."""
        # A result's callback runs on the loop, so it must not wait for a step of the loop itself.
        leave = self._room.enter(blocking=threading.current_thread() is not self._thread)
        arguments = (
            pack_text(code),
            dataclasses.asdict(limits or self._config.limits),
            [pack_text(name) for name in collect],
        )
        future = self.start(self._script(arguments, time.monotonic(), leave))
        future.add_done_callback(lambda _: leave())  # it was cancelled before its start
        return future

    def session(self, limits: Limits | None = None) -> "RaySession":
        """Return a session on one of the nodes; its first cell starts it."""
        return RaySession(self, next(self._sessions), limits or self._config.limits)

    def close(self) -> None:
        """Drop all scripts, and end the nodes' sandboxes and a Ray that this process started."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        self._room.close()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        LINK.leave(self._ray)

    def start[Value](self, work: Coroutine[Any, Any, Value]) -> concurrent.futures.Future[Value]:
        """Run a coroutine on the pool's event loop; `close` cancels it if it still runs.

        Raises:
            RuntimeError: The pool is closed.
        """
        with self._gate:  # no task may start on the loop after its last one
            if self._closed:
                work.close()
                raise RuntimeError(CLOSED)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _script(
        self, arguments: tuple[object, ...], queued: float, leave: Callable[[], None]
    ) -> ExecResult:
        result, _ = await self.deliver("run", arguments, queued, leave)
        return result

    async def deliver(
        self,
        method: str,
        arguments: tuple[object, ...],
        queued: float,
        leave: Callable[[], None] = lambda: None,
    ) -> tuple[ExecResult, Host | None]:
        """Run a method on the least loaded host, and on another one when the sandbox fails.

        Args:
            method: The name of a method of `NodeSandbox`.
            arguments: The arguments of that method.
            queued: The time of submission, by the monotonic clock.
            leave: A function that is called when the script no longer waits.

        Returns:
            The result, and the host that returned it.
        """
        failed: set[int] = set()
        attempts = 0
        for _ in range(ATTEMPTS):
            try:
                host = await self._fleet.slot(frozenset(failed))
            except Deserted as error:
                detail = f"the Ray cluster has no node that runs scripts: {error}"
                waited = time.monotonic() - queued
                return infra_error(detail, attempt=attempts + 1, queue_seconds=waited), None
            leave()
            waited = time.monotonic() - queued
            result, answered = await self.attempt(host, method, arguments)
            attempts += result.attempt
            result = dataclasses.replace(
                result, attempt=attempts, queue_seconds=waited + result.queue_seconds
            )
            if result.status not in SANDBOX_FAULTS:
                return result, answered
            failed.add(host.number)
        return result, answered

    async def attempt(
        self, host: Host, method: str, arguments: tuple[object, ...]
    ) -> tuple[ExecResult, Host | None]:
        """Run a method on a reserved host; the returned host is None if it did not answer."""
        try:
            result = unpack_result(await self._fleet.ask(host, method, *arguments))
        except (HostLost, ValueError) as error:
            self._fleet.record_outcome(host, faulty=True)
            return infra_error(str(error)), None
        self._fleet.record_outcome(host, faulty=result.status in SANDBOX_FAULTS)
        worker = host.number * self._config.workers + result.worker
        return dataclasses.replace(result, worker=worker), host

    async def attempt_bound(
        self, host: Host, method: str, arguments: tuple[object, ...]
    ) -> tuple[ExecResult, Host | None]:
        """Run a method on a given host, whatever its load."""
        self._fleet.reserve(host)
        return await self.attempt(host, method, arguments)

    async def send(self, host: Host, method: str, *arguments: object) -> None:
        """Say something to a host that may be gone, and wait until it was heard."""
        self._fleet.reserve(host)
        with contextlib.suppress(HostLost, TimeoutError):  # a lost host ended the session, too
            await asyncio.wait_for(self._fleet.ask(host, method, *arguments), ANSWER_SECONDS)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._fleet.close()


def infra_error(detail: str, **fields: Any) -> ExecResult:
    """Return a result without a verdict about the script."""
    return ExecResult(status=Status.INFRA_ERROR, detail=detail, **fields)


class RaySession(Session):
    """A session that keeps its variables from cell to cell, on one node while that node exists.

    When the node is lost, the running cell, or else the next one, returns `infra_error` with
    `state_lost`; the cell after it starts with no variables on another node.
    """

    def __init__(self, pool: RayPool, number: int, limits: Limits):
        self._pool = pool
        self._number = number
        self._limits = dataclasses.asdict(limits)
        self._turn = asyncio.Lock()  # cells run one after the other, as submitted
        self._host: Host | None = None
        self._closed = False

    @override
    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Queue one cell after the session's earlier ones."""
        if self._closed:
            raise RuntimeError("the session is closed")
        return self._pool.start(self._cell(pack_text(code), time.monotonic()))

    @override
    def interrupt(self) -> None:
        """Interrupt the running cell, as Ctrl-C does; its variables stay."""
        self._pool.start(self._interrupt()).result()

    @override
    def close(self) -> None:
        """End the session; a running cell returns `infra_error`."""
        if not self._closed:
            self._closed = True
            # A pool that is closed, or is closing, has ended its sessions.
            with contextlib.suppress(RuntimeError, concurrent.futures.CancelledError):
                self._pool.start(self._leave()).result()

    async def _cell(self, code: bytes, queued: float) -> ExecResult:
        async with self._turn:
            if self._closed:
                return infra_error("the session was closed", state_lost=True)
            arguments = (self._number, code, self._limits)
            if self._host is None:
                return await self._first_cell(arguments, queued)
            if self._host.lost.done():
                detail = f"node {self._host.name} {self._host.lost.result()}; {LOST}"
                result, answered = infra_error(detail, state_lost=True), None
            else:
                waited = time.monotonic() - queued
                result, answered = await self._pool.attempt_bound(self._host, "cell", arguments)
                result = dataclasses.replace(result, queue_seconds=waited + result.queue_seconds)
            if answered is None:
                await self._leave()
                result = dataclasses.replace(result, state_lost=True)
            return result

    async def _first_cell(self, arguments: tuple[object, ...], queued: float) -> ExecResult:
        """Run the first cell; no state exists yet, so another node is tried if one fails."""
        result, answered = await self._pool.deliver("cell", arguments, queued)
        if answered is not None and result.status not in SANDBOX_FAULTS:
            self._host = answered
            self._host.sessions += 1
            if self._closed:
                await self._leave()
        return result

    async def _interrupt(self) -> None:
        if self._host is not None:
            await self._pool.send(self._host, "interrupt", self._number)

    async def _leave(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.sessions -= 1
            await self._pool.send(host, "end", self._number)
