"""The published numbers and the table made of them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from experiments import paper_numbers, table_main
from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime import run_dir
from r1ci_jax.tasks import train_test_split


def test_every_number_has_place_grade_and_source() -> None:
    for entry in paper_numbers.ALL:
        assert entry.location
        assert set(entry.source.split()) <= set(paper_numbers.SOURCES)
        if not entry.missing:
            assert entry.grade in ("A", "B", "C") and entry.source


def test_main_entries_are_distinct() -> None:
    keys = [(entry.row, entry.model, entry.suite, entry.split) for entry in paper_numbers.MAIN]
    assert len(set(keys)) == len(keys)


def test_abstract_numbers() -> None:
    values = {(entry.row, entry.model, entry.suite): entry.value for entry in paper_numbers.MAIN}
    assert values["14b", "untrained", "all"] == 44.1
    assert values["14b", "grpo_curriculum", "all"] == 72.4
    assert values["baseline", "GPT-4o, All Text", "all"] == 58.6
    assert values["baseline", "GPT-4o, Code Interpreter", "all"] == 70.9
    assert values["7b", "grpo_curriculum", "all"] is None


def test_derived_rows_agree_with_the_gains() -> None:
    values = {entry.model: entry.value for entry in paper_numbers.MAIN if entry.row == "14b"}
    gains = {entry.model: entry.value for entry in paper_numbers.GAINS}
    table3 = next(
        e for e in paper_numbers.MAIN if e.model == "grpo_curriculum" and e.suite == "all"
    ).value
    without, with_curriculum = (value for name, value in gains.items() if name.startswith("RL"))
    assert values["sft"] == pytest.approx(table3 - with_curriculum)
    assert values["grpo_uniform"] == pytest.approx(values["sft"] + without)


def _run(path: Path, paper_row: str, *, tasks: Iterable[str] = train_test_split.TEST) -> Path:
    """A run whose model answers 7 of 10 questions of every test task correctly."""
    experiment = Experiment(name="x", paper_row=paper_row, dataset=DatasetConfig(tasks=("a",)))
    run_dir.RunDir.open(path, experiment).close()
    facts = {"model": "grpo_curriculum", "agent": "code_agent", "n": 10, "correct": 7}
    lines = (json.dumps(facts | {"task": task, "split": "test"}) for task in tasks)
    (path / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_number_is_compared_over_the_tasks_of_its_split() -> None:
    sizes = {(e.suite, e.split): len(e.tasks or ()) for e in paper_numbers.MAIN}
    assert sizes["all", "test"] == paper_numbers.TEST_TASKS == 37
    train = [sizes[suite, "train"] for suite in paper_numbers.SUITES]
    test = [sizes[suite, "test"] for suite in paper_numbers.SUITES]
    assert (sum(train), sum(test)) == (paper_numbers.TRAIN_TASKS, paper_numbers.TEST_TASKS)


def test_table_main_sets_ours_beside_the_paper(tmp_path: Path) -> None:
    table = table_main.build([tables.read_run(_run(tmp_path / "r", "14b"))])
    record = table.records[0]
    assert (record["ours"], record["paper"]) == (70.0, 72.4)
    assert record["difference"] == pytest.approx(-2.4)


@pytest.mark.parametrize("tasks", [("rg_lcm",), ("a",), (*train_test_split.TEST, "a")])
def test_another_set_of_tasks_is_not_subtracted(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    table = table_main.build([tables.read_run(_run(tmp_path / "r", "14b", tasks=tasks))])
    record = table.records[0]
    assert (record["ours"], record["paper"]) == (70.0, 72.4)
    assert record["difference"] is None and table.rows[0][-1] == "not comparable"
    assert table.rows[0][3] == f"{len(tasks)} of 37"


def test_the_table_says_what_is_unsure_of_a_number(tmp_path: Path) -> None:
    table = table_main.build([tables.read_run(_run(tmp_path / "r", "14b"))])
    assert "untrained 44.1: value sure, label not" in table.note and "All Text" in table.note
    assert "SFT 63.1: may have been computed" in table.note
    assert table.note.endswith(paper_numbers.OTHER_TASKS)


def test_command_prints_one_json_object_and_writes_markdown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy, full = _run(tmp_path / "toy", ""), _run(tmp_path / "full", "14b")
    assert main(["table", "main", "--json", "--runs", str(tmp_path / "*")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["note"].startswith("toy: no paper counterpart.")
    assert "-2.4" in (full / "tables" / "main.md").read_text()
    assert "no paper counterpart" in (toy / "tables" / "main.md").read_text()
    assert main(["table", "main", "--runs", str(toy)]) == 0
    assert "no paper counterpart" in capsys.readouterr().out
    assert main(["table", "mian", "--runs", str(toy)]) == 2
    assert (
        "there are: ablation, bases, gains, main, ood, task_choice, text_code"
        in capsys.readouterr().err
    )
