"""Logical equations: relations by hand, golds against a search over all permutations."""

import itertools
import json
import pathlib
import random
import re
from collections.abc import Callable, Sequence

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import logical_equation
from r1ci_jax.tasks.symbench.logical_equation import Relation

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = logical_equation.LogicalEquation()


def asking(values: list[int], *lines: str) -> Example:
    """An item in the released form, where letters need not stand for different numbers."""
    listed = ", ".join(map(str, values))
    text = f"each representing one of the numbers {listed}. It holds that:\n"
    text += "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))
    return TASK.parse_released(0, text, [0]).example


def strictly(example: Example) -> Example:
    metadata = json.dumps({**json.loads(example.metadata), "different": True})
    return Example(
        id="x", task=TASK.name, question="?", answer="", difficulty=1, metadata=metadata
    )  # fmt: skip


THREE = asking([2, 3, 9], "B - A = 7", "B = 3.0C")


@pytest.mark.parametrize("text", ["[2, 9, 3]", "2,9,3", " 2 9 3\n", "(2, 9, 3)"])
def test_right_answers(text: str) -> None:
    assert TASK.score(THREE, text).correct
    assert TASK.score(strictly(THREE), text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[9, 2, 3]", "B - A = 7 does not hold"),
        ("[2, 9, 2]", "B = 3.0 * C does not hold"),
        ("[2, 9]", "2 numbers instead of 3"),
        ("[2, 9, 3, 3]", "4 numbers instead of 3"),
        ("[2, 9, 4]", "no letter may stand for"),
        ("A=2, B=9, C=3", "not a list"),
        ("[2, 9, 3]\n[2, 9, 3]", "not a list"),
        ("[2, 9, 3] or [2, 3, 9]", "not a list"),
        ("[2.5, 9, 3]", "not a list"),
        ("[[2, 9, 3]]", "not a list"),
    ],
)
def test_wrong_answers(text: str, reason: str) -> None:
    verdict = TASK.score(THREE, text)
    assert not verdict.correct and reason in verdict.reason


def test_letters_stand_for_different_numbers_where_the_question_says_so() -> None:
    example = asking([2, 3, 9], "A + B = 6")
    assert TASK.score(example, "3, 3, 9").correct
    verdict = TASK.score(strictly(example), "3, 3, 9")
    assert not verdict.correct and "same number" in verdict.reason


@pytest.mark.parametrize(
    ("line", "holding", "failing"),
    [
        ("A + B = 11", (2, 9), (3, 9)),
        ("A - B = -7", (2, 9), (9, 2)),
        ("A = 1.5B", (3, 2), (2, 3)),
        ("A = 4.5B", (9, 2), (9, 3)),
        ("A = 2.4B", (36, 15), (37, 15)),
        ("A > B", (3, 2), (2, 3)),
        ("A > B", (3, 2), (3, 3)),
    ],
)
def test_each_kind_of_relation(
    line: str, holding: tuple[int, int], failing: tuple[int, int]
) -> None:
    values = sorted({*holding, *failing, 100})
    example = asking(values, line)
    rest = ", 100" * (len(values) - 2)
    assert TASK.score(example, f"{holding[0]}, {holding[1]}{rest}").correct
    assert not TASK.score(example, f"{failing[0]}, {failing[1]}{rest}").correct


_LINE = re.compile(r"^([A-Z]) (?:([+-]) ([A-Z]) = (-?\d+)|= (\d+) \* ([A-Z])|> ([A-Z]))$", re.M)


def by_permutations(question: str) -> list[list[int]]:
    """All solutions, from the question's text alone."""
    listed = re.search(r"stand for the \d+ numbers ([\d, ]+)\.", question)
    assert listed is not None
    values = [int(value) for value in listed[1].split(",")]
    lines = _LINE.findall(question)
    assert len(lines) == len(question.split("known that\n")[1].split("\n\n")[0].split("\n"))
    found = []
    for order in itertools.permutations(values):
        of = dict(zip("ABCDEFGHIJKLM", order, strict=False))
        for x, sign, y, total, factor, multiplied, below in lines:
            if sign:
                kept = of[x] + (of[y] if sign == "+" else -of[y]) == int(total)
            else:
                kept = of[x] == int(factor) * of[multiplied] if factor else of[x] > of[below]
            if not kept:
                break
        else:
            found.append(list(order))
    return found


def test_golds_are_the_only_solutions() -> None:
    for level, count in ((1, 30), (2, 20), (3, 3)):
        for index in range(count):
            example = TASK.generate(index, 7, level)
            assert by_permutations(example.question) == [json.loads(example.answer)]


def test_no_relation_can_be_left_out() -> None:
    for example in check.sample_examples(TASK, 2, 25):
        asked = json.loads(example.metadata)
        relations = [Relation(**fields) for fields in asked["relations"]]
        assert len(list(logical_equation.solutions(asked["values"], relations))) == 1
        for known in relations:
            rest = [kept for kept in relations if kept is not known]
            two = itertools.islice(logical_equation.solutions(asked["values"], rest), 2)
            assert len(list(two)) == 2


def simply(values: Sequence[int], relations: Sequence[Relation]) -> list[list[int]]:
    return [
        list(order)
        for order in itertools.permutations(values)
        if all(known.holds(order[known.x], order[known.y]) for known in relations)
    ]


def test_the_solver_finds_every_solution() -> None:
    rng = random.Random(4)
    counts = set()
    for _ in range(60):
        values = rng.sample(range(1, 12), 5)
        relations = []
        for _ in range(rng.randint(0, 4)):
            x, y = rng.sample(range(5), 2)
            kind, number = rng.choice([("+", "12"), ("-", "3"), ("*", "2"), (">", "")])
            relations.append(Relation(x=x, kind=kind, y=y, number=number))
        found = list(logical_equation.solutions(values, relations))
        assert sorted(found) == sorted(simply(values, relations))
        counts.add(len(found))
    assert {0, 1, 2, 60, 120} <= counts


def test_the_numbers_in_their_order_are_wrong(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        options = str(json.loads(example.metadata)["values"])
        assert options == TASK.gold(example) or not TASK.score(example, options).correct


def test_letters_grow_with_the_level() -> None:
    golds = [json.loads(TASK.generate(0, 0, level).answer) for level in TASK.difficulties]
    assert [len(gold) for gold in golds] == [4, 6, 8, 10, 13]


def test_released_items(shared_data: pathlib.Path) -> None:
    rows = (shared_data / "symbench" / "logical_equation.jsonl").read_text().splitlines()
    drawn = [json.loads(row) for row in rows]
    items = [
        TASK.parse_released(n, row["question"], row["solution"]) for n, row in enumerate(drawn)
    ]
    scored = sum(TASK.score(item.example, item.gold or "").correct for item in items)
    assert (len(items), scored, logical_equation.RELEASED_DEFECTS) == (75, 75, {})
    for row, item in zip(drawn, items, strict=True):
        asked = json.loads(item.example.metadata)
        letters, relations = map(int, row["id"].split("_")[-3:-1])
        assert (len(asked["values"]), len(asked["relations"])) == (letters, relations)
    assert (
        TASK.parse_released(0, drawn[0]["question"], {"solution": drawn[0]["solution"]}) == items[0]
    )


def test_malformed_items_are_reported() -> None:
    good = "each representing one of the numbers 2, 3. It holds that:\n1. A > B\n"
    assert TASK.parse_released(7, good, [3, 2]).gold == "[3, 2]"
    for question, solution in (
        ("", [3, 2]),
        (good, None),
        (good, {"solution": "3, 2"}),
        (good.replace("A > B", "A * B = 6"), [3, 2]),
        (good.replace("A > B", "A + B = 1..5"), [3, 2]),
        (good.replace("A > B", "A > C"), [3, 2]),
        (good.replace("1. A > B", ""), [3, 2]),
    ):
        with pytest.raises(UserError, match="released item 7 of logical_equation"):
            TASK.parse_released(7, question, solution)
