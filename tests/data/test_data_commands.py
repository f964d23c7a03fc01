"""`r1ci data` on a small experiment, with the real jail."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.data import datasets
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.tasks import registry
from r1ci_jax.text import tokenizer

_EXPERIMENT = """
from r1ci_jax.config import Experiment, DatasetConfig

def get_config(variant=""):
    return Experiment(
        name="tiny",
        dataset=DatasetConfig(
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


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["data", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build_then_stats(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _run(capsys, "build", experiment, "--workdir", str(run))
    shown = _run(capsys, "stats", str(run))
    assert shown["in_two_splits"] == 0
    assert shown["tokenizer"] is None
    assert isinstance(shown["demonstrations"], dict)
    assert sum(shown["demonstrations"].values()) == 16
    rows = datasets.load_trajectories(run / "data")
    assert all(row.correct for row in rows)
    # Built again: nothing new, nothing lost.
    _run(capsys, "build", experiment, "--workdir", str(run))
    assert list(datasets.load_trajectories(run / "data")) == list(rows)
    assert main(["data", "stats", str(run)]) == 0
    assert "questions in two splits: 0" in capsys.readouterr().out


def test_demonstrations_of_a_file_run_again_in_the_jail(
    experiment: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = tmp_path / "written"
    _run(capsys, "build", experiment, "--workdir", str(written))
    rows = [dataclasses.asdict(row) for row in datasets.load_trajectories(written / "data")]
    number = next(n for n, row in enumerate(rows, 1) if row["kind"] == "code")
    file, run = tmp_path / "made.jsonl", str(tmp_path / "run")
    words = ("build", experiment, "--workdir", run, f"--config.demonstrations.path={file}")

    invented = copy.deepcopy(rows)
    invented[number - 1]["segments"][1]["text"] = "\nCode Execution Results:\ninvented\n"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in invented))
    assert main(["data", *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"r1ci: {file}, line {number}: segment 2 is not what its script prints")
    assert not datasets.is_built(Path(run) / "data", "r1ci_trajectories")

    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    _run(capsys, *words)
    taken = datasets.load_trajectories(Path(run) / "data")
    assert [dataclasses.asdict(row) for row in taken] == rows

    # Without a jail nothing runs; unsafe, the scripts run as this user, after a line that says so.
    monkeypatch.setenv("R1CI_NSJAIL", str(tmp_path / "no-nsjail"))
    capsys.readouterr()
    words = [word.replace("/run", "/other") for word in words]
    assert main(["data", *words]) == 2
    assert "R1CI_NSJAIL" in capsys.readouterr().err.splitlines()[-1]
    words = [word.replace("/other", "/unsafe") for word in words]
    assert main(["data", *words, "--config.sandbox.unsafe=True"]) == 0
    assert UNSAFE_WARNING in " ".join(capsys.readouterr().err.split())


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


def test_stats_count_tokens_and_say_of_which_tokenizer(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    built = _run(capsys, "build", experiment, "--workdir", str(run), "--questions-only")
    assert (built["tasks"], built["jobs"], built["fewer"]) == (2, 1, {})
    rows = list(datasets.load_examples(run / "data", ["toy_sorting"], "sft+grpo+eval"))
    for place, vocabulary in ((other, 300), (run / "tokenizer", 400)):
        place.mkdir()
        trained = tokenizer.train_byte_bpe([row.question for row in rows], vocabulary)
        trained.save(place)
        named = ["--tokenizer", str(other)] if place == other else []
        shown = _run(capsys, "stats", str(run), *named)
        assert shown["tokenizer"] == str(place)
        (found,) = [task for task in shown["tasks"] if task["task"] == "toy_sorting"]
        lengths = [len(trained.encode(row.question)) for row in rows]
        assert found["question_tokens"]["max"] == max(lengths)
        assert found["question_tokens"]["mean"] == round(sum(lengths) / len(lengths), 1)
    assert main(["data", "stats", str(run)]) == 0
    assert f"in tokens of {run / 'tokenizer'}" in capsys.readouterr().out


def test_stats_without_the_runs_tokenizer_count_characters_and_say_so(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _run(capsys, "build", experiment, "--workdir", str(run), "--questions-only")
    config = json.loads((run / "config.json").read_text())
    config["experiment"]["model"]["tokenizer"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    assert main(["data", "stats", str(run)]) == 0
    shown = capsys.readouterr()
    assert "lengths in characters" in shown.out and "gone cannot be reached" in " ".join(
        shown.err.split()
    )
    # One that was asked for by name must be there.
    assert main(["data", "stats", str(run), "--tokenizer", str(tmp_path / "gone")]) == 2


def test_build_with_jobs_and_a_source_with_few_questions(
    experiment: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry.get("toy_gcd_lcm"), "count", lambda: 3)
    words = ["build", experiment, "--workdir", str(tmp_path / "run"), "--questions-only"]
    assert main(["data", *words, "--jobs", "1"]) == 0
    assert "toy_gcd_lcm: fewer questions than requested: " in capsys.readouterr().out
    assert main(["data", "stats", str(tmp_path / "run")]) == 0
    assert "toy_gcd_lcm: sft has " in capsys.readouterr().out
    assert main(["data", *words, "--jobs", "0"]) == 2
    assert "--jobs 0: at least one process" in capsys.readouterr().err
