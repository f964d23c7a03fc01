"""Runs of letters: golds against a count by regular expressions, the scorer against near misses."""

import json
import pathlib
import re

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


def test_released_strings_and_rules_are_read(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "statistical_counting.jsonl").read_text().splitlines()
    for number, row in enumerate(map(json.loads, lines)):
        read = TASK.parse_released(number, row["question"], row["solution"])
        metadata = json.loads(read.example.metadata)
        assert metadata["string"] == row["solution"]["sequence"]
        assert len(metadata["rules"]) == len(row["solution"]["rules"])


def test_released_items_of_another_form_are_refused() -> None:
    rule = "1. If there are two or more consecutive A's, add 1 to the total score.\n"
    for question in ("", rule, f"{rule}What is the total score of the string ABA?"):
        with pytest.raises(UserError, match="released item 7 of statistical_counting"):
            TASK.parse_released(7, question, {"solution": 0})
