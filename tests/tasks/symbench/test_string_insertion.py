"""String insertion: golds against regular expressions, the scorer against near misses."""

import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import string_insertion

TASK = string_insertion.StringInsertion()
TIMES = {"once": 1, "twice": 2, "3 times": 3}


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def item(string: str, rules: dict[str, str], rounds: int = 1) -> Example:
    drawn = {"rounds": rounds, "rules": rules, "string": string}
    return TASK.item(0, "?", drawn, None).example


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def solve(question: str) -> str:
    """The result from the question's text alone: overlapping matches, filled from the right."""
    rules = re.findall(r"^- behind each occurrence of ([A-E]+), insert ([A-E])$", question, re.M)
    found = re.search(r"Apply T (once|twice|3 times).* to the string ([A-E]+)\.$", question, re.M)
    assert found and rules
    string = found[2]
    for _ in range(TIMES[found[1]]):
        ends = [
            (hit.end(1), letter)
            for piece, letter in rules
            for hit in re.finditer(f"(?=({piece}))", string)
        ]
        assert ends and len({end for end, _ in ends}) == len(ends)
        for end, letter in sorted(ends, reverse=True):
            string = string[:end] + letter + string[end:]
    return string


def test_golds_agree_with_regular_expressions() -> None:
    for example in examples(60):
        assert TASK.gold(example) == solve(example.question)


@pytest.mark.parametrize(
    ("string", "rules", "rounds", "expected"),
    [
        ("DEABC", {"ABC": "D"}, 1, "DEABCD"),
        ("AAAA", {"AAA": "B"}, 1, "AAABAB"),  # overlapping occurrences
        ("ABCB", {"ABC": "B", "BCB": "A"}, 1, "ABCBBA"),  # of different rules
        ("ABC", {"ABC": "A", "BCA": "B"}, 1, "ABCA"),  # an inserted letter calls for nothing
        ("ABC", {"ABC": "A", "BCA": "B"}, 2, "ABCAAB"),  # before the next round
        ("AB", {"ABC": "A"}, 1, "AB"),
    ],
)
def test_hand_made_strings(string: str, rules: dict[str, str], rounds: int, expected: str) -> None:
    example = item(string, rules, rounds)
    assert correct(example, expected)
    near = {expected[:-1], expected + "A", expected[::-1], expected.lower(), f"{expected}!", string}
    assert not any(correct(example, text) for text in sorted(near - {expected}))


def test_forms_of_an_answer() -> None:
    example = item("ABC", {"ABC": "D"})
    for text in ("ABCD", " ABCD\n", '"ABCD"', "'ABCD'"):
        assert correct(example, text)
    for text in ("A B C D", "ABCD ABCD", "ABCD\nABCD", "ABCD or A", '"ABCD', "[ABCD]", '""ABCD""'):
        assert not correct(example, text)


def test_the_string_at_the_start_is_wrong() -> None:
    for example in examples():
        assert not correct(example, json.loads(example.metadata)["string"])


def test_released_strings_and_rules_are_read(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "string_insertion.jsonl").read_text().splitlines()
    for number, row in enumerate(map(json.loads, lines)):
        read = TASK.parse_released(number, row["question"], row["solution"])
        metadata = json.loads(read.example.metadata)
        assert metadata["string"] == row["solution"]["original_string"]
        assert len(metadata["rules"]) == 5


def test_released_items_of_another_form_are_refused() -> None:
    rule = "1. If there is a substring {} in the string, insert the character A after that.\n"
    asked = "Given the string ABC, what will it be?"
    mixed = rule.format("AB") + rule.format("ABC") + asked
    for question in ("", asked, rule.format("AB"), mixed):
        with pytest.raises(UserError, match="released item 7 of string_insertion"):
            TASK.parse_released(7, question, {"modified_string": "ABC"})
