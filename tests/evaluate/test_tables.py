"""Tables: numbers computed by hand."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.config import Arm, DatasetConfig, EvalConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import tables
from r1ci_jax.evaluate.tables import Published
from r1ci_jax.runtime import run_dir


def make_run(path: Path, rows: list[dict[str, Any]], *, paper_row: str = "", seed: int = 0) -> Path:
    questions = DatasetConfig(tasks=("a", "b"))
    experiment = Experiment(name="toy", paper_row=paper_row, seed=seed, dataset=questions)
    run_dir.RunDir.open(path, experiment).close()
    (path / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def row(model: str, task: str, correct: int, n: int = 40, **more: Any) -> dict[str, Any]:
    return {"model": model, "agent": "code_agent", "task": task, "n": n, "correct": correct} | more


ROWS = [
    row("grpo_curriculum", "a", 30, code_calls_per_trajectory=1.5, used_code_fraction=1.0),
    row("grpo_curriculum", "b", 10, n=10, code_calls_per_trajectory=0.5, used_code_fraction=0.5),
    row("sft", "a", 20, code_calls_per_trajectory=1.0, used_code_fraction=0.5),
    row("sft", "b", 4, n=10, code_calls_per_trajectory=1.0, used_code_fraction=0.5),
]


def test_mean_is_over_tasks_not_questions(tmp_path: Path) -> None:
    table = tables.build_results_table(tables.read_run(make_run(tmp_path, ROWS)))
    sft, curriculum = table.records  # in the order of training, whatever the file's order
    assert (sft["model"], curriculum["model"]) == ("sft", "grpo_curriculum")
    assert sft["accuracy"] == 0.45  # (50 % + 40 %) / 2; over questions it would be 48 %
    assert curriculum["accuracy"] == 0.875
    # Wilson: 35.20 to 64.80 for 20 of 40, 16.82 to 68.73 for 4 of 10.
    low, high = math.hypot(0.148005, 0.231820) / 2, math.hypot(0.148005, 0.287331) / 2
    assert sft["interval"] == pytest.approx([0.45 - low, 0.45 + high], abs=1e-4)
    assert curriculum["code_calls_per_trajectory"] == pytest.approx((1.5 * 40 + 0.5 * 10) / 50)
    columns = ("model", "mean", "95 % interval", "void", "uses code", "calls")
    assert table.columns == (*columns, "a", "b")
    # Down to 59.81 from 75, and to 72.25 from 100; up to 85.81 from 75.
    cells = ("SFT + GRPO, curriculum", "87.5", "71.7 to 92.9", "0", "90", "1.30", "75.0", "100.0")
    assert table.rows[1] == cells


def test_many_tasks_go_into_rows(tmp_path: Path) -> None:
    rows = [row("sft", f"task{index}", index) for index in range(30)]
    run = tables.read_run(make_run(tmp_path, rows))
    assert tables.build_results_table(run).columns[-1] == "calls"
    assert tables.build_tasks_table(run).rows[3] == ("task3", "7.5 (2.6 to 19.9)", "-")


def test_arms_follow_the_order_of_the_experiment(tmp_path: Path) -> None:
    arms = (Arm(name="grpo_large_kl"), Arm(name="grpo_uniform", order="uniform"))
    experiment = Experiment(name="toy", dataset=DatasetConfig(tasks=("a",)), arms=arms)
    run_dir.RunDir.open(tmp_path, experiment).close()
    models = ("external", "grpo_uniform", "grpo_large_kl", "untrained")
    lines = [f"{json.dumps(row(model, 'a', 1))}\n" for model in models]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    table = tables.build_results_table(tables.read_run(tmp_path))
    assert [cells[0] for cells in table.rows] == [
        "untrained",
        "SFT + GRPO, large kl",
        "SFT + GRPO, uniform",
        "external",
    ]


def test_old_results_are_answered_with_the_new_key(tmp_path: Path) -> None:
    old = row("sft", "a", 1)
    old["method"] = old.pop("agent")
    with pytest.raises(UserError, match='"method" was renamed to "agent": write the new key'):
        tables.read_run(make_run(tmp_path, [old]))


def test_last_of_two_equal_rows_counts(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path, [row("sft", "a", 1), row("sft", "a", 39)]))
    assert [result.correct for result in run.results] == [39]


@pytest.mark.parametrize(
    "rows", [[], [{"model": "sft"}], [row("sft", "a", 41)], [row("s", "a", 0, 0)]]
)
def test_unusable_results_are_user_errors(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError):
        tables.read_run(make_run(tmp_path, rows))


BOTH = frozenset({"a", "b"})
PUBLISHED = (
    Published(
        row="14b", model="sft", value=40.0, location="Table 3", grade="C", source="S4", tasks=BOTH
    ),
    Published(row="14b", model="grpo_curriculum", value=None, location="Table 3", tasks=BOTH),
    Published(
        row="14b",
        model="untrained",
        value=44.1,
        location="abstract",
        grade="A",
        source="S1",
        note="some call it All Text",
        tasks=BOTH,
    ),
    Published(row="baseline", model="GPT", value=58.6, location="abstract", grade="A", source="S1"),
)


def test_comparison_with_the_paper(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path / "x", ROWS, paper_row="14b"))
    table = tables.compare("main", [run], PUBLISHED)
    by_model = {record["model"]: record for record in table.records}
    assert by_model["sft"]["difference"] == pytest.approx(5.0)
    assert by_model["grpo_curriculum"]["paper_status"] == "missing"
    assert by_model["grpo_curriculum"]["difference"] is None
    assert by_model["untrained"]["ours"] is None and by_model["untrained"]["paper"] == 44.1
    assert by_model["GPT"]["paper"] == 58.6
    cells = ("x", "SFT", "test", "2", "45.0 (31.2 to 61.2)", "0", "-", "40.0 C", "+5.0")
    assert cells in table.rows
    assert table.note.endswith("untrained 44.1: some call it All Text.")
    json.dumps(table.records, allow_nan=False)


def test_seeds_of_one_recipe_are_averaged(tmp_path: Path) -> None:
    runs = [
        tables.read_run(
            make_run(
                tmp_path / f"s{seed}",
                [row("sft", "a", correct), row("sft", "b", correct)],
                paper_row="14b",
                seed=seed,
            )
        )
        for seed, correct in enumerate((16, 20, 24))
    ]
    record = tables.compare("main", runs, PUBLISHED).records[0]
    assert record["ours"] == 50.0 and record["runs"] == 3
    assert record["spread"] == pytest.approx(10.0)  # of 40, 50, 60
    assert record["difference"] == pytest.approx(10.0)


def test_toy_runs_have_no_counterpart(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path / "toy", ROWS))
    table = tables.compare("main", [run], PUBLISHED)
    assert table.note == "toy: no paper counterpart."
    assert {record["paper_status"] for record in table.records} == {"none"}


def test_suites_and_splits_stand_apart(tmp_path: Path) -> None:
    rows = [
        row("sft", "a", 40, suite="bbh", split="train"),
        row("sft", "b", 0, suite="bbh", split="test"),
        row("sft", "c", 20, suite="symbench", split="test"),
    ]
    records = tables.compare("main", [tables.read_run(make_run(tmp_path, rows))], ()).records
    means = {(record["suite"], record["split"]): record["ours"] for record in records}
    assert means == {
        ("all", "train"): 100.0,
        ("bbh", "train"): 100.0,
        ("all", "test"): 25.0,
        ("bbh", "test"): 0.0,
        ("symbench", "test"): 50.0,
    }


def test_other_agents_are_not_set_beside_the_paper(tmp_path: Path) -> None:
    rows = [row("sft", "a", 20) | {"agent": "all_text"}]
    run = tables.read_run(make_run(tmp_path, rows, paper_row="14b"))
    record = tables.compare("main", [run], PUBLISHED).records[0]
    assert (record["agent"], record["paper_status"]) == ("all_text", "none")


def test_unknown_paper_row_is_a_user_error(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path, ROWS, paper_row="15b"))
    with pytest.raises(UserError, match="'15b' is unknown"):
        tables.compare("main", [run], PUBLISHED)


def test_markdown_survives_hostile_cells(tmp_path: Path) -> None:
    path = make_run(tmp_path, [row("sft", "a|b\n# x", 20)])
    tables.write_results(path)
    lines = (path / "tables" / "tasks.md").read_text().splitlines()
    assert lines[-1] == "| a\\|b # x | 50.0 (35.2 to 64.8) | - |"
    assert (path / "tables" / "results.md").read_text().startswith("# toy: held-out accuracy, %\n")


def test_trained_and_unseen_tasks_are_not_averaged_together(tmp_path: Path) -> None:
    rows = [row("sft", "a", 40, split="train"), row("sft", "b", 0, split="test")]
    table = tables.build_results_table(tables.read_run(make_run(tmp_path, rows)))
    assert [record["accuracy"] for record in table.records] == [1.0, 0.0]
    assert [cells[1] for cells in table.rows] == ["train tasks", "test tasks"]


def test_task_without_valid_trajectories_is_left_out(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path, [row("sft", "a", 0, n=0), row("sft", "b", 20)]))
    assert [result.task for result in run.results] == ["b"]
    assert run.note == "Left out, for their interpreter always failed: a (sft)."
    assert run.note in tables.build_results_table(run).note


def counted(model: str, task: str, questions: list[list[int]], **more: Any) -> dict[str, Any]:
    """A record with counts by question."""
    n, correct = (sum(each[index] for each in questions) for index in (0, 1))
    named = {f"{task}/{number}": each for number, each in enumerate(questions)}
    return row(model, task, correct, n=n, questions=named, **more)


def test_answers_to_one_question_count_as_dependent(tmp_path: Path) -> None:
    """Four answers each to 40 questions, always or never right: as wide as one answer each."""
    one = counted("sft", "a", [[1, 1], [1, 0]] * 20)
    four = counted("grpo_uniform", "a", [[4, 4], [4, 0]] * 20)
    records = tables.build_results_table(tables.read_run(make_run(tmp_path, [one, four]))).records
    assert [record["interval"] for record in records] == [[0.351995, 0.648005]] * 2


def test_counts_must_sum_to_the_record(tmp_path: Path) -> None:
    wrong = counted("sft", "a", [[4, 4], [4, 0]]) | {"correct": 5}
    with pytest.raises(UserError, match="are not the sum over the questions of a; repeat the eval"):
        tables.read_run(make_run(tmp_path, [wrong]))


def test_records_without_counts_are_read_and_told(tmp_path: Path) -> None:
    experiment = Experiment(
        name="toy", dataset=DatasetConfig(tasks=("a",)), eval=EvalConfig(samples_per_question=4)
    )
    run_dir.RunDir.open(tmp_path, experiment).close()
    for record, told in (
        (row("sft", "a", 80, n=160), True),
        (counted("sft", "a", [[4, 1]]), False),
    ):
        (tmp_path / "results.jsonl").write_text(f"{json.dumps(record)}\n")
        table = tables.build_results_table(tables.read_run(tmp_path))
        assert ("intervals take all answers for independent ones" in table.note) is told


def test_what_a_constant_answer_scores_stands_in_every_table(tmp_path: Path) -> None:
    rows = [
        row("sft", "a", 20, majority=0.5),
        row("sft", "b", 4, n=10, majority=0.25, void=3),
        row("sft", "c", 4, n=10),
    ]
    run = tables.read_run(make_run(tmp_path, rows))
    main, by_task = tables.build_results_table(run), tables.build_tasks_table(run)
    assert main.rows[-1] == ("constant answer", "37.5", *"----", "50.0", "25.0", "-")
    assert [cells[-1] for cells in by_task.rows] == ["50.0", "25.0", "-"]
    (record,) = main.records
    assert record["constant_answer"] == 0.375 and record["void"] == 3
    assert record["per_task_constant_answer"] == {"a": 0.5, "b": 0.25, "c": None}
    (cells,) = tables.compare("main", [run], ()).rows
    assert cells[5:7] == ("3", "37.5")


def test_a_mean_over_fewer_tasks_is_marked(tmp_path: Path) -> None:
    rows = [row("untrained", "a", 1), row("sft", "a", 20), row("sft", "b", 20)]
    table = tables.build_results_table(tables.read_run(make_run(tmp_path, rows)))
    assert [cells[1] for cells in table.rows] == ["2.5*", "50.0"]
    assert "over fewer tasks than others of this table" in table.note


@pytest.mark.parametrize("tasks", [("a",), ("a", "b", "c"), ("a", "c")])
def test_means_over_different_tasks_are_not_subtracted(
    tmp_path: Path, tasks: tuple[str, ...]
) -> None:
    rows = [row("sft", task, 40) for task in tasks]
    run = tables.read_run(make_run(tmp_path, rows, paper_row="14b"))
    table = tables.compare("main", [run], PUBLISHED)
    assert table.records[0]["difference"] is None and table.records[0]["comparable"] is False
    assert table.rows[0][3] == f"{len(tasks)} of 2" and table.rows[0][-1] == "not comparable"
    assert "not comparable: ours is not the mean over all tasks of the paper's" in table.note


def test_nothing_is_subtracted_from_a_number_of_unknown_tasks(tmp_path: Path) -> None:
    run = tables.read_run(make_run(tmp_path, ROWS, paper_row="14b"))
    unknown = tuple(dataclasses.replace(entry, tasks=None) for entry in PUBLISHED)
    record = tables.compare("main", [run], unknown).records[0]
    assert record["difference"] is None and record["comparable"] is False


def test_a_mean_of_zero_is_compared(tmp_path: Path) -> None:
    rows = [row("sft", task, 0) for task in ("a", "b")]
    run = tables.read_run(make_run(tmp_path, rows, paper_row="14b"))
    assert tables.compare("main", [run], PUBLISHED).records[0]["difference"] == -40.0


def test_repetitions_are_averaged_over_the_tasks_that_all_have(tmp_path: Path) -> None:
    rows = [row("sft", "a", 20), row("sft", "b", 40)]
    runs = [
        tables.read_run(make_run(tmp_path / "whole", rows, paper_row="14b")),
        tables.read_run(make_run(tmp_path / "part", rows[:1], paper_row="14b", seed=1)),
    ]
    record = tables.compare("main", runs, PUBLISHED).records[0]
    assert (record["tasks"], record["runs"], record["ours"]) == (1, 2, 50.0)
    assert record["comparable"] is False
