"""Text against code by task, from results made by hand."""

from pathlib import Path
from typing import Any

import pytest

from experiments import table_text_code
from experiments.table_text_code import judge, subtract
from r1ci_jax.cli.main import main
from r1ci_jax.evaluate import intervals
from r1ci_jax.evaluate.intervals import Counts, Estimate
from tests.experiments.test_table_bases import evaluation
from tests.experiments.test_table_bases import row as one_row


def row(task: str, agent: str, correct: int, n: int = 20, **more: Any) -> dict:
    return one_row("m", task, correct, agent, n=n, **more)


def estimate(correct: int, n: int) -> Estimate:
    return intervals.mean_of_tasks([[Counts(1, 1)] * correct + [Counts(1, 0)] * (n - correct)])


@pytest.mark.parametrize(
    ("code", "words", "wanted"),
    [  # Newcombe 1998, Table II, method 10
        ((56, 70), (48, 80), (0.2000, 0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.6000, 0.1705, 0.8090)),
        ((5, 56), (0, 29), (0.0893, -0.0381, 0.1926)),
        ((10, 10), (0, 10), (1.0000, 0.6075, 1.0000)),
    ],
)
def test_the_interval_is_newcombe_s(
    code: tuple[int, int], words: tuple[int, int], wanted: tuple[float, float, float]
) -> None:
    found = subtract(estimate(*code), estimate(*words))
    assert found == pytest.approx([100 * each for each in wanted], abs=0.01)


def test_a_verdict_needs_an_interval_without_zero(tmp_path: Path) -> None:
    counts = {  # task: right in words, right with code, of 20
        "revived": (0, 9),
        "better": (4, 15),
        "hardly": (0, 2),
        "dead": (0, 0),
        "spoiled": (12, 1),
    }
    rows = [row(task, "all_text", words) for task, (words, _) in counts.items()]
    rows += [row(task, "all_code", code) for task, (_, code) in counts.items()]
    table = table_text_code.build([evaluation(tmp_path / "m", "m", *rows)])
    said = {record["task"]: record["verdict"] for record in table.records}
    assert said == {
        "revived": "code alone",
        "better": "code better",
        "hardly": "no difference shown",
        "dead": "neither",
        "spoiled": "words better",
    }
    assert set(said.values()) == set(table_text_code.VERDICTS)
    # The largest difference first.
    assert [cells[1] for cells in table.rows][::4] == ["better", "spoiled"]
    by_task = {record["task"]: record for record in table.records}
    assert by_task["better"]["percents"] == {"all_text": 20.0, "all_code": 75.0}
    assert by_task["better"]["difference"] == pytest.approx(55.0)
    assert "m, 5 test tasks: all_code 27.0 (" in table.note
    assert "code alone 1, code better 1, no difference shown 1, neither 1, words better 1" in (
        table.note
    )


def test_zero_against_zero_says_nothing() -> None:
    nothing = subtract(estimate(0, 5), estimate(0, 5))
    assert nothing.low < 0 < nothing.high
    assert judge(0.0, 0.0, nothing) == "neither"


def test_all_code_is_compared_where_there_is_one(tmp_path: Path) -> None:
    rows = [row("x", "all_text", 2), row("x", "code_agent", 12), row("y", "all_text", 1)]
    table = table_text_code.build([evaluation(tmp_path / "agent", "m", *rows)])
    assert [record["task"] for record in table.records] == ["x"]  # y has no answer with code
    assert table.records[0]["difference"] == pytest.approx(50.0)
    rows.append(row("x", "all_code", 7))
    table = table_text_code.build([evaluation(tmp_path / "code", "m", *rows)])
    assert table.records[0]["difference"] == pytest.approx(25.0)
    assert table.columns[4:7] == ("all_text", "all_code", "code_agent")


def test_a_model_without_words_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation(tmp_path / "m", "m", row("x", "code_agent", 3))
    assert main(["table", "text_code", "--runs", str(tmp_path / "m")]) == 0
    assert "m: left out, it needs all_text and one of" in " ".join(capsys.readouterr().out.split())
