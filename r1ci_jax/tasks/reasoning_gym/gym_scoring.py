"""Judging answers to Reasoning-Gym questions, and the child process that draws the questions.

Most answers are judged here, by comparing values with the stored gold. Where several answers are
right the package's own scorer decides, and some of its scorers hand the answer to `eval` or sympy:
they run in the jail.

What stands between a hostile answer and the machine, in this order: its length; the shape that the
task's answers have, so that names, attributes and calls other than the listed ones never reach
`eval`; the sandbox (`jailed` says what that leaves).
"""

import atexit
import contextlib
import dataclasses
import json
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, cast

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.jail_scoring import SCORING_JAIL, ScoringJail

GENERATE_SECONDS: Final = 120.0
"""Wall time for importing the package, or for building a dataset and drawing an entry."""
PROGRAM: Final = """
from reasoning_gym.factory import create_dataset
# In the order of the policy's warm-up, which keeps what this returns.
dataset = create_dataset(request["dataset"], seed=0, size=1, **json.loads(request["config"]))
number = dataset.score_answer(answer=request["answer"], entry=request["entry"])
"""
"""`request` is a job's fields."""
CURE: Final = (
    "with a network, remove the directory that "
    "`python -m r1ci_jax.sandbox.install.prepare_jail` names and run that again"
)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_WORKER = Path(__file__).with_name("generator_process.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One answer for the package's scorer."""

    dataset: str
    config: str
    """The dataset's settings as a JSON object: some scorers use them."""
    entry: dict[str, Any]
    answer: str


class Scorer(Protocol):
    """Who runs the package's scorers."""

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """The package's score of each answer; None where it ran too long, crashed or raised."""
        ...


class WorkerDied(Exception):
    """The child ended or had to be killed."""


class GeneratorWorker:
    """The child process: requests go in and replies come out, one JSON object a line.

    Raises:
        UserError: the package does not start.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._process = subprocess.Popen(
            # -P: the script's folder holds a module that has the package's name.
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
                f"reasoning-gym cannot be used ({last}); pip install reasoning-gym"
            ) from None

    def request(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for the reply; on trouble the child is killed."""
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
                # Closing the pipe of a killed process may fail to flush what it never read.
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        poll = select.poll()  # unlike select, it takes file numbers over 1023
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
    """Draws entries in a child process, started when first asked, that never sees an answer."""

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.close)

    def entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """The entry that `reasoning_gym_worker.draw` describes.

        Raises:
            UserError: the package cannot draw it.
        """
        with self._lock:
            if self._worker is None or self._owner != os.getpid():
                # After a fork the old one's pipes belong to the parent process.
                self._worker, self._owner = GeneratorWorker(), os.getpid()
            try:
                reply = self._worker.request(request, GENERATE_SECONDS)
            except WorkerDied as error:
                self._worker = None
                raise UserError(f"reasoning-gym cannot draw {request}: {error}") from error
        if "entry" not in reply:
            raise UserError(f"reasoning-gym cannot draw {request}: {reply['error']}")
        return reply["entry"]

    def close(self) -> None:
        """End it; the next request starts another."""
        if self._worker is not None and self._owner == os.getpid():
            self._worker.close()
        self._worker = None


class JailScorer:
    """Runs the scorers in the jail, each answer in a process of its own."""

    def __init__(self, jail: ScoringJail = SCORING_JAIL) -> None:
        self._jail = jail

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """Judge several at a time.

        Raises:
            UserError: there is no jail on this machine, it failed, or it lacks the package.
        """
        if jobs:
            self._jail.require("reasoning_gym", CURE)
        return self._jail.numbers(PROGRAM, [dataclasses.asdict(job) for job in jobs])


# ---- rules that need no child ------------------------------------------------------------------


def lines(text: str) -> list[str]:
    """The text's lines that are not blank, with single blanks between their words."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def same_text(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Equal up to white space."""
    del entry
    return lines(answer) == lines(gold)


def numbers(text: str) -> list[Decimal] | None:
    """The text as numbers parted by blanks or commas, bracketed and quoted or not, or None."""
    text = text.strip()
    if (text[:1], text[-1:]) == ("[", "]"):
        text = text[1:-1]
    parts = [part.strip().strip("'\"") for part in re.split(r"\s*,\s*|\s+", text.strip())]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    return [Decimal(part) for part in parts]


def same_numbers(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Equal as numbers: 17.0 is 17."""
    del entry
    found = numbers(answer)
    return found is not None and found == numbers(gold)


def same_json(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Equal as JSON values of the same types."""
    del entry
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return json.dumps(found) == json.dumps(json.loads(gold))


def survo(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Any filling that obeys the stated rules; the package takes only the one it drew."""
    del gold
    rows = [numbers(line) for line in lines(answer)]
    puzzle: list[list[int]] = entry["metadata"]["puzzle"]
    if None in rows or [len(row or ()) for row in rows] != [len(row) for row in puzzle]:
        return False
    grid = cast(list[list[Decimal]], rows)
    cells = [(given, grid[y][x]) for y, row in enumerate(puzzle) for x, given in enumerate(row)]
    filled = sorted(found for given, found in cells if given == 0)
    kept = all(found == given for given, found in cells if given != 0)
    sums = all(sum(line[:-1]) == line[-1] for line in (*grid, *zip(*grid, strict=True)))
    candidates = [int(number) for number in entry["metadata"]["candidate_numbers"]]
    return kept and sums and filled == sorted(candidates)


RULES: Final[dict[str, Callable[[str, str, dict[str, Any]], bool]]] = {
    "text": same_text,
    "numbers": same_numbers,
    "json": same_json,
    "survo": survo,
}
"""By name: whether the answer is right, from the gold, the answer and the stored entry."""
