"""Runs of letters: golds against a count by regular expressions, the scorer against near misses."""

import json
import pathlib
import re
import time

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import statistical_counting

TASK = statistical_counting.StatisticalCounting()


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def solve(question: str) -> int:
    """The total from the question's text alone."""
    (string,) = re.findall(r"^[A-H]+$", question, re.MULTILINE)
    rules = re.findall(r"^- a run of (\d) or more ([A-H]): (\d+) points?$", question, re.MULTILINE)
    assert {letter for _, letter, _ in rules} >= set(string)
    return sum(
        int(points) * len(re.findall(f"(?<!{letter}){letter}{{{shortest},}}", string))
        for shortest, letter, points in rules
    )


def test_golds_agree_with_an_independent_count() -> None:
    for example in examples(60):
        assert TASK.gold(example) == str(solve(example.question))


@pytest.mark.parametrize(
    ("string", "total"),
    [
        ("A", 0),
        ("AA", 1),
        ("AAAA", 1),  # one long run earns once
        ("AABAA", 2),
        ("BB", 0),  # too short
        ("BBB", 10),
        ("ABBBAA", 11),
        ("CACAC", 0),
        ("CCBBBBAACC", 211),
    ],
)
def test_hand_made_strings(string: str, total: int) -> None:
    rules = {"A": [2, 1], "B": [3, 10], "C": [2, 100]}
    example = TASK.item(0, "?", {"rules": rules, "string": string}, None).example
    assert correct(example, str(total)) and correct(example, f" {total}.0\n")
    wrong = (total + 1, total - 1, f"{total} points", f"{total}, {total}", f"{total}.5")
    assert not any(correct(example, str(text)) for text in (*wrong, f"{total} or {total}"))


def test_golds_score_and_cheap_answers_do_not() -> None:
    drawn = examples()
    golds = [str(TASK.gold(example)) for example in drawn]
    for i, (example, gold) in enumerate(zip(drawn, golds, strict=True)):
        assert correct(example, gold) and correct(example, f" {gold}\n")
        cheap = ("", "0", "None", example.question, f"{gold}\n{gold}", f"{gold}\n0", "1234")
        for text in (*cheap, golds[i - 1]):
            assert text == gold or not correct(example, text)


@pytest.mark.parametrize("level", TASK.difficulties)
def test_levels_have_many_questions_with_spread_answers(level: int) -> None:
    drawn = [TASK.generate(i, 0, level) for i in range(450)]
    assert len({example.question for example in drawn}) >= 400
    golds = [example.answer for example in drawn]
    assert max(map(golds.count, golds)) <= 0.12 * len(golds)


def test_released_golds(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "statistical_counting.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    items = [TASK.released(i, r["question"], r["solution"]) for i, r in enumerate(rows)]
    assert (len(items), sum(correct(item.example, str(item.gold)) for item in items)) == (100, 100)
    assert statistical_counting.RELEASED_DEFECTS == {}
    for row, read in zip(rows, items, strict=True):
        metadata = json.loads(read.example.metadata)
        assert metadata["string"] == row["solution"]["sequence"]
        assert len(metadata["rules"]) == len(row["solution"]["rules"])


def test_released_items_of_another_form_are_refused() -> None:
    rule = "1. If there are two or more consecutive A's, add 1 to the total score.\n"
    for question in ("", rule, f"{rule}What is the total score of the string ABA?"):
        with pytest.raises(UserError, match="released item 7 of statistical_counting"):
            TASK.released(7, question, {"solution": 0})


def test_released_items_without_an_answer_are_refused(shared_data: pathlib.Path) -> None:
    path = shared_data / "symbench" / "statistical_counting.jsonl"
    question = json.loads(path.read_text().partition("\n")[0])["question"]
    for solution in ({}, [], None, {"solution": None}):
        with pytest.raises(UserError, match="released item 7 of statistical_counting"):
            TASK.released(7, question, solution)


def test_hostile_answers_are_wrong_at_once() -> None:
    example = TASK.generate(0, 0, 5)
    hostile = ("9**9**9**9", '__import__("os").system("x")', "[" * 10**7, "1" * 10**7, "1" * 399)
    start = time.perf_counter()
    assert not any(correct(example, text) for text in hostile)
    assert time.perf_counter() - start < 0.5
