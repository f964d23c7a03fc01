"""The table of one evaluated model: its numbers by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import model_tables, tables


def row(task: str, questions: dict[str, list[int]], **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "agent": "code_agent",
        "task": task,
        "suite": "symbench",
        "split": "test",
        "n": sum(n for n, _ in questions.values()),
        "correct": sum(correct for _, correct in questions.values()),
        "questions": questions,
        "void": 0,
        "too_long": 0,
        "stops": {"answer": sum(n for n, _ in questions.values())},
        "code_calls_per_trajectory": 1.0,
        "used_code_fraction": 0.5,
        "tokens_per_trajectory": 100.0,
    } | more


def make(path: Path, *rows: dict[str, Any], deviations: tuple[str, ...] = ()) -> tables.RunResults:
    described = {"settings": {"name": "m", "seed": 0}, "deviations": list(deviations)}
    (path / "eval.json").write_text(json.dumps(described))
    (path / "results.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    return tables.read_run(path)


def test_means_pass_at_k_and_costs_by_hand(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        row("a", {"1": [2, 1], "2": [2, 0]}, majority=0.5, stops={"answer": 3, "eos": 1}),
        row("b", {"3": [2, 2]}, tokens_per_trajectory=40.0, majority=1.0),
    )
    seconds = {("code_agent", "a"): 3.0, ("code_agent", "b"): 9.0}
    table = model_tables.build(run, seconds=seconds)
    [record] = table.records
    assert record["accuracy"] == pytest.approx(62.5)  # (25 + 100) / 2
    assert record["pass_at_k"] == {"2": pytest.approx(75.0)}  # ((1 + 0) / 2 + 1) / 2
    assert record["tokens_per_trajectory"] == pytest.approx((4 * 100 + 2 * 40) / 6)
    assert record["seconds_per_trajectory"] == pytest.approx((4 * 3 + 2 * 9) / 6)
    assert record["stops"] == {"answer": 5, "eos": 1}
    assert (record["tasks"], record["questions"], record["answers"]) == (2, 3, 6)
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert shown["tasks of"] == "symbench test"
    assert (shown["avg@2"], shown["pass@2"], shown["constant answer"]) == ("62.5", "75.0", "75.0")
    # Task a is 25 % and moves by 25 sqrt(2); b, of one question, tells nothing and may be 0 or 100.
    assert shown["95 % over questions"] == "0.0 to 80.2"
    assert shown["95 % over tasks"] == "9.5 to 100.0"  # 62.5 - 37.5 sqrt(2)
    assert shown["stops, %"] == "answer 83, eos 17"
    assert (shown["uses code"], shown["tokens"], shown["seconds"]) == ("50", "80", "5.0")


def test_suites_and_splits_stand_apart_for_each_agent(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        row("a", {"1": [1, 1]}),
        row("b", {"2": [1, 0]}, suite="bbh"),
        row("c", {"3": [1, 1]}, split="train"),
        row("a", {"1": [1, 0]}, agent="all_text"),
    )
    table = model_tables.build(run)
    assert [(cells[0], cells[1], cells[4]) for cells in table.rows] == [
        ("code_agent", "test", "50.0"),
        ("code_agent", "symbench test", "100.0"),
        ("code_agent", "bbh test", "0.0"),
        ("code_agent", "symbench train", "100.0"),
        ("all_text", "symbench test", "0.0"),
    ]
    assert "avg@1" in table.columns and not any("pass@" in name for name in table.columns)


def test_the_note_names_what_was_not_done(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        row("a", {"1": [1, 1], "2": [0, 0]}, too_long=1),
        row("b", {"3": [0, 0]}, n=0, correct=0, too_long=1),
        row("c", {"4": [0, 0]}, n=0, correct=0, void=1),
        deviations=("x is not applied",),
    )
    note = model_tables.build(run).note
    assert "does not fit into the cache: 2 questions (a, b)." in note
    assert "their interpreter always failed: c (m)." in note
    assert "m: x is not applied." in note
    [record] = model_tables.build(run).records
    assert record["too_long"] == 1 and record["tasks"] == 1


def test_nothing_but_long_prompts_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prompt fits into the cache; .*--context"):
        make(tmp_path, row("b", {"3": [0, 0]}, n=0, correct=0, too_long=1))
