"""`r1ci data` on a small experiment, with the real jail."""

import json
from pathlib import Path

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.data import builders

_EXPERIMENT = """
from r1ci_jax.core.config import Experiment, Questions

def get_config(variant=""):
    return Experiment(
        name="tiny",
        questions=Questions(
            tasks=("toy_gcd_lcm", "toy_sorting"),
            sft_per_task=8, grpo_per_task=4, eval_per_task=4,
        ),
    )
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(_EXPERIMENT)
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["data", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build_then_stats(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _run(capsys, "build", experiment, "--workdir", str(run))
    shown = _run(capsys, "stats", str(run))
    assert shown["in_two_splits"] == 0
    assert isinstance(shown["demonstrations"], dict)
    assert sum(shown["demonstrations"].values()) == 16
    rows = builders.load_trajectories(run / "data")
    assert all(row.correct for row in rows)
    # Built again: nothing new, nothing lost.
    _run(capsys, "build", experiment, "--workdir", str(run))
    assert list(builders.load_trajectories(run / "data")) == list(rows)
    assert main(["data", "stats", str(run)]) == 0
    assert "questions in two splits: 0" in capsys.readouterr().out


def test_questions_only_and_errors(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    _run(capsys, "build", experiment, "--workdir", run, "--questions-only")
    assert _run(capsys, "stats", run)["demonstrations"] == {}
    assert main(["data", "stats", str(tmp_path / "nowhere")]) == 2
    assert main(["data", "build", experiment, "--workdir", run, "--config.seed=1"]) == 2
    assert main(["data", "build", "nothing.py"]) == 2
    assert all(line.startswith("r1ci: ") for line in capsys.readouterr().err.splitlines()[-3:])
