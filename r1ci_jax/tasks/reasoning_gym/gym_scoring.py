"""Scoring by the package's own scorers, and the child process that generates the questions.

Most answers are scored by `gym_rules`. Where the package decides, its scorer runs in the jail.

Four checks protect the machine and the score from a hostile answer, in this order: its length; the
shape of the task's answers; the sandbox; and a process in which no text can become code, so what
evaluates an answer never runs it: antiderivatives are read by `integrals`.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.tasks.jail_scoring import NO_CODE_FROM_TEXT, SCORING_JAIL, ScoringJail

GENERATE_SECONDS: Final = 120.0
"""Wall time for importing the package, or for building a dataset and generating an entry."""
_INTEGRALS: Final = ("simple_integration", "intermediate_integration")
"""Data sets whose scorers in the package evaluate the answer; `integrals` replaces them."""
PROGRAM: Final = f"""
{Path(__file__).with_name("integrals.py").read_text(encoding="utf-8")}
from reasoning_gym.factory import create_dataset
{NO_CODE_FROM_TEXT}
entry, answer = request["entry"], request["answer"]
if request["dataset"] in {_INTEGRALS!r}:
    number = integral_score(answer, entry["metadata"]["variable"], entry["metadata"]["integrand"])
else:
    # In the order of the policy's warm-up, which keeps what this returns.
    dataset = create_dataset(request["dataset"], seed=0, size=1, **json.loads(request["config"]))
    number = dataset.score_answer(answer=answer, entry=entry)
"""
"""A program whose `request` is a job's fields."""
CURE: Final = (
    "with a network, remove the directory that "
    "`python -m r1ci_jax.sandbox.install.prepare_jail` names and run that again"
)
_WORKER = Path(__file__).with_name("generator_process.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One answer for the package's scorer."""

    dataset: str
    config: str
    """The dataset's settings as a JSON object, which some scorers use."""
    entry: dict[str, Any]
    answer: str


class Scorer(Protocol):
    """The interface of an object that runs the package's scorers."""

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """Return the package's score of each answer; None where it timed out, crashed or raised."""
        ...


class WorkerDied(Exception):
    """The child ended or had to be killed."""


class GeneratorWorker:
    """The child process: it reads requests and writes replies, one JSON object per line.

    Raises:
        UserError: The package does not start.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._process = subprocess.Popen(
            # -P: the script's folder contains a module that has the package's name.
            [sys.executable, "-P", "-s", "-B", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PYTHONHASHSEED": "0",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONUTF8": "1",
            },
            close_fds=True,
            start_new_session=True,
        )
        try:
            self._read(GENERATE_SECONDS)
        except WorkerDied:
            self._process.kill()
            errors = self._process.stderr.read().decode() if self._process.stderr else ""
            self.close()
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"reasoning-gym cannot be used ({last}); {install_extra('tasks')}"
            ) from None

    def request(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for the reply; on failure the child is killed."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._read(seconds))
        except WorkerDied:
            self.close()
            raise
        except (OSError, ValueError, RecursionError) as error:
            self.close()
            raise WorkerDied(str(error)) from error

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                # Closing the pipe of a killed process may fail to flush data that it never read.
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        poll = select.poll()  # Unlike select, it takes file numbers over 1023.
        poll.register(number, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._buffer:
            if not poll.poll(seconds * 1000):
                raise WorkerDied("too slow")
            piece = os.read(number, 1 << 16)
            if not piece:
                raise WorkerDied("the process ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


class EntryGenerator:
    """A generator of entries in a child process, started on first use, that receives no answer."""

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.close)

    def entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the entry that `generator_process.generate` describes.

        Raises:
            UserError: The package cannot generate it.
        """
        with self._lock:
            if self._worker is None or self._owner != os.getpid():
                # After a fork, the old child's pipes belong to the parent process.
                self._worker, self._owner = GeneratorWorker(), os.getpid()
            try:
                reply = self._worker.request(request, GENERATE_SECONDS)
            except WorkerDied as error:
                self._worker = None
                raise UserError(f"reasoning-gym cannot generate {request}: {error}") from error
        if "entry" not in reply:
            raise UserError(f"reasoning-gym cannot generate {request}: {reply['error']}")
        return reply["entry"]

    def close(self) -> None:
        """End the child; the next request starts another."""
        if self._worker is not None and self._owner == os.getpid():
            self._worker.close()
        self._worker = None


class JailScorer:
    """A scorer that runs the package's scorers in the jail, each answer in a separate process."""

    def __init__(self, jail: ScoringJail = SCORING_JAIL) -> None:
        self._jail = jail

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """Score several answers in parallel.

        Raises:
            UserError: There is no jail on this machine, it failed, or it lacks the package.
        """
        if jobs:
            self._jail.require("reasoning_gym", CURE)
        return self._jail.numbers(PROGRAM, [dataclasses.asdict(job) for job in jobs])
