"""The leaderboard, from evaluations made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import paper_numbers, table_bases
from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.evaluate import results
from r1ci_jax.evaluate.results import RunResults
from r1ci_jax.runtime import run_dir

TEST = sorted(next(e for e in paper_numbers.MAIN if e.row == "14b").tasks or ())


def row(model: str, task: str, correct: int, agent: str = "code_agent", **more: Any) -> dict:
    facts = {"model": model, "agent": agent, "task": task, "n": 10, "correct": correct}
    return facts | {"suite": "symbench", "split": "test"} | more


def evaluation(path: Path, name: str, *rows: dict, deviations: tuple[str, ...] = ()) -> RunResults:
    path.mkdir(parents=True)
    described = {"settings": {"name": name}, "deviations": list(deviations)}
    (path / "eval.json").write_text(json.dumps(described))
    (path / "results.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    return results.read_run(path)


def test_the_best_come_first_and_each_agent_has_a_line(tmp_path: Path) -> None:
    table = table_bases.build(
        [
            evaluation(tmp_path / "a", "A", row("A", "x", 4), row("A", "x", 8, "all_code")),
            evaluation(tmp_path / "b", "B", row("B", "x", 6), row("B", "y", 2, split="train")),
        ]
    )
    names = [cells[:2] for cells in table.rows]
    assert names[:3] == [("A", "all_code"), ("B", "code_agent"), ("A", "code_agent")]
    # The paper's own baselines follow, in the column of all test tasks.
    assert names[3:] == [
        ("GPT-4o, All Text (paper)", "-"),
        ("GPT-4o, Code Interpreter (paper)", "-"),
    ]
    shown = [dict(zip(table.columns[3:], cells[3:], strict=True)) for cells in table.rows]
    assert shown[3]["paper"] == "58.6 A"
    assert table.columns[:5] == ("model", "agent", "test", "paper", "difference")
    assert {"symbench test", "train", "symbench train"} <= {*table.columns}
    assert table.rows[1][2].startswith("60.0 (") and table.rows[0][2].startswith("80.0 (")


def test_what_is_not_comparable_is_marked(tmp_path: Path) -> None:
    """As many tasks, but others; and other settings."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, task, prompts in zip(paths, ("x", "y"), ("r1ci", "none"), strict=True):
        evaluation(path, path.name, row(path.name, task, 5))
        settings = {"name": path.name, "questions": 5, "prompts": prompts}
        (path / "eval.json").write_text(json.dumps({"settings": settings}))
    table = table_bases.build([results.read_run(path) for path in paths])
    assert [cells[2][:5] for cells in table.rows[:2]] == ["50.0*", "50.0*"]
    assert 'The evaluations differ in prompts ("r1ci", "none"), so' in table.note


def test_a_pattern_leaves_out_what_has_no_results(tmp_path: Path, capsys) -> None:
    evaluation(tmp_path / "eval-a", "A", row("A", "x", 4))
    evaluation(tmp_path / "eval-b", "B", row("B", "x", 4))
    (tmp_path / "eval-b" / "results.jsonl").unlink()
    assert main(["table", "bases", "--runs", f"{tmp_path}/eval-*", "--format", "csv"]) == 0
    shown = capsys.readouterr()
    assert "A,code_agent" in shown.out and "eval-b: it has no results.jsonl yet" in shown.err
    assert main(["table", "bases", "--runs", str(tmp_path / "eval-b")]) == 2
    assert "has no results yet" in capsys.readouterr().err


def test_a_base_of_the_paper_stands_beside_its_number(tmp_path: Path) -> None:
    name = "Qwen2.5-14B-Instruct"
    whole = [row(name, task, 5, suite="s") for task in TEST]
    part = [row("Qwen2.5-7B-Instruct", task, 5, suite="s") for task in TEST[:3]]
    table = table_bases.build(
        [
            evaluation(tmp_path / "14b", name, *whole),
            evaluation(tmp_path / "7b", "Qwen2.5-7B-Instruct", *part),
            evaluation(tmp_path / "text", name, *(each | {"agent": "all_text"} for each in whole)),
        ]
    )
    by_line = {(each["model"], each["agent"]): each["parts"] for each in table.records}
    ours = by_line[name, "code_agent"]["test"]
    assert (ours["paper"], ours["comparable"]) == (44.1, True)
    assert ours["difference"] == pytest.approx(50.0 - 44.1)
    # Its number is not known, and means over other tasks are marked.
    seven = by_line["Qwen2.5-7B-Instruct", "code_agent"]["test"]
    assert (seven["paper"], seven["is_missing"], seven["is_partial"]) == (None, True, True)
    assert by_line[name, "all_text"]["test"]["paper"] is None
    cells = {cells[:2]: cells[2:5] for cells in table.rows}
    assert cells[name, "code_agent"][1:] == ("44.1 A", "+5.9")
    assert cells["Qwen2.5-7B-Instruct", "code_agent"][0].startswith("50.0* (")
    assert "over other tasks" in table.note and "differ in" not in table.note
    assert cells["Qwen2.5-7B-Instruct", "code_agent"][1:] == ("missing", "-")
    assert "value sure, label not" in table.note


def test_a_number_over_other_tasks_is_not_subtracted(tmp_path: Path) -> None:
    name = "Qwen2.5-14B-Instruct"
    table = table_bases.build([evaluation(tmp_path / "a", name, row(name, TEST[0], 5))])
    assert table.rows[0][3:5] == ("44.1 A", "not comparable")


def test_runs_stand_beside_evaluations(tmp_path: Path) -> None:
    experiment = Experiment(name="mine", paper_row="14b", dataset=DatasetConfig(tasks=("a",)))
    run_dir.RunDir.open(tmp_path / "run", experiment).close()
    lines = [row("grpo_curriculum", task, 8) for task in TEST]
    (tmp_path / "run/results.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    table = table_bases.build([results.read_run(tmp_path / "run")])
    assert table.rows[0][0] == "mine: SFT + GRPO, curriculum"
    assert table.rows[0][3:5] == ("72.4 A", "+7.6")


def test_the_command_prints_and_writes_each_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("A", "B"):
        note = ("p is not applied",) if name == "A" else ()
        evaluation(tmp_path / f"eval-{name}", name, row(name, "x", 5), deviations=note)
    words = ["table", "bases", "--runs", str(tmp_path / "eval-*")]
    for form, start in (("markdown", "# Models"), ("csv", "model,agent"), ("latex", "\\begin")):
        assert main([*words, "--format", form]) == 0
        assert capsys.readouterr().out.startswith(start)
    written = {path.name for path in (tmp_path / "eval-A/tables").iterdir()}
    assert written == {"bases.md", "bases.csv", "bases.tex"}
    assert "A: p is not applied." in (tmp_path / "eval-A/tables/bases.md").read_text()
    assert main([*words, "--json"]) == 0
    assert {each["model"] for each in json.loads(capsys.readouterr().out)["rows"]} > {"A", "B"}
    assert main([*words, "--json", "--format", "csv"]) == 2
    assert "leave one out" in capsys.readouterr().err
