"""Progress display of a stage: step, rate, remaining time, and the current activity.

On a terminal a live line is redrawn; elsewhere (a log file, CI) plain lines are printed, and a
heartbeat prints the current activity whenever nothing else was printed for ten seconds. Everything
goes to stderr, so that stdout stays free for results.
"""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Self, TextIO

import rich.console
import rich.live
import rich.progress_bar
import rich.spinner
import rich.table
import rich.text

from r1ci_jax.runtime import hosts

HEARTBEAT_SECONDS = 10.0
"""Longest time between two lines of plain output."""
LINE_SECONDS = 2.0
"""Shortest time between two plain lines about steps."""
RATE_WINDOW = 20
"""Steps over which the rate is averaged, so that it follows the current speed."""


def warn(text: str) -> None:
    """Print a red line on stderr."""
    rich.console.Console(stderr=True, highlight=False).print(text, style="bold red")


class Progress:
    """Progress display of one stage; a context manager.

    Example:
        with Progress("grpo", total=40, start=resumed_step) as bar:
            with bar.compiling("decode chunk", about=20):
                compiled = lower().compile()
            for step in range(resumed_step, 40):
                with bar.activity("running 128 scripts"):
                    ...
                bar.update(step + 1, {"reward": 0.41})
    """

    def __init__(
        self,
        stage: str,
        total: int | None = None,
        *,
        start: int = 0,
        unit: str = "steps",
        stream: TextIO | None = None,
        enabled: bool | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        """Set up a display of `total` steps (None: unknown) on `stream` (stderr by default).

        A resumed run starts at step `start`; earlier steps do not count for the rate. With
        `enabled` None only host 0 shows it.
        """
        self.stage = stage
        self.total = total
        self.compile_seconds = 0.0
        """Seconds spent in `compiling` blocks so far."""
        self._unit = unit
        self._enabled = hosts.is_first() if enabled is None else enabled
        self._console = rich.console.Console(file=stream or sys.stderr, highlight=False)
        self._heartbeat_seconds = heartbeat_seconds
        self._line_seconds = line_seconds
        self._step = start
        self._metrics: Mapping[str, float] = {}
        self._activities: list[tuple[str, float]] = []
        self._began = time.monotonic()
        self._marks = collections.deque([(self._began, start)], maxlen=RATE_WINDOW + 1)
        self._last_print = self._began
        self._last_step_line = -float("inf")
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._live: rich.live.Live | None = None

    def __enter__(self) -> Self:
        if not self._enabled:
            return self
        self._began = time.monotonic()
        self._marks[0] = (self._began, self._step)
        if self._console.is_terminal:
            self._live = rich.live.Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        else:
            self._print(f"{self.stage}: start" + (f" at {self._position()}" if self._step else ""))
            self._thread = threading.Thread(target=self._heartbeat, daemon=True, name="heartbeat")
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._enabled:
            return
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._live is not None:
            self._live.stop()
        took = format_duration(time.monotonic() - self._began)
        word = "done" if kind is None else "stopped"
        self._print(
            _joined(f"{self.stage}: {word}", self._position(), self._facts(), f"took {took}")
        )

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Show that `step` steps are done, with a few metrics."""
        with self._lock:
            self._step = step
            self._marks.append((time.monotonic(), step))
            if metrics is not None:
                self._metrics = metrics
            waited = time.monotonic() - self._last_step_line >= self._line_seconds
            if self._enabled and self._live is None and waited:
                self._last_step_line = time.monotonic()
                self._print(self._line())

    def note(self, text: str) -> None:
        """Print a permanent line."""
        if self._enabled:
            self._print(f"{self.stage}: {text}")

    @contextlib.contextmanager
    def activity(self, text: str) -> Iterator[None]:
        """Show `text` as the activity of the block; blocks may nest, the innermost is shown."""
        entry = (text, time.monotonic())
        with self._lock:
            self._activities.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._activities.remove(entry)

    @contextlib.contextmanager
    def compiling(self, what: str, about: float | None = None) -> Iterator[None]:
        """Show a compilation, its expected time (`about`, seconds) and its real time."""
        guess = f", about {format_duration(about)}" if about is not None else ""
        self.note(f"compiling {what} … (first time{guess})")
        began = time.monotonic()
        with self.activity(f"compiling {what}"):
            yield
        took = time.monotonic() - began
        self.compile_seconds += took
        with self._lock:
            # Compilation happens once, so it must not count for the rate.
            for index, (when, step) in enumerate(self._marks):
                self._marks[index] = (when + took, step)
        self.note(f"compiled {what} in {format_duration(took)}")

    def steps_per_second(self) -> float | None:
        """Steps per second over the last steps; None before the first."""
        (first_time, first_step), (last_time, last_step) = self._marks[0], self._marks[-1]
        if last_step <= first_step or last_time <= first_time:
            return None
        return (last_step - first_step) / (last_time - first_time)

    def _heartbeat(self) -> None:
        while not self._stopped.wait(self._heartbeat_seconds / 10):
            with self._lock:
                if time.monotonic() - self._last_print >= self._heartbeat_seconds * 0.9:
                    self._print(self._line())

    def _print(self, text: str) -> None:
        with self._lock:
            self._last_print = time.monotonic()
            # No markup and no wrapping: metric values and task names are data.
            self._console.print(rich.text.Text(text), soft_wrap=True)

    def _line(self) -> str:
        where = f"{self.stage}: {self._position()}"
        return _joined(where, self._facts(), self._pace(), self._current_activity())

    def _position(self) -> str:
        return f"{self._step}/{self.total}" if self.total else f"{self._step} {self._unit}"

    def _facts(self) -> str:
        return " ".join(f"{name} {value:.4g}" for name, value in self._metrics.items())

    def _pace(self) -> str:
        rate = self.steps_per_second()
        if rate is None:
            return ""
        pace = f"{rate:.3g} {self._unit}/s" if rate >= 1 else f"{1 / rate:.3g} s each"
        if self.total is None or self._step >= self.total:
            return pace
        return f"{pace} | {format_duration((self.total - self._step) / rate)} left"

    def _current_activity(self) -> str:
        text, since = self._activities[-1] if self._activities else ("", self._marks[-1][0])
        waited = time.monotonic() - since
        if waited < 1:
            return text
        return f"{text or 'working'} ({format_duration(waited)})"

    def _render(self) -> rich.table.Table:
        with self._lock:
            row = rich.table.Table.grid(padding=(0, 1))
            bar = rich.progress_bar.ProgressBar(
                total=self.total, completed=self._step, width=14, pulse=self.total is None
            )
            words = _joined(self._position(), self._facts(), self._pace(), self._current_activity())
            row.add_row(_SPINNER, rich.text.Text(self.stage), bar, rich.text.Text(words))
            return row


_SPINNER = rich.spinner.Spinner("dots")


def _joined(*parts: str) -> str:
    return " | ".join(part for part in parts if part)


def format_duration(seconds: float) -> str:
    """Format seconds for a person: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
