"""What each training added, from results made by hand."""

import dataclasses
from pathlib import Path

import pytest

from experiments import table_gains
from r1ci_jax.cli.main import main
from r1ci_jax.evaluate.results import RunResults
from tests.experiments.test_table_bases import evaluation
from tests.experiments.test_table_bases import row as one_row


def row(model: str, right: str, task: str = "x", **more: object) -> dict:
    """A record of one answer to each question: 1 is correct, - is none."""
    asked = {f"{task}/{i}": [int(c != "-"), int(c == "1")] for i, c in enumerate(right)}
    n, correct = (sum(counts[i] for counts in asked.values()) for i in (0, 1))
    return one_row(model, task, correct, n=n, questions=asked, **more)


def run_of(path: Path, *rows: dict) -> RunResults:
    return evaluation(path, path.name, *rows)


def test_a_model_is_compared_with_the_one_it_was_trained_from() -> None:
    models = ["untrained", "sft", "grpo_curriculum", "grpo_uniform", "grpo_no_sft_uniform"]
    assert table_gains.pair_models(models) == [
        ("sft", "untrained"),
        ("grpo_curriculum", "sft"),
        ("grpo_uniform", "sft"),
        ("grpo_no_sft_uniform", "untrained"),
        ("grpo_curriculum", "grpo_uniform"),
    ]
    assert table_gains.pair_models(["grpo_uniform", "qwen"]) == []


def test_a_gain_is_of_the_questions_that_both_answered(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "r",
        row("untrained", "0000000000"),
        row("sft", "1111000000"),
        row("grpo_curriculum", "111111111-"),
        row("grpo_curriculum", "0001", "y", split="train"),
        row("sft", "0000", "y", split="train"),
        row("sft", "11", "only sft"),
    )
    table = table_gains.build([run])
    found = {(r["model"], r["split"]): r for r in table.records}
    assert set(found) == {
        ("sft", "test"),
        ("grpo_curriculum", "test"),
        ("grpo_curriculum", "train"),
    }
    sft, grpo = found["sft", "test"], found["grpo_curriculum", "test"]
    assert (sft["tasks"], sft["questions"], sft["before"], sft["after"]) == (1, 10, 0, 40)
    # The tenth question has no answer of the last model: it is not counted for SFT either.
    assert (grpo["questions"], grpo["before"], grpo["after"]) == (
        9,
        pytest.approx(400 / 9),
        pytest.approx(100),
    )
    assert grpo["difference"] == pytest.approx(500 / 9) and grpo["verdict"] == "better"
    small = found["grpo_curriculum", "train"]
    # One of four gained: 25 points, and what resampling finds, 25 or 50 less, by sqrt(4 / 3) more.
    assert small["interval"][0] == pytest.approx(25 - 25 * (4 / 3) ** 0.5)
    assert small["verdict"] == "no difference shown"
    # 10 to 70 by resampling ten questions, wider by sqrt(10 / 9).
    assert table.rows[0][7:] == ("0.0", "40.0", "+40.0 (+8.4 to +71.6)", "better")


def test_a_loss_is_called_one(tmp_path: Path) -> None:
    rows = [row("sft", "1" * 20), row("grpo_uniform", "0" * 12 + "1" * 8)]
    (record,) = table_gains.build([run_of(tmp_path / "r", *rows)]).records
    assert record["difference"] == pytest.approx(-60) and record["verdict"] == "worse"


def test_repetitions_are_summed_up_and_runs_with_other_settings_are_not(tmp_path: Path) -> None:
    first = run_of(tmp_path / "a", row("sft", "1000"), row("grpo_uniform", "1100"))
    second = run_of(tmp_path / "b", row("sft", "0000"), row("grpo_uniform", "1110"))
    other = run_of(tmp_path / "c", row("sft", "0000"), row("grpo_uniform", "0000"))
    runs = [dataclasses.replace(run, settings="same") for run in (first, second)]
    table = table_gains.build([*runs, dataclasses.replace(other, settings="other")])
    assert [cells[0] for cells in table.rows] == ["a", "b", "c", "2 runs"]
    summary = table.records[-1]
    assert summary["runs"] == ("a", "b")
    assert [summary[key] for key in ("difference", "smallest", "largest")] == [50, 25, 75]
    assert table.rows[-1][-2:] == ("+50.0", "runs: +25.0 to +75.0")


def test_a_repetition_may_have_fewer_arms_but_no_others_of_the_same_name(tmp_path: Path) -> None:
    rows = row("sft", "1000"), row("grpo_uniform", "1100")
    more = run_of(tmp_path / "a", *rows, row("grpo_curriculum", "1111"))
    fewer, changed = (run_of(tmp_path / name, *rows) for name in "bc")
    arms = {"grpo_uniform": "as it is", "grpo_curriculum": "as it is"}
    more, fewer, changed = (
        dataclasses.replace(run, settings="same", arms=known)
        for run, known in (
            (more, arms),
            (fewer, {"grpo_uniform": "as it is"}),
            (changed, {"grpo_uniform": "with another rate"}),
        )
    )
    summaries = [
        each for each in table_gains.build([more, fewer, changed]).records if "runs" in each
    ]
    assert [(each["model"], each["runs"]) for each in summaries] == [("grpo_uniform", ("a", "b"))]


def test_a_run_without_two_models_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "m", row("sft", "10"))
    assert main(["table", "gains", "--runs", str(tmp_path / "m")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "m: left out, no two of its models answered the same questions." in said
