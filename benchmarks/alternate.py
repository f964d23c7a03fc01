"""Send the same request to several sides in turn (A B C A B C ...), under the same load."""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

from peers import wire

from r1ci_jax.errors import UserError

ROOT: Final = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS: Final = ROOT / "benchmarks" / "peers"
OURS: Final = "ours"
LEAVE_SECONDS: Final = 20.0

type Answer = dict[str, Any]
type Ask = Callable[[Mapping[str, Any]], Answer]
type Answers = dict[str, list[Answer] | None]
"""Answers of each side in order, or None if the peer is not installed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Script of another project, with the environment that `make peers` installs."""

    environment: str
    script: str

    @property
    def is_installed(self) -> bool:
        """Check the stamp, which is written last: an interrupted installation is False."""
        return (ROOT / self.environment / "r1ci-stamp").is_file()

    @property
    def command(self) -> list[str]:
        """Return the command that starts the script."""
        return [str(ROOT / self.environment / "bin" / "python"), str(SCRIPTS / self.script)]


class Process:
    """Process of a script that answers over `wire`; its log is shown only if it dies."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # One side's settings must not reach another's.
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")},
        )

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Send a request and wait for its answer; raise UserError if the script has died."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # the answer will be missing, and is explained
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait(LEAVE_SECONDS)
            self._log.seek(0)
            last = " | ".join(self._log.read().strip().splitlines()[-3:]) or "it printed nothing"
            raise UserError(f"{self.name} ended with status {status} instead of answering: {last}")
        return json.loads(line)

    def __enter__(self) -> Self:
        """Return the process, which is already running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the input, then terminate the process if it does not exit by itself."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


@contextlib.contextmanager
def opened(ours: Ask | Sequence[str], peers: Mapping[str, Peer]) -> Iterator[dict[str, Ask | None]]:
    """Start every side; a peer that is not installed is reported and is None.

    Args:
        ours: A function, or a command that answers over `wire` in a process of its own.
        peers: Peers by name.
    """
    with contextlib.ExitStack() as stack:
        sides: dict[str, Ask | None] = {}
        sides[OURS] = ours if callable(ours) else stack.enter_context(Process(OURS, ours)).ask
        for name, peer in peers.items():
            sides[name] = (
                stack.enter_context(Process(name, peer.command)).ask
                if _is_here(name, peer)
                else None
            )
        yield sides


def _is_here(name: str, peer: Peer) -> bool:
    if not peer.is_installed:
        say(f"{name} is not installed ('make peers'): its figures are null")
    return peer.is_installed


def ask_in_turn(
    sides: Mapping[str, Ask | None], request: Mapping[str, Any], rounds: int
) -> Answers:
    """Collect `rounds` answers of every side to the same request."""
    answers: Answers = {name: None if ask is None else [] for name, ask in sides.items()}
    for turn in range(rounds):
        for name, ask in sides.items():
            collected = answers[name]
            if ask is None or collected is None:
                continue
            say(f"round {turn + 1} of {rounds}: {name} {json.dumps(request)}")
            collected.append(ask(request))
    return answers


def ask_alone(
    commands: Mapping[str, Sequence[str] | Peer], request: Mapping[str, Any], rounds: int
) -> Answers:
    """Do `ask_in_turn` one side after the other, as all together do not fit into memory."""
    answers: Answers = {}
    for name, command in commands.items():
        if isinstance(command, Peer):
            if not _is_here(name, command):
                answers[name] = None
                continue
            command = command.command
        with Process(name, command) as process:
            answers |= ask_in_turn({name: process.ask}, request, rounds)
    return answers


def median(answers: Answers, side: str, key: str) -> float | None:
    """Return the median of one metric, or None for a side that is absent."""
    collected = answers[side]
    return None if collected is None else statistics.median(answer[key] for answer in collected)


def ratio(answers: Answers, peer: str, key: str) -> float | None:
    """Return our median over the peer's, or None for a peer that is absent."""
    ours, theirs = median(answers, OURS, key), median(answers, peer, key)
    return None if ours is None or theirs is None else ours / theirs


def times_faster(answers: Answers, peer: str, key: str) -> float | None:
    """Return the peer's median over ours, for a metric where lower is better."""
    inverse = ratio(answers, peer, key)
    return None if inverse is None else 1 / inverse


def bind_to_cores(cores: int = wire.CORES) -> None:
    """Restrict this process and its children to `cores` processors; call it before JAX starts.

    Raises:
        UserError: The machine has fewer.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < cores:
        raise UserError(f"the benchmark is defined on {cores} cores and this machine has fewer")
    os.sched_setaffinity(0, allowed[:cores])


def host() -> dict[str, Any]:
    """Describe the machine; the load average shows if other processes ran."""
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), "")
    return {
        "processor": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
    }


def say(text: str) -> None:
    """Print a line of progress on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)
