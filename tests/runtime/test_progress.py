"""Progress: never silent, never wrong about the rest."""

import io
import re
import time

import pytest

from r1ci_jax.runtime.progress import Progress, format_duration
from tests.load import wait_until


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Always."""
        return True


def test_plain_lines_name_step_metrics_and_end() -> None:
    stream = io.StringIO()
    with Progress("grpo", 40, stream=stream, line_seconds=0) as bar:
        bar.update(1, {"reward": 0.41234})
        bar.note("checkpoint written")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "grpo: start"
    assert lines[1].startswith("grpo: 1/40 | reward 0.4123")
    assert lines[2] == "grpo: checkpoint written"
    assert lines[3].startswith("grpo: done | 1/40 | reward 0.4123 | took ")


def test_steps_are_not_a_flood() -> None:
    stream = io.StringIO()
    with Progress("sft", 1000, stream=stream, line_seconds=60) as bar:
        for step in range(1000):
            bar.update(step + 1, {"loss": 1.0})
    assert len(stream.getvalue().splitlines()) == 3  # start, the first step, done
    assert "done | 1000/1000" in stream.getvalue()


def test_heartbeat_breaks_the_silence() -> None:
    stream = io.StringIO()
    with (
        Progress("eval", stream=stream, heartbeat_seconds=0.2) as bar,
        bar.activity("outer"),
        bar.activity("running 128 scripts"),
    ):
        since_when = re.compile(r"running 128 scripts \([\d.]+ s\)")
        wait_until(lambda: len(since_when.findall(stream.getvalue())) >= 3)


def test_compilation_is_shown_and_timed() -> None:
    stream = io.StringIO()
    with Progress("grpo", 4, stream=stream) as bar:
        with bar.compiling("decode chunk", about=20):
            time.sleep(0.05)
        assert bar.compile_seconds >= 0.05
    assert "compiling decode chunk … (first time, about 20 s)" in stream.getvalue()
    assert re.search(r"compiled decode chunk in \d\.\d s", stream.getvalue())


def test_rate_counts_only_this_process() -> None:
    with Progress("grpo", 600, start=500, stream=io.StringIO()) as bar:
        assert bar.steps_per_second() is None
        time.sleep(0.1)
        bar.update(501)
        rate = bar.steps_per_second()
    assert rate is not None and rate <= 10.0  # one step in at least 0.1 s, not 501


def test_compilation_does_not_count_for_the_rate() -> None:
    began = time.monotonic()
    with Progress("grpo", 10, stream=io.StringIO()) as bar:
        with bar.compiling("step"):
            time.sleep(0.5)
        time.sleep(0.01)
        bar.update(1)
        rate = bar.steps_per_second()
    others = time.monotonic() - began - 0.5
    assert rate is not None and rate >= 1 / others  # with the compilation 1 / (others + 0.5)


def test_text_is_data_not_markup() -> None:
    stream = io.StringIO()
    with Progress("sft", 1, stream=stream) as bar:
        bar.note("[bold]task[/bold] [/] :smile:")
    assert "[bold]task[/bold] [/] :smile:" in stream.getvalue()


def test_other_processes_are_silent() -> None:
    stream = io.StringIO()
    with Progress("sft", 1, stream=stream, enabled=False) as bar:
        bar.note("nothing")
        bar.update(1)
    assert stream.getvalue() == ""


def test_terminal_shows_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    with Progress("sft", 10, stream=stream) as bar, bar.activity("reading [data]"):
        bar.update(3, {"loss": 0.5})
        bar.note("kept")
        wait_until(lambda: "reading [data]" in stream.getvalue())
    shown = stream.getvalue()
    assert "3/10" in shown and "loss 0.5" in shown and "reading [data]" in shown
    assert "sft: kept" in shown and "sft: done" in shown


def test_interrupted_stage_says_stopped() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("sft", 10, stream=stream):
        raise KeyboardInterrupt
    assert "sft: stopped | 0/10" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (7799, "2 h 09 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
