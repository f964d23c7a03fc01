"""Machines and parts: golds against vectors read from the text, the scorer against near misses."""

import itertools
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import string_splitting
from r1ci_jax.tasks.symbench.string_splitting import Amounts, Method

TASK = string_splitting.StringSplitting()
RELEASED: list[Method] = [
    ({"A": 1}, {"X": 2, "Y": 1}),
    ({"B": 2}, {"X": 1}),
    ({"C": 2}, {"Y": 1}),
    ({"B": 1, "C": 1}, {"A": 1}),
    ({"X": 1, "Y": 1}, {"Z": 1}),
]


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def item(start: Amounts, methods: list[Method]) -> Example:
    return TASK.item(0, "?", {"methods": methods, "start": start}, None).example


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def vector(text: str) -> list[int]:
    amounts = {thing: int(amount) for amount, thing in re.findall(r"(\d+) ([ABCXYZ])\b", text)}
    return [amounts.get(thing, 0) for thing in "ABCXYZ"]


def solve(question: str) -> str:
    """The end from the question's text alone: turns without end until a whole round idles."""
    found = re.search(
        r"has (\d+) machines of type A, (\d+) of type B and (\d+) of type C", question
    )
    methods = [
        (vector(takes), vector(gives))
        for takes, gives in re.findall(r"^\d\. (.*) -> (.*)$", question, re.MULTILINE)
    ]
    assert found and len(methods) >= 5
    have = [*map(int, found.groups()), 0, 0, 0]
    idle = 0
    for takes, gives in itertools.cycle(methods):
        after = [h - t for h, t in zip(have, takes, strict=True)]
        if min(after) < 0:
            idle += 1
        else:
            idle = 0
            have = [a + g for a, g in zip(after, gives, strict=True)]
        if idle == len(methods):
            return ", ".join(map(str, have))
    raise AssertionError


def test_golds_agree_with_an_independent_simulation() -> None:
    for example in examples(40):
        assert TASK.gold(example) == solve(example.question)


@pytest.mark.parametrize(
    ("start", "methods", "end"),
    [
        # once per turn: method 2 gets a B although method 1 could take them all
        ({"B": 3}, [({"B": 1}, {"X": 1}), ({"B": 1}, {"Y": 1})], [0, 0, 0, 2, 1, 0]),
        # passed over where one of two things is missing
        ({"A": 1, "B": 2}, [({"A": 1, "B": 1}, {"Z": 1})], [0, 1, 0, 0, 0, 1]),
        # what a method yields is there for the next one, and for the next round
        ({"A": 1}, [({"X": 1}, {"Y": 1}), ({"A": 1}, {"X": 1})], [0, 0, 0, 0, 1, 0]),
        ({"B": 1}, [({"B": 2}, {"X": 1})], [0, 1, 0, 0, 0, 0]),
        ({"A": 2, "B": 2, "C": 3}, RELEASED, [0, 0, 1, 2, 0, 3]),
        ({"A": 3, "B": 3, "C": 3}, RELEASED, [0, 0, 0, 4, 0, 5]),
    ],
)
def test_hand_made_workshops(start: Amounts, methods: list[Method], end: list[int]) -> None:
    example = item(start, methods)
    assert correct(example, str(end))
    for spot in range(6):
        for change in (-1, 1):
            other = [*end[:spot], end[spot] + change, *end[spot + 1 :]]
            assert not correct(example, str(other))


def test_forms_of_an_answer() -> None:
    example = item({"A": 1, "B": 10}, [({"A": 1}, {"X": 2})])
    for text in ("0, 10, 0, 2, 0, 0", "[0,10,0,2,0,0]", " (0, 10, 0, 2, 0, 0)\n", "0 10 0 2 0 0"):
        assert correct(example, text)
    wrong = ("0, 10, 0, 2, 0", "0, 10, 0, 2, 0, 0, 0", "0100200", "0, 10, 0, 2, 0, 0;", "A=0, B=10")
    for text in (
        *wrong,
        "0, 10, 0, 2, 0, 0 or 1",
        "0, 10, 0, 2, 0, 0\n0",
        '["0","10","0","2","0","0"]',
    ):
        assert not correct(example, text)


def test_released_items_of_another_form_are_refused() -> None:
    start = "there are 2 units of Machine A, 2 units of Machine B, and 3 units of Machine C"
    for question in ("", start, f"Method 1: machine A is dismantled into part X.\n{start}"):
        with pytest.raises(UserError, match="released item 7 of string_splitting"):
            TASK.parse_released(7, question, {"expected_answer": ["0"]})
