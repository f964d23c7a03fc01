"""Tables of ablations and of questions unlike the training, from results made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import table_ablation, table_main, table_ood
from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.evaluate import results, tables
from r1ci_jax.evaluate.results import RunResults
from r1ci_jax.runtime import run_dir


def row(model: str, task: str, correct: int, n: int = 100, **more: Any) -> dict[str, Any]:
    return {"model": model, "agent": "code_agent", "task": task, "n": n, "correct": correct} | more


def make_run(
    path: Path, *rows: dict[str, Any], name: str = "x", paper_row: str = "", seed: int = 0
) -> RunResults:
    questions = DatasetConfig(tasks=("a",))
    experiment = Experiment(name=name, paper_row=paper_row, seed=seed, dataset=questions)
    run_dir.RunDir.open(path, experiment).close()
    (path / "results.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    return results.read_run(path)


# --- questions unlike the training ---------------------------------------------------------------


def ood(model: str, gpqa: int, aime24: int, aime25: int) -> list[dict[str, Any]]:
    scores = {"gpqa_diamond": gpqa, "aime_2024": aime24, "aime_2025": aime25}
    return [
        row(model, task, correct, suite="ood", split="test") for task, correct in scores.items()
    ]


def test_gpqa_and_the_mean_of_both_aimes_stand_beside_the_papers(tmp_path: Path) -> None:
    rows = [*ood("grpo_curriculum", 45, 30, 20), row("grpo_curriculum", "a", 90, suite="toy")]
    table = table_ood.build([make_run(tmp_path, *rows, paper_row="14b")])
    ours = {r["suite"]: r for r in table.records if r["model"] == "grpo_curriculum"}
    assert ours["gpqa_diamond"]["ours"] == 45.0 and ours["gpqa_diamond"]["paper"] == 50.2
    assert ours["gpqa_diamond"]["difference"] == pytest.approx(-5.2)
    assert ours["aime_24_25"]["ours"] == 25.0
    assert ours["aime_24_25"]["difference"] == pytest.approx(-17.0)
    assert {record["suite"] for record in table.records} == {"gpqa_diamond", "aime_24_25"}
    # The paper evaluates an untrained model too, and no source has its numbers.
    untrained = [r for r in table.records if r["model"] == "untrained"]
    assert {r["paper_status"] for r in untrained} == {"missing"}


def test_one_aime_is_not_subtracted_from_two(tmp_path: Path) -> None:
    rows = ood("grpo_curriculum", 45, 30, 20)[:2]
    table = table_ood.build([make_run(tmp_path, *rows, paper_row="7b")])
    [aime] = [
        r for r in table.records if (r["suite"], r["model"]) == ("aime_24_25", "grpo_curriculum")
    ]
    assert aime["comparable"] is False and aime["difference"] is None


def test_a_run_without_these_tasks_is_named(tmp_path: Path) -> None:
    table = table_ood.build([make_run(tmp_path / "plain", row("sft", "a", 1))])
    assert table.records == ()
    assert "plain: not evaluated on these tasks; run the variant :ood" in table.note


def test_they_are_no_part_of_other_means(tmp_path: Path) -> None:
    rows = [*ood("sft", 0, 0, 0), row("sft", "rg_lcm", 80, suite="reasoning_gym", split="test")]
    run = make_run(tmp_path, *rows)
    by_part = {r["split"]: r["accuracy"] for r in tables.build_results_table(run).records}
    assert by_part == {"test": 0.8, "ood": 0.0}
    assert {r["ours"] for r in table_main.build([run]).records} == {80.0}


# --- ablations -----------------------------------------------------------------------------------


def scores(model: str, a: int, b: int, split: str = "test") -> list[dict[str, Any]]:
    return [row(model, "a", a, split=split), row(model, "b", b, split=split)]


WHOLE = [*scores("sft", 40, 50), *scores("grpo_curriculum", 80, 60)]


def test_an_ablation_is_compared_with_the_whole_method_of_its_size(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "c", *WHOLE, name="ablation-full-method-14b"),
        make_run(tmp_path / "d", *scores("grpo_curriculum", 0, 0), name="ablation-full-method-3b"),
        make_run(
            tmp_path / "u",
            *scores("sft", 40, 50),
            *scores("grpo_uniform", 60, 50),
            name="ablation-no-curriculum-14b",
        ),
        make_run(
            tmp_path / "w",
            *scores("sft", 30, 50),
            *scores("grpo_curriculum", 60, 70),
            name="ablation-wrong-trajectories-14b",
        ),
        make_run(
            tmp_path / "p",
            *scores("grpo_reinforce_plus_plus", 60, 60),
            *scores("grpo_ppo", 80, 50),
            name="ablation-rl-algorithm-14b",
        ),
    ]
    table = table_ablation.build(runs)
    shown = {(r["ablation"], r["size"], r["model"]): r for r in table.records}
    assert shown["whole method", "14b", "grpo_curriculum"]["ours"] == 70.0
    assert shown["whole method", "14b", "grpo_curriculum"]["paper"] == 72.4
    uniform = shown["no curriculum", "14b", "grpo_uniform"]
    assert (uniform["ours"], uniform["difference"]) == pytest.approx((55.0, -15.0))
    assert (uniform["paper"], uniform["grade"]) == (66.5, "C")
    wrong = "wrong trajectories in SFT", "14b"
    assert shown[*wrong, "sft"]["difference"] == pytest.approx(-5.0)
    assert shown[*wrong, "grpo_curriculum"]["difference"] == pytest.approx(-5.0)
    assert shown[*wrong, "sft"]["paper"] is None and "variance" in shown[*wrong, "sft"]["found"]
    # One run with two arms has a row for each.
    for label, model, ours in (
        ("Reinforce++", "grpo_reinforce_plus_plus", 60.0),
        ("PPO", "grpo_ppo", 65.0),
    ):
        found = shown[label, "14b", model]
        assert (found["ours"], found["difference"]) == pytest.approx((ours, ours - 70.0))
        assert found["place"] == "Fig. 7"
    cells = {cells[:2]: cells for cells in table.rows}
    assert cells["whole method", "14b"][5] == "-", "the control is not compared with itself"
    assert cells["no curriculum", "14b"][5] == "-15.0"


def test_only_common_tasks_are_subtracted(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "c", *WHOLE, name="ablation-full-method-demo"),
        make_run(
            tmp_path / "u",
            row("grpo_uniform", "b", 50),
            row("grpo_uniform", "z", 0),
            name="ablation-no-curriculum-demo",
        ),
    ]
    [record] = [r for r in table_ablation.build(runs).records if r["model"] == "grpo_uniform"]
    assert record["ours"] == 25.0 and record["difference"] == pytest.approx(50.0 - 60.0)


def test_repetitions_are_averaged(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / str(seed),
            *scores("grpo_uniform", correct, correct, split="train"),
            name="ablation-no-curriculum-demo",
            seed=seed,
        )
        for seed, correct in enumerate((40, 50, 60))
    ]
    table = table_ablation.build(runs)
    [record] = table.records
    assert (record["ours"], record["spread"], record["runs"]) == (50.0, pytest.approx(10.0), 3)
    assert record["part"] == "train" and "± 10.0 (3 runs)" in table.rows[0][4]
    assert "demo: no run of the whole method to compare with" in table.note


def test_arms_of_one_run_are_compared_with_its_curriculum(tmp_path: Path) -> None:
    rows = [*WHOLE, *scores("grpo_random_subset", 80, 62)]
    run = make_run(tmp_path, *rows, name="curriculum-controls-demo")
    shown = {r["ablation"]: r for r in table_ablation.build([run]).records}
    assert set(shown) == {"curriculum", "random subset"}
    assert shown["random subset"]["difference"] == pytest.approx(1.0)
    assert shown["curriculum"]["is_control"]


def test_the_runs_of_the_whole_method_are_controls_too(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "c", *WHOLE, name="toy"),
        make_run(tmp_path / "u", *scores("sft", 60, 50), name="ablation-no-grpo-demo"),
    ]
    [record] = [r for r in table_ablation.build(runs).records if r["ablation"] == "no GRPO"]
    assert record["difference"] == pytest.approx(55.0 - 70.0)


@pytest.mark.parametrize("name", ["ablation", "ood"])
def test_commands(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "run", *WHOLE, *ood("sft", 1, 2, 3), name="ablation-full-method-demo")
    assert main(["table", name, "--json", "--runs", str(tmp_path / "run")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["table"] == name and shown["rows"]
    assert (tmp_path / "run" / "tables" / f"{name}.md").is_file()
