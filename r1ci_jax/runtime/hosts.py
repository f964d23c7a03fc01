"""Multi-host runs: the index and number of hosts, and small collectives between them.

Every host runs the same program on the same data (docs/adr/0013). A value that only one host has
(the output of a script, a signal, a file on its disk) is sent to all of them by `gather` before a
decision depends on it. `gather` uses the key-value store of `jax.distributed` and no device, so no
device waits for it. On a single host nothing is sent.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from r1ci_jax.errors import USER_ERROR_EXIT_STATUS, Resume, UserError
from r1ci_jax.runtime.heartbeat import RESUME_HINT, Heartbeat

COORDINATOR_VARIABLE: Final = "R1CI_COORDINATOR"
"""Environment: HOST:PORT of host 0, a port that is free there."""
NUM_PROCESSES_VARIABLE: Final = "R1CI_PROCESSES"
"""Environment: number of hosts."""
PROCESS_ID_VARIABLE: Final = "R1CI_PROCESS_ID"
"""Environment: index of this host, from 0."""
MULTIHOST_VARIABLE: Final = "R1CI_MULTIHOST"
"""Environment: 1 where JAX finds the other hosts itself (TPU pods)."""
HOST_TIMEOUT_VARIABLE: Final = "R1CI_HOST_TIMEOUT"
"""Environment: seconds of silence after which a host counts as lost."""
HOST_TIMEOUT_SECONDS: Final = 60.0
START_TIMEOUT_SECONDS: Final = 300.0
"""The hosts may begin this far apart."""
BARRIER_TIMEOUT_SECONDS: Final = 3600.0
"""Barrier timeout; one host may build data for minutes longer than the others."""

type Futures = Sequence[concurrent.futures.Future[Any]]


def index() -> int:
    """Index of this host, from 0."""
    return _hosts.index


def count() -> int:
    """Number of hosts of the run."""
    return _hosts.count


def is_first() -> bool:
    """True on host 0, which shows progress and writes results to standard output."""
    return _hosts.index == 0


def gather(name: str, value: Any, *, seconds: float = BARRIER_TIMEOUT_SECONDS) -> list[Any]:
    """Gather the JSON values of all hosts, by index. Every host must call it with the same `name`.

    Raises:
        Resume: a host did not reach this barrier in time; the message names it.
    """
    return _hosts.gather(name, value, seconds)


def broadcast(name: str, value: Any) -> Any:
    """Return the JSON value of host 0 on every host."""
    return gather(name, value if is_first() else None)[0]


def any_flag(name: str, flag: bool) -> bool:
    """True on every host if the flag is set on any."""
    return any(gather(name, flag))


def wait_for_any(futures: Futures, seconds: float | None = None) -> None:
    """Wait until a future of any host is done, or for `seconds`.

    Every host must call it, with its own futures and the same `seconds`, and `gather` next.
    """
    _hosts.wait_for_any(futures, seconds)


def require_same(what: str, value: Any) -> None:
    """Require the same value on every host, so that all train on the same data.

    Raises:
        UserError: the values differ; every host raises the same error.
    """
    found = gather(what, value)
    others = [number for number, other in enumerate(found) if other != found[0]]
    if others:
        raise UserError(
            f"{what} of host {others[0]} differs from that of host 0: give every host the same "
            "code, packages and data, then run the same command again"
        )


@contextlib.contextmanager
def distributed(
    environment: Mapping[str, str] = os.environ, *, start_timeout: float = START_TIMEOUT_SECONDS
) -> Iterator[None]:
    """Make this process one host of the run that the environment describes.

    The variables above describe the run; without them this is the only host. Enter the context
    before anything touches a device. An error on one host ends all of them with the same status.
    Where hosts are still missing after `start_timeout` seconds, the process ends with status 2.

    Raises:
        UserError: the environment is wrong, or the hosts do not find each other.
    """
    global _hosts
    coordinator = read_coordinator(environment)
    if coordinator is None:
        yield
        return
    _hosts = hosts = _ManyHosts(coordinator, _host_timeout(environment), start_timeout)
    try:
        yield
        hosts.gather("end", None, BARRIER_TIMEOUT_SECONDS)
    except BaseException as error:
        hosts.heartbeat.leave(error)
        raise
    hosts.leave()
    _hosts = _SingleHost()


def hard_exit(status: int) -> None:
    """Exit at once if the failed run has several hosts; on a single host return.

    A normal exit would wait in JAX for the hosts that are gone.
    """
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@dataclasses.dataclass(frozen=True)
class Coordinator:
    """Arguments of `jax.distributed.initialize`; None: JAX finds them by itself."""

    address: str | None = None
    count: int | None = None
    index: int | None = None


def read_coordinator(environment: Mapping[str, str]) -> Coordinator | None:
    """Read the coordinator from the environment; None: this process is the only host.

    Raises:
        UserError: a variable is missing or malformed.
    """
    names = (COORDINATOR_VARIABLE, NUM_PROCESSES_VARIABLE, PROCESS_ID_VARIABLE)
    given = [environment.get(name, "") for name in names]
    if not any(given):
        return Coordinator() if environment.get(MULTIHOST_VARIABLE, "") not in ("", "0") else None
    missing = [name for name, value in zip(names, given, strict=True) if not value]
    if missing:
        raise UserError(f"{missing[0]} is not set: several hosts need {', '.join(names)}")
    address, size, number = given
    if not (size.isdecimal() and number.isdecimal() and int(number) < int(size)):
        raise UserError(
            f"{PROCESS_ID_VARIABLE}={number} of {NUM_PROCESSES_VARIABLE}={size}: "
            "number the hosts from 0"
        )
    if not address.rpartition(":")[2].isdecimal():
        raise UserError(
            f"{COORDINATOR_VARIABLE}={address} must be HOST:PORT, a free port of host 0"
        )
    return Coordinator(address, int(size), int(number)) if int(size) > 1 else None


def _host_timeout(environment: Mapping[str, str]) -> float:
    given = environment.get(HOST_TIMEOUT_VARIABLE) or str(HOST_TIMEOUT_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < BARRIER_TIMEOUT_SECONDS:
        raise UserError(f"{HOST_TIMEOUT_VARIABLE}={given} must be a number of seconds")
    return seconds


def _not_found(why: str) -> str:
    return (
        f"the hosts did not find each other ({why}); start the same command on each of them, with "
        f"the {COORDINATOR_VARIABLE} of host 0"
    )


@contextlib.contextmanager
def _ending_before_jax_aborts(seconds: float) -> Iterator[None]:
    """Say that the hosts are awaited, and end the process with one line if that takes longer.

    Where a host is missing, JAX does not raise: after its own timeout it aborts the process from
    C++ with a stack trace. So the process ends here before that, from a thread, as the body cannot
    be interrupted; nothing is open yet that would have to be closed.
    """

    def end() -> None:
        line = _not_found(f"not all were there after {seconds:.0f} s")
        print(f"r1ci: {line}", file=sys.stderr, flush=True)
        os._exit(USER_ERROR_EXIT_STATUS)

    print(f"r1ci: waiting up to {seconds:.0f} s for the other hosts", file=sys.stderr, flush=True)
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _SingleHost:
    """A run of one process: `gather` returns its own value."""

    index = 0
    count = 1

    def gather(self, name: str, value: Any, seconds: float) -> list[Any]:
        del name, seconds
        return [value]

    def wait_for_any(self, futures: Futures, seconds: float | None) -> None:
        concurrent.futures.wait(futures, seconds, concurrent.futures.FIRST_COMPLETED)


class _ManyHosts:
    """One process of a run of several hosts."""

    def __init__(self, coordinator: Coordinator, host_timeout: float, start_timeout: float) -> None:
        import jax
        from jax._src import distributed  # the key-value store has no public name

        # Its SIGTERM handler would replace ours (runtime/preemption.py).
        jax.config.update("jax_enable_preemption_service", False)
        try:
            with _ending_before_jax_aborts(start_timeout):
                jax.distributed.initialize(
                    coordinator.address,
                    coordinator.count,
                    coordinator.index,
                    initialization_timeout=int(start_timeout) + 60,
                    # Longer than our own heartbeat, whose message names the lost host.
                    heartbeat_timeout_seconds=int(10 * host_timeout) + 60,
                    shutdown_timeout_seconds=int(host_timeout) + 1,
                )
        except (RuntimeError, ValueError) as error:
            raise UserError(_not_found(" ".join(str(error).split())[:300])) from error
        self.index, self.count = jax.process_index(), jax.process_count()
        self._store: Any = distributed.global_state.client
        self._round = 0
        self._event: str | None = None
        """The key that wakes all hosts, while they wait for a future of any."""
        self._event_lock = threading.Lock()
        self._watched: weakref.WeakSet[concurrent.futures.Future[Any]] = weakref.WeakSet()
        """Futures that set that key when they are done."""
        address = distributed.global_state.coordinator_address
        assert address is not None
        self.heartbeat = Heartbeat(self._store, address, self.index, self.count, host_timeout)

    def gather(self, name: str, value: Any, seconds: float) -> list[Any]:
        """Gather on host 0, which writes the list for the others.

        So each host makes three requests to the store, not one per other host.
        """
        self._round += 1
        prefix = f"r1ci/gather/{self._round}/"
        self._store.key_value_set(f"{prefix}{self.index}", json.dumps([name, value]))
        if self.index:
            return json.loads(self._get(prefix, "all", name, seconds))
        texts = [self._get(prefix, str(host), name, seconds) for host in range(self.count)]
        found = [json.loads(text) for text in texts]
        for host, (other, _) in enumerate(found):
            assert other == name, f"host {host} gathers {other!r}, host 0 {name!r}"
        values = [value for _, value in found]
        self._store.key_value_set(f"{prefix}all", json.dumps(values))
        # All hosts are in this round, so all have read the result of the previous one.
        self._store.key_value_delete(f"r1ci/gather/{self._round - 1}/")
        return values

    def wait_for_any(self, futures: Futures, seconds: float | None) -> None:
        """Wait for a key that the host sets whose future is done first."""
        self._round += 1
        prefix = f"r1ci/gather/{self._round}/"
        with self._event_lock:
            self._event = prefix + "event"
        for future in set(futures) - set(self._watched):
            self._watched.add(future)
            future.add_done_callback(self._announce)
        if any(future.done() for future in futures):
            self._announce(None)
        limit = BARRIER_TIMEOUT_SECONDS if seconds is None else max(0.0, seconds)
        try:
            self._get(prefix, "event", "a script's end", limit)
        except Resume:
            if seconds is None:
                raise
        with self._event_lock:  # whoever sets the key has done so: `gather` may delete it
            self._event = None

    def _announce(self, _: object) -> None:
        with self._event_lock:
            if self._event is not None:
                self._store.key_value_set(self._event, "", allow_overwrite=True)

    def leave(self) -> None:
        """Leave the run after the last barrier."""
        import jax

        self.heartbeat.close()
        jax.distributed.shutdown()

    def _get(self, prefix: str, key: str, name: str, seconds: float) -> str:
        began = time.monotonic()
        try:
            return self._store.blocking_key_value_get(prefix + key, int(1000 * seconds))
        except RuntimeError as error:
            if time.monotonic() - began < seconds:
                raise
            present = {path.rpartition("/")[2] for path, _ in self._store.key_value_dir_get(prefix)}
            absent = next((host for host in range(self.count) if str(host) not in present), 0)
            raise Resume(
                f"host {absent} is alive but did not reach {name!r} in {seconds:.0f} s; "
                f"{RESUME_HINT}"
            ) from error


_hosts: _SingleHost | _ManyHosts = _SingleHost()
"""Module-level, as in `jax.distributed`: a process belongs to one run. `distributed` sets it."""
