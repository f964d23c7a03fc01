"""Several hosts that compute one run: who takes part, and what they agree on.

Every host runs the same program on the same data (docs/adr/0013). What one of them alone knows (the
output of a script, a signal, a file on its disk) goes to all of them through `gather` before
anything is decided by it. That travels beside the devices' own traffic, through the key-value store
of `jax.distributed`, so nothing that the devices do waits for it. On one host nothing travels.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from r1ci_jax.errors import Resume, UserError
from r1ci_jax.runtime.heartbeat import RESUME_HINT, Heartbeat

COORDINATOR: Final = ("R1CI_COORDINATOR", "R1CI_PROCESSES", "R1CI_PROCESS_ID")
"""Environment: HOST:PORT of host 0, how many hosts there are, which of them this is."""
SILENCE_VARIABLE: Final = "R1CI_HOST_TIMEOUT"
"""Environment: seconds of silence after which a host counts as lost."""
SILENCE_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 3600.0
"""How long hosts wait for one that lives: it may make data for minutes longer than the others."""


def index() -> int:
    """Number of this host, from 0."""
    return _hosts.index


def count() -> int:
    """Hosts of the run."""
    return _hosts.count


def is_first() -> bool:
    """Whether this host shows progress and answers on standard output."""
    return _hosts.index == 0


def gather(name: str, value: Any, *, seconds: float = WAIT_SECONDS) -> list[Any]:
    """The JSON values of all hosts, by number. Every host calls it at the same place, by `name`.

    Raises:
        Resume: a host did not come to this place in time; it is named.
    """
    return _hosts.gather(name, value, seconds)


def broadcast(name: str, value: Any) -> Any:
    """The JSON value of the first host."""
    return gather(name, value if is_first() else None)[0]


def any_flag(name: str, flag: bool) -> bool:
    """Whether the flag is raised on any host."""
    return any(gather(name, flag))


def require_same(what: str, value: Any) -> None:
    """Refuse to go on where hosts hold different things: together they would train on neither.

    Raises:
        UserError: the same one on every host.
    """
    found = gather(what, value)
    others = [number for number, other in enumerate(found) if other != found[0]]
    if others:
        raise UserError(
            f"{what} of host {others[0]} differs from that of host 0: give every host the same "
            "code, packages and data, then run the same command again"
        )


@contextlib.contextmanager
def distributed(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Within, this process is one host of the run that the environment describes.

    R1CI_COORDINATOR=HOST:PORT, R1CI_PROCESSES and R1CI_PROCESS_ID describe it anywhere,
    R1CI_MULTIHOST=1 where JAX finds the others itself (TPU pods); without either it is the only
    host. Comes before anything that touches a device. An error of one host ends them all, with the
    same status.

    Raises:
        UserError: the environment is wrong, or the hosts do not find each other.
    """
    global _hosts  # a process is one host, whoever asks
    place = read_coordinator(environment)
    if place is None:
        yield
        return
    _hosts = among = _ManyHosts(place, _silence(environment))
    try:
        yield
        among.gather("end", None, WAIT_SECONDS)
    except BaseException as error:
        among.lifeline.leave(error)
        raise
    among.leave()
    _hosts = _SingleHost()


def hard_exit(status: int) -> None:
    """End a process whose run of several hosts has failed; any other one goes on.

    JAX's own end would wait for the hosts that are gone.
    """
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@dataclasses.dataclass(frozen=True)
class Coordinator:
    """Where the hosts meet; without values JAX finds it out by itself."""

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def read_coordinator(environment: Mapping[str, str]) -> Coordinator | None:
    """Where the hosts meet; None: this process is the only one.

    Raises:
        UserError: half a description, or a number that is none.
    """
    given = [environment.get(name, "") for name in COORDINATOR]
    if not any(given):
        return Coordinator() if environment.get("R1CI_MULTIHOST", "") not in ("", "0") else None
    missing = [name for name, value in zip(COORDINATOR, given, strict=True) if not value]
    if missing:
        raise UserError(f"{missing[0]} is not set: several hosts need {', '.join(COORDINATOR)}")
    address, size, number = given
    if not (size.isdecimal() and number.isdecimal() and int(number) < int(size)):
        raise UserError(
            f"R1CI_PROCESS_ID={number} of R1CI_PROCESSES={size}: number the hosts from 0"
        )
    if not address.rpartition(":")[2].isdecimal():
        raise UserError(f"R1CI_COORDINATOR={address} must be HOST:PORT, a free port of host 0")
    return Coordinator(address, int(size), int(number)) if int(size) > 1 else None


def _silence(environment: Mapping[str, str]) -> float:
    given = environment.get(SILENCE_VARIABLE) or str(SILENCE_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < WAIT_SECONDS:
        raise UserError(f"{SILENCE_VARIABLE}={given} must be a number of seconds")
    return seconds


class _SingleHost:
    """The only host."""

    index = 0
    count = 1

    def gather(self, name: str, value: Any, seconds: float) -> list[Any]:
        del name, seconds
        return [value]


class _ManyHosts:
    """One of several hosts."""

    def __init__(self, place: Coordinator, silence: float) -> None:
        import jax
        from jax._src import distributed  # its store has no public name

        # Its handler of SIGTERM would take the place of ours (runtime/preemption.py).
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                place.coordinator,
                place.count,
                place.index,
                # Slower than the lifeline, which says who is missing.
                heartbeat_timeout_seconds=int(10 * silence) + 60,
                shutdown_timeout_seconds=int(silence) + 1,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"the hosts did not find each other ({' '.join(str(error).split())[:300]}); start "
                "the same command on each of them"
            ) from error
        self.index, self.count = jax.process_index(), jax.process_count()
        self._store: Any = distributed.global_state.client
        self._round = 0
        coordinator = distributed.global_state.coordinator_address
        assert coordinator is not None
        self.lifeline = Heartbeat(self._store, coordinator, self.index, self.count, silence)

    def gather(self, name: str, value: Any, seconds: float) -> list[Any]:
        """The first host puts together what all have written, and writes the answer.

        So each asks the store three times, not once for every other host.
        """
        self._round += 1
        here = f"r1ci/gather/{self._round}/"
        self._store.key_value_set(f"{here}{self.index}", json.dumps([name, value]))
        if self.index:
            return json.loads(self._get(here, "all", name, seconds))
        texts = [self._get(here, str(host), name, seconds) for host in range(self.count)]
        found = [json.loads(text) for text in texts]
        for host, (other, _) in enumerate(found):
            assert other == name, f"host {host} is at {other!r}, host 0 at {name!r}"
        values = [value for _, value in found]
        self._store.key_value_set(f"{here}all", json.dumps(values))
        # All have come here, so all have read the answer of the round before.
        self._store.key_value_delete(f"r1ci/gather/{self._round - 1}/")
        return values

    def leave(self) -> None:
        """All are done."""
        import jax

        self.lifeline.close()
        jax.distributed.shutdown()

    def _get(self, here: str, key: str, name: str, seconds: float) -> str:
        began = time.monotonic()
        try:
            return self._store.blocking_key_value_get(here + key, int(1000 * seconds))
        except RuntimeError as error:
            if time.monotonic() - began < seconds:
                raise
            there = {path.rpartition("/")[2] for path, _ in self._store.key_value_dir_get(here)}
            absent = next((host for host in range(self.count) if str(host) not in there), 0)
            raise Resume(
                f"host {absent} lives but did not come to {name!r} in {seconds:.0f} s; {RESUME_HINT}"
            ) from error


_hosts: _SingleHost | _ManyHosts = _SingleHost()
