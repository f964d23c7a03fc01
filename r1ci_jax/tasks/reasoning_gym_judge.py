"""Judging answers to Reasoning-Gym questions.

Most answers are judged here, by comparing values with the stored gold. Where several answers are
right the package's own scorer decides, and some of its scorers hand the answer to `eval` or sympy:
they run in a child process.

What stands between a hostile answer and the machine, in this order: its length; the shape that the
task's answers have, so that names, attributes and calls other than the listed ones never reach
`eval`; the child's hard limits on memory, CPU time, file size (0) and processes; an audit hook
that refuses processes, sockets and writing; two seconds of wall time, after which the child is
killed; an empty environment. What this does NOT give: a file system, network or user of its own.
The child reads what its user may read, limits on processes do not bind root, an audit hook is no
security boundary against native code, and text that ran in the child could make it report any
score, for later answers too. Put a sandbox behind `Judge` where that matters.
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

ANSWER_SECONDS: Final = 2.0
"""Wall time that an answer may take in the package's scorer."""
START_SECONDS: Final = 120.0
"""Wall time for importing the package, building a dataset or drawing an entry."""
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_WORKER = Path(__file__).with_name("reasoning_gym_worker.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One answer for the package's scorer."""

    dataset: str
    config: str
    """The dataset's settings as a JSON object: some scorers use them."""
    entry: dict[str, Any]
    answer: str


class Judge(Protocol):
    """Who runs the package's scorers."""

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """The package's score of each answer; None where it ran too long, crashed or raised."""
        ...


class Dead(Exception):
    """The child ended or had to be killed."""


class Slow(Dead):
    """It had to be killed, because it took too long."""


class Worker:
    """The child process: requests go in and replies come out, one JSON object a line."""

    def __init__(self, role: str) -> None:
        assert role in {"draw", "score"}
        self._buffer = b""
        self._process = subprocess.Popen(
            # -P: the script's folder holds a module that has the package's name.
            [sys.executable, "-P", "-s", "-B", str(_WORKER), role],
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
            self._read(START_SECONDS)
        except Dead:
            self._process.kill()
            errors = self._process.stderr.read().decode() if self._process.stderr else ""
            self.close()
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"reasoning-gym cannot be used ({last}); pip install reasoning-gym"
            ) from None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for the reply; on trouble the child is killed."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._read(seconds))
        except Dead:
            self.close()
            raise
        except (OSError, ValueError, RecursionError) as error:
            self.close()
            raise Dead(str(error)) from error

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
                raise Slow("too slow")
            piece = os.read(number, 1 << 16)
            if not piece:
                raise Dead("the process ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


class Child:
    """A worker that is started when first asked, and anew after it had to be killed."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._worker: Worker | None = None
        self._owner = 0
        self.started = 0
        """How many workers there have been: a new one remembers nothing."""
        atexit.register(self.close)

    def start(self) -> None:
        """Make sure that there is one."""
        if self._worker is None or self._owner != os.getpid():
            # After a fork the old one's pipes belong to the parent process.
            self._worker, self._owner = Worker(self._role), os.getpid()
            self.started += 1

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for the reply.

        Raises:
            Dead: there was none in time; the next request goes to a new worker.
        """
        self.start()
        assert self._worker is not None
        try:
            return self._worker.ask(request, seconds)
        except Dead:
            self._worker = None
            raise

    def close(self) -> None:
        """End it; the next request starts another."""
        if self._worker is not None and self._owner == os.getpid():
            self._worker.close()
        self._worker = None


class Drawer:
    """Draws entries in a child process that never sees an answer."""

    def __init__(self) -> None:
        self._child = Child("draw")
        self._lock = threading.Lock()

    def entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """The entry that `reasoning_gym_worker.draw` describes.

        Raises:
            UserError: the package cannot draw it.
        """
        with self._lock:
            try:
                reply = self._child.ask({"do": "draw", **request}, START_SECONDS)
            except Dead as error:
                raise UserError(f"reasoning-gym cannot draw {request}: {error}") from error
        if "entry" not in reply:
            raise UserError(f"reasoning-gym cannot draw {request}: {reply['error']}")
        return reply["entry"]


class ProcessJudge:
    """Runs the scorers in a child process on this machine."""

    def __init__(self, seconds: float = ANSWER_SECONDS) -> None:
        self._seconds = seconds
        self._child = Child("score")
        self._opened: set[tuple[int, str, str]] = set()
        self._lock = threading.Lock()

    def scores(self, jobs: Sequence[Job]) -> list[float | None]:
        """Judge one after another; a child that had to be killed is replaced by a new one."""
        with self._lock:
            return [self._score(job) for job in jobs]

    def close(self) -> None:
        """End the child; the next answer starts another."""
        self._child.close()

    def _score(self, job: Job) -> float | None:
        named = {"dataset": job.dataset, "config": job.config}
        request = {"do": "score", **named, "entry": job.entry, "answer": job.answer}
        for _ in range(2):  # twice, since the child may have ended at its limit of CPU time
            self._open(named)
            try:
                found = self._child.ask(request, self._seconds).get("score")
            except Slow:
                return None
            except Dead:
                continue
            return found if isinstance(found, float) else None
        return None

    def _open(self, named: dict[str, str]) -> None:
        """Have the dataset built beforehand, which is not on the answer's time."""
        for _ in range(2):  # likewise
            self._child.start()
            key = (self._child.started, named["dataset"], named["config"])
            if key in self._opened:
                return
            try:
                self._child.ask({"do": "open", **named}, START_SECONDS)
            except Dead:
                continue
            self._opened.add(key)
            return
        raise UserError(f"reasoning-gym cannot build {named['dataset']}")


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
