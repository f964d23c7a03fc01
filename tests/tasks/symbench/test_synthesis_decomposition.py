"""Exchanges: hand-made cases, a second simulator that reads the question, released items."""

import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.synthesis_decomposition import SynthesisDecomposition, trade

TASK = SynthesisDecomposition()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(
    goods: str, start: dict[str, int], *methods: tuple[dict[str, int], dict[str, int]]
) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"goods": goods, "start": start, "methods": methods}),
    )


def from_question(question: str) -> list[int]:
    """The answer from the text alone: change vectors, whole passes, no early end."""
    order = re.search(r"in the order \[([A-Z, ]+)\]", question)
    held = re.search(r"At the start there are (.*)\.", question)
    assert order is not None and held is not None
    goods = order[1].split(", ")
    stock = [0] * len(goods)
    for units, good in re.findall(r"(\d+) units of ([A-Z])", held[1]):
        stock[goods.index(good)] = int(units)
    rules = re.findall(r"^\d+\. pay (.*), receive (.*)$", question, re.MULTILINE)
    for _ in range(400):
        for paid, received in rules:
            cost = [0] * len(goods)
            for units, good in re.findall(r"(\d+) ([A-Z])", paid):
                cost[goods.index(good)] = int(units)
            left = [have - less for have, less in zip(stock, cost, strict=True)]
            if min(left) >= 0:
                for units, good in re.findall(r"(\d+) ([A-Z])", received):
                    left[goods.index(good)] += int(units)
                stock = left
    return stock


def test_methods_take_turns() -> None:
    pair = ({"A": 1, "B": 1}, {"X": 1})
    triple = ({"A": 3}, {"X": 2})
    assert trade({"A": 4, "B": 2}, [pair, triple]) == ({"A": 0, "B": 1, "X": 3}, [1, 1])
    example = item("ABX", {"A": 4, "B": 2}, pair, triple)
    for text in ("[0, 1, 3]", "0 1 3", "(0,1,3)", " [0,1,3]\n"):
        assert TASK.score(example, text).correct, text
    for text in (
        "[2, 0, 2]",  # the first method used twice running
        "[0, 1]",
        "[0, 1, 3, 0]",
        "[1, 0, 3]",
        "013",
        "A=0, B=1, X=3",
        "[0, 1, 3] units",
        "",
    ):
        assert not TASK.score(example, text).correct, text


def test_a_method_that_fails_once_is_tried_again() -> None:
    late = ({"X": 2}, {"Y": 1})
    early = ({"A": 1}, {"X": 1})
    assert trade({"A": 5}, [late, early]) == ({"A": 0, "X": 1, "Y": 2}, [2, 5])


def test_endless_exchanges_are_an_error() -> None:
    with pytest.raises(ValueError, match="never end"):
        trade({"A": 1}, [({"A": 1}, {"A": 1})])


def test_golds_agree_with_a_reader_of_the_question() -> None:
    for example in EXAMPLES:
        gold = TASK.gold(example)
        assert gold is not None and json.loads(gold) == from_question(example.question)
        assert TASK.score(example, f" {gold}\n").correct


def test_released_golds_name_what_the_question_knows(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/synthesis_decomposition.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    items = [TASK.parse_released(i, row["question"], row["solution"]) for i, row in enumerate(rows)]
    lengths = [len(json.loads(it.gold or "[]")) for it in items]
    assert sorted(set(lengths)) == [3, 4, 5]


_FORM = (
    "Method 1: 1 unit of crop A can be exchanged for {}.\nInitially there are 1 unit of crop A\n"
)


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("", {"solution": {"answer": ["1"]}}),
        (_FORM.format("1 unit of product X") + "[remaining_A, obtained_X]", {}),
        (_FORM.format("1 unit of product X") + "[remaining_A, obtained_X]", None),
        (
            _FORM.format("1 unit of product X") + "[remaining_A, obtained_X]",
            {"solution": {"answer": ["1"]}},
        ),
        (_FORM.format("2 units of crop A") + "[remaining_A]", {"solution": {"answer": ["1"]}}),
    ],
)
def test_broken_released_items_are_named(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 7 of synthesis_decomposition"):
        TASK.parse_released(7, question, solution)
