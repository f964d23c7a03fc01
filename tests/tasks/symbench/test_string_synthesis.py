"""Block synthesis: hand-made cases, a second simulator that reads the question, released items."""

import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.string_synthesis import StringSynthesis, synthesise

TASK = StringSynthesis()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(start: dict[str, int], *methods: tuple[dict[str, int], dict[str, int]]) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"start": start, "methods": methods}),
    )


def from_question(question: str) -> str:
    """The answer from the text alone: whole-number division in place of single uses."""
    kinds = question.split("nine kinds:\n")[1].splitlines()[0].split()
    stock = dict.fromkeys(kinds, 0)
    held = re.search(r"At the start you have (.*), and no other", question)
    assert held is not None
    for number, kind in re.findall(r"(\d+) (\S\w\S)", held[1]):
        stock[kind] += int(number)
    rules = re.findall(r"^\d+\. (.*) -> (.*)$", question, re.MULTILINE)
    sides = [
        [[(int(n), k) for n, k in re.findall(r"(\d+) (\S\w\S)", side)] for side in rule]
        for rule in rules
    ]
    for _ in range(100):
        for left, right in sides:
            times = min(stock[kind] // number for number, kind in left)
            for number, kind in left:
                stock[kind] -= number * times
            for number, kind in right:
                stock[kind] += number * times
    return " ".join(str(stock[kind]) for kind in kinds)


def test_a_method_is_exhausted_before_the_next() -> None:
    pair = ({"[A]": 1, "[B]": 1}, {"{A}": 1})
    single = ({"[A]": 2}, {"{B}": 1})
    assert synthesise({"[A]": 4, "[B]": 2, "[C]": 0}, [pair, single]) == (
        {"[A]": 0, "[B]": 0, "[C]": 0, "{A}": 2, "{B}": 1},
        [2, 1],
    )
    # Cycling one use at a time would leave {A} 1, [B] 1 here.
    example = item({"[A]": 4, "[B]": 2, "[C]": 0}, pair, single)
    assert TASK.score(example, "0 0 0 2 1 0 0 0 0").correct
    assert TASK.score(example, "[0, 0, 0, 2, 1, 0, 0, 0, 0]").correct
    for text in (
        "1 1 0 1 1 0 0 0 0",  # one use a time
        "0 0 0 2 1 0 0 0",
        "000210000",
        "0 0 0 2 1 0 0 0 0 0",
        "0 0 0 1 2 0 0 0 0",
        "2 {A} 1 {B}",
        "0 0 0 2 1 0 0 0 0 blocks",
        "",
    ):
        assert not TASK.score(example, text).correct, text


def test_rounds_repeat() -> None:
    # Method 1 works only on what method 2 has made.
    late = ({"{A}": 2}, {"(A)": 1})
    early = ({"[A]": 1}, {"{A}": 1})
    example = item({"[A]": 5, "[B]": 0, "[C]": 1}, late, early)
    assert TASK.score(example, "0 0 1 1 0 0 2 0 0").correct
    assert not TASK.score(example, "0 0 1 5 0 0 0 0 0").correct


def test_golds_agree_with_a_reader_of_the_question() -> None:
    for example in EXAMPLES:
        gold = TASK.gold(example)
        assert gold == from_question(example.question)
        assert gold is not None and TASK.score(example, f" {gold}\n").correct


def test_something_is_left_in_every_released_item(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/string_synthesis.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    items = [TASK.parse_released(i, row["question"], row["solution"]) for i, row in enumerate(rows)]
    assert not any(TASK.score(it.example, "0 0 0 0 0 0 0 0 0").correct for it in items)


@pytest.mark.parametrize("solution", [{}, None, {"final_counts": "0"}])
def test_broken_released_items_are_named(solution: object) -> None:
    with pytest.raises(UserError, match="released item 7 of string_synthesis"):
        TASK.parse_released(7, "we now have 3 [A], 1 [B], and 2 [C]", solution)
