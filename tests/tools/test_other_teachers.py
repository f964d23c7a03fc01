"""The commands of the teachers that are not scripted, whole: real jail, real server, real model."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.data import datasets
from tests.data.chat_server import Body, ChatServer, Reply
from tests.load import PATIENCE
from tests.tools import tiny_experiment


@pytest.fixture
def experiment(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(tiny_experiment.source(("toy_base_conversion", "toy_gcd_lcm"), 12))
    return str(path)


def run(
    capsys: pytest.CaptureFixture[str],
    experiment: str,
    teacher: str,
    workdir: pathlib.Path,
    *words: str,
) -> dict[str, Any]:
    out = ["--workdir", str(workdir), "--out", str(workdir / "made.jsonl"), "--json"]
    assert main(["synth", experiment, "--teacher", teacher, *out, *words]) == 0
    return json.loads(capsys.readouterr().out)


def address(server: ChatServer) -> tuple[str, ...]:
    return ("--model", "teacher", "--url", server.url, "--key-variable", "")


def dividing(body: Body, _: int) -> Reply:
    """Solves questions of number bases with a script, and no others."""
    found = re.search(r"Write (\d+) in base (\d+)", body["messages"][0]["content"])
    if found is None:
        return Reply("<<<0>>>")
    if len(body["messages"]) > 1:
        return Reply(f"<<<{body['messages'][-1]['content'].splitlines()[-1]}>>>")
    number, base = found.groups()
    return Reply(
        f"Divide again and again.\n```python\nnumber, digits = {number}, ''\nwhile number:\n"
        f"    digits = str(number % {base}) + digits\n    number //= {base}\nprint(digits)\n```"
    )


def test_a_killed_endpoint_run_pays_for_no_answer_twice(
    experiment: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai", reason="THE PACKAGE openai IS MISSING: endpoints are not tested")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reached = threading.Event()

    def slowly(body: Body, number: int) -> Reply:
        if number == 15:
            reached.set()
        reply = dividing(body, number)
        reply.seconds = 0.02 if number < 15 else 0.2
        return reply

    with ChatServer(slowly) as server:
        words = [
            *address(server),
            *("--samples", "1", "--token-budget", "100000", "--concurrency", "2"),
        ]
        command = [sys.executable, "-m", "r1ci_jax", "synth", experiment, "--teacher", "endpoint"]
        with subprocess.Popen([*command, "--workdir", str(tmp_path / "killed"), *words]) as process:
            assert reached.wait(PATIENCE)
            process.kill()
        begun = len(server.requests)
        subprocess.run(
            [*command, "--workdir", str(tmp_path / "killed"), *words], check=True, timeout=PATIENCE
        )
        # 12 questions of two requests, 12 of one; those in flight when it was killed are lost.
        assert begun < 36 <= len(server.requests) <= 36 + 2
        subprocess.run(
            [*command, "--workdir", str(tmp_path / "whole"), *words], check=True, timeout=PATIENCE
        )
    made = [tmp_path / name / "made_by_endpoint.jsonl" for name in ("killed", "whole")]
    assert made[0].read_bytes() == made[1].read_bytes() and made[0].stat().st_size


def test_an_interrupted_endpoint_run_waits_for_no_answer(
    experiment: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai", reason="THE PACKAGE openai IS MISSING: endpoints are not tested")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reached = threading.Event()

    def never(body: Body, number: int) -> Reply:
        reply = dividing(body, number)
        reply.seconds = PATIENCE
        reached.set()
        return reply

    with ChatServer(never) as server:
        words = [
            *address(server),
            *("--token-budget", "100000", "--workdir", str(tmp_path / "run")),
        ]
        command = [sys.executable, "-m", "r1ci_jax", "synth", experiment, "--teacher", "endpoint"]
        with subprocess.Popen([*command, *words]) as process:
            assert reached.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            # A request may take 120 s.
            assert process.wait(100) == 130


def test_an_endpoint_teaches_and_what_it_made_is_trained_on(
    experiment: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openai", reason="THE PACKAGE openai IS MISSING: endpoints are not tested")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    with ChatServer(dividing) as server:
        words = [
            *address(server),
            *("--samples", "2", "--token-budget", "1000000", "--temperatures", "0.5,1"),
        ]
        shown = run(capsys, experiment, "endpoint", tmp_path / "run", *words)
        asked = len(server.requests)
        assert run(capsys, experiment, "endpoint", tmp_path / "run", *words) == shown
        assert len(server.requests) == asked
    assert shown["kept"] == 12 and shown["rejected"] == {"wrong": 24}
    assert datasets.load_trajectories(tmp_path / "run" / "data")[0].agent == "code_agent"
    assert len(datasets.load_trajectories(tmp_path / "run" / "data")) == 12
    made = str(tmp_path / "run" / "made.jsonl")
    out = ["--workdir", str(tmp_path / "next"), f"--config.demonstrations.path={made}"]
    tasks = "--config.dataset.tasks=toy_base_conversion"
    assert main(["data", "build", experiment, tasks, *out]) == 0


def test_conversations_are_imported_in_the_jail(
    experiment: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = ["--workdir", str(tmp_path / "run")]
    assert main(["data", "build", experiment, "--questions-only", *workdir]) == 0
    examples = datasets.load_examples(tmp_path / "run" / "data", ("toy_gcd_lcm",), "sft")
    records = []
    for number, example in enumerate(examples):
        answer = json.loads(example.answer)
        code = "open('/etc/passwd').read()" if number == 0 else f"print({answer})  # {example.id}"
        said = f"```python\n{code}\n```\n```output\n{answer}\n```\n<<<{answer}>>>"
        records.append({"instruction": example.question, "output": said})
    others = tmp_path / "others.json"
    others.write_text(json.dumps([*records, "junk"]))
    out = tmp_path / "made.jsonl"
    capsys.readouterr()
    words = ["data", "import", str(others), experiment, "--out", str(out), *workdir]
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kept"] == 11 and shown["rejected"] == {"other_output": 1, "unreadable": 1}
    assert len(out.read_text().splitlines()) == 11
    assert main([*words, "--format", "sharegpt"]) == 2
    assert "no demonstration came of it (13 rejected: " in capsys.readouterr().err
    assert main(["data", "import", str(out), experiment, "--out", str(out), *workdir]) == 2
    assert "name another one" in capsys.readouterr().err


def test_a_model_of_ours_teaches(
    experiment: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_directory = tmp_path / "run"
    assert main(["sft", experiment, "--workdir", str(run_directory)]) == 0
    capsys.readouterr()
    words = ("--model", str(run_directory), "--samples", "2", "--temperatures", "0.6,1")
    shown = run(capsys, experiment, "model", tmp_path / "taught", *words)
    assert shown["kept"] + sum(shown["rejected"].values()) >= 24
    assert run(capsys, experiment, "model", tmp_path / "taught", *words) == shown


def test_what_is_missing_is_named(
    experiment: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = ["--workdir", str(tmp_path / "run")]
    for teacher, words, message in (
        ("endpoint", (), "--teacher endpoint needs --model"),
        ("endpoint", ("--model", "gpt-4o"), "no budget"),
        ("model", ("--model", "x", "--temperatures", "hot"), "--temperatures hot"),
        ("model", ("--model", "x", "--samples", "0"), "teacher.samples_per_question"),
    ):
        assert main(["synth", experiment, "--teacher", teacher, *workdir, *words]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists(), "questions were generated first"
