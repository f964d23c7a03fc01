"""Words that are no command, option or experiment: one line that names what was meant."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import r1ci_jax
from r1ci_jax.cli.main import main
from r1ci_jax.cli.shell import suggestions
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.runtime.run_dir import RunDir
from tests.conftest import ROOT

EXPERIMENT = """
from r1ci_jax.config import *

def get_config(variant=""):
    return Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_letters",)))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main(command.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1, shown
    return shown.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("rnu", "no command 'rnu'; did you mean run?"),
        ("train", "did you mean run (every stage), sft or grpo?"),
        ("doctor", "did you mean sandbox doctor?"),
        ("qqqq", "no command 'qqqq'; r1ci --help lists all"),
        ("eval", "name a model: r1ci eval MODEL; see r1ci eval --help"),
        ("tasks", "r1ci tasks needs a sub-command; see r1ci tasks --help"),
        (
            "tasks lst",
            "'lst' is none of: list, show, sample, check; did you mean list? see r1ci t",
        ),
        ("table main --runs x --csv", "unrecognized arguments: --csv; see r1ci table --help"),
        ("sandbox exec - --jsno", "--jsno; did you mean --json? see r1ci sandbox exec --help"),
        ("sandbox exec - --backend clod", "'clod' is none of: zygote, cold, ray; did you mean co"),
        ("run toy", "no experiment file 'toy'; did you mean experiments/toy.py?"),
        ("run toy.py", "did you mean experiments/toy.py?"),
        ("run difficulty_order", "did you mean experiments/ablations/difficulty_order.py?"),
        ("run experiments/toi.py", "did you mean experiments/toy.py?"),
        ("run zzzz.py", "there are: experiments/"),
        ("plan qwen2.5-7 --topology v5e:2x4", "nor a preset; did you mean qwen2.5-7b?"),
    ],
)
def test_suggestions(capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    assert said in refused(capsys, command)


def test_other_words_name_commands_that_exist() -> None:
    from r1ci_jax.cli import main as cli

    for word, command in suggestions.OTHER_WORDS.items():
        assert word not in cli.COMMANDS
        assert command == "--version" or command.split()[0] in cli.COMMANDS


def test_a_run_is_resumed_by_the_command_that_began_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_letters",)))
    RunDir.open(Path("runs/probe"), experiment)
    path = Path("runs/probe/config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"command": ["__main__.py", "run", "x.py", "--name=a b"]}))
    said = refused(capsys, "run runs/probe")
    assert "is a run directory" in said and "resumes it: r1ci run x.py '--name=a b'" in said


@pytest.mark.parametrize("content", ["{}", "{", '{"model_type": "qwen2"}'])
def test_a_run_whose_config_is_damaged_is_still_a_run(
    capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = Path("runs/probe")
    path.mkdir(parents=True)
    (path / "config.json").write_text(content)
    assert not RunDir.is_at(path)
    (path / "stages.json").write_text("{}")
    for command in ("chat", "report", "run"):
        said = refused(capsys, f"{command} runs/probe").replace("runs/probe/config.json", "FILE")
        assert (
            said == "r1ci: FILE is damaged; restore that file from a copy, or name another "
            "run directory\n"
        )


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help"], ["help", "sandbox"], ["help", "sandbox", "exec"]):
        texts = []
        for command in (words, [*words[1:], "--help"]):
            assert main(command) == 0
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1] and texts[0].startswith("usage: r1ci")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:5])
    assert lines["r1ci"].startswith(f"{r1ci_jax.__version__} (")
    assert lines["Python"].startswith(platform.python_version())
    assert f"jax {jax.__version__}" in lines["packages"].split(", ")
    count, kind = re.fullmatch(r"(\d+) x (.*)", lines["devices"]).groups()  # pyright: ignore  # a mismatch is a failure
    assert (int(count), kind) == (len(jax.devices()), jax.devices()[0].device_kind)
    assert lines["sandbox"].startswith("nsjail + ")


def test_missing_published_questions_are_told_before_any_is_drawn() -> None:
    nothing = str(Path("nothing").absolute())
    command = f"-m r1ci_jax data build {ROOT}/experiments/tasks.py --questions-only --workdir run"
    done = subprocess.run(
        [sys.executable, *command.split()],
        env={**os.environ, "R1CI_DATA": nothing, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "is missing; run r1ci data fetch" in done.stderr
    assert list(Path("run").rglob("*.array_record*")) == []
