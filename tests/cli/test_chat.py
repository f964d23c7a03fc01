"""`r1ci chat`: what a script and a person see, turns on one cache, interrupts, hostile text."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from flax import nnx

from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.model import presets, qwen2
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import checkpoint
from tests.load import PATIENCE
from tests.rollout.scripts import CODE, CODE_TEXT, CODE_THEN_ANSWER, ENDLESS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the command with these lines on standard input; exit status and standard output."""

    def run(lines: str, *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        capsys.readouterr()
        return main(["chat", *words]), capsys.readouterr().out

    return run


def test_a_script_reads_events(scripted, say) -> None:
    place = scripted(CODE_THEN_ANSWER)
    words = (place, "--bare", "--context", "200", "--json", "--greedy")
    status, out = say("Compute 3+4.\n\nAgain!\n/reset\nOnce more.\n/quit\nnever read\n", *words)
    events = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and {event["event"] for event in events} == {
        "token", "code", "observation", "answer", "stop",
    }  # fmt: skip
    written = "".join(event["text"] for event in events if event["event"] == "token")
    assert written == f"```python \n{CODE_TEXT}```<<<7>>>" * 3
    others = [event for event in events if event["event"] != "token"]
    assert others == 3 * [
        {"event": "code", "code": CODE_TEXT},
        {"event": "observation", "text": "\nCode Execution Results:\nok!\n", "status": "ok"},
        {"event": "answer", "answer": "7"},
        {"event": "stop", "reason": "answer"},
    ]
    # Small pieces, as they come.
    assert max(len(event.get("text", "")) for event in events if event["event"] == "token") < 40


def test_text_shows_code_output_and_answer(scripted, say) -> None:
    place = scripted(CODE_THEN_ANSWER)
    words = (place, "--bare", "--context", "200", "--greedy")
    status, out = say("Compute 3+4.\n", *words)
    assert (status, out) == (
        0,
        f"```python \n{CODE_TEXT}```\n│ Code Execution Results:\n│ ok!\n<<<7>>>\nanswer: 7\n",
    )
    # What cannot be answered is said, and the conversation goes on.
    status, out = say("/nothing\n" + "x" * 300 + "\nCompute 3+4.\n", *words)
    first, second, *rest = out.splitlines()
    assert status == 1 and "no command /nothing" in first
    assert "can hold; /reset" in second and rest[-1] == "answer: 7"


def test_a_model_of_a_run(tmp_path: Path, say, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    experiment = Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_letters",)))
    RunDir.open(run, experiment).close()
    assert main(["chat", str(run)]) == 2
    assert "has no trained model yet" in capsys.readouterr().err
    config = presets.get("toy")
    params = nnx.state(nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(jax.random.key(0))))())
    for name in ("sft", "grpo_curriculum"):
        checkpoint.save_params(run / "checkpoints" / name / "final", params)
    tokenizers.train_byte_bpe(["print(1)"] * 3, 400).save(run / "tokenizer")
    words = (str(run), "--json", "--max-tokens", "6", "--seed", "3", "--temperature", "1")
    first = say("Hello\nAnd now?\n", *words, "--model", "curriculum")
    assert first[0] == 0
    stops = [json.loads(line) for line in first[1].splitlines() if '"stop"' in line]
    assert [stop["reason"] for stop in stops] == ["max_tokens"] * 2
    assert say("Hello\nAnd now?\n", *words) == first
    assert main(["chat", str(run), "--model", "rl"]) == 2
    assert "has no model 'rl'; it has: grpo_curriculum, sft" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["toy"], "toy is not published; train it"),
        (["nowhere", "--model", "sft"], "nowhere is no run"),
        (["nowhere", "--temperature", "-1"], "--temperature must be at least 0, not -1.0"),
        (["nowhere", "--top-p", "0"], "--top-p must be above 0"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *words]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "loading" not in line]
    assert message in line and shown.out == ""


class Terminal:
    """The command on a terminal of its own, so that Ctrl-C reaches all its processes."""

    def __init__(self, *words: str) -> None:
        self._main, self._child = pty.openpty()
        # The terminal becomes that of the session whose first process opens it.
        tty, command = os.ttyname(self._child), [sys.executable, "-m", "r1ci_jax", "chat", *words]
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" <{tty} >{tty} 2>/dev/null', "sh", *command],
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        self.seen = ""

    def wait_for(self, *patterns: str) -> str:
        """The first pattern that what comes next matches."""
        fresh, deadline = "", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([self._main], [], [], 1)[0]:
                fresh += os.read(self._main, 4096).decode("utf-8", "replace")
            for pattern in patterns:
                if re.search(pattern, fresh):
                    self.seen += fresh
                    return pattern
        raise AssertionError(f"never seen: {patterns}; but {fresh!r}")

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)
        os.close(self._child)


def test_ctrl_c_stops_the_answer_and_not_the_programme(scripted) -> None:
    script = {**CODE_THEN_ANSWER, **ENDLESS, **CODE, "\n": {"a": 0.5, "```": 0.5}, "!\n": "<<<"}
    terminal = Terminal(scripted(script), "--bare", "--context", "4096", "--max-tokens", "3000")
    try:
        terminal.wait_for("> ")
        interrupted = answered_after = False
        for _ in range(20):
            terminal.type("Compute 3+4.\n")
            if terminal.wait_for("abab", "answer: ") == "abab":
                terminal.type("\x03")
                terminal.wait_for(r"\[stopped: interrupted\]")
                interrupted = True
            elif interrupted:
                answered_after = True
                break
        assert interrupted and answered_after and "│ ok!" in terminal.seen
        terminal.type("/quit\n")
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_an_agent_of_ones_own_answers(
    scripted, say, own_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_modules)
    script = {**CODE_THEN_ANSWER, " \n": "k", "k": " ", " ": "ok", "ok": "!')\n"}
    place = scripted({**script, "\n": {"```": 0.6, "<<<": 0.4}})
    words = (place, "--bare", "--context", "256", "--json", "--agent", "my_agent:Counter")
    status, out = say("Compute 3+4.\n/reset\n" * 6, *words, "--temperature", "1")
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert status == 0 and "code" not in kinds and kinds.count("stop") >= 1
    seen = [event for event in events if event["event"] == "observation"]
    assert seen and seen == [{"event": "observation", "text": "\n1\n"}] * len(seen)
