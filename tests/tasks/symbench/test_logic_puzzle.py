"""Logic puzzles: each rule by hand, the scorer against a plain reading of the question."""

import collections
import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import logic_puzzle

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = logic_puzzle.LogicPuzzle()


def ruled(limit: int | None, grid: list[list[int]], chosen: int) -> Example:
    rules = logic_puzzle.Rules(grid=grid, chosen=chosen, first=[0, len(grid) - 1], limit=limit)
    return Example(
        id="x", task=TASK.name, question="?", answer="", difficulty=1,
        metadata=json.dumps(dataclasses.asdict(rules)),
    )  # fmt: skip


SUM = ruled(6, [[1, 2, 3], [4, 5, 6], [3, 1, 2]], 3)
PRODUCT = ruled(None, [[-1, 2, -3], [4, -5, 6], [-2, 1, -4]], 4)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (SUM, "0 0, 0 2, 1 1"),
        (SUM, "0 2,1 1,0 0"),
        (SUM, " [1 1,  0 2 , 0 0]\n"),
        (SUM, "0 2, 1 1, 2 1"),
        (PRODUCT, "0 0, 0 2, 2 0, 2 2"),
    ],
)
def test_right_answers(example: Example, text: str) -> None:
    assert TASK.score(example, text).correct


@pytest.mark.parametrize(
    ("example", "text", "reason"),
    [
        (SUM, "0 2, 1 2, 2 1", "the sum of column 2"),
        (SUM, "0 2, 1 0, 1 1", "the sum of row 1"),
        (SUM, "0 2, 2 0, 1 1", "hold the same number"),
        (SUM, "0 0, 1 1, 2 2", "cell 0 2 is not chosen"),
        (SUM, "0 2, 1 1", "2 cells instead of 3"),
        (SUM, "0 2, 1 1, 0 0, 2 2", "4 cells instead of 3"),
        (SUM, "0 2, 0 2, 1 1", "named twice"),
        (SUM, "0 2, 1 1, 0 3", "outside the grid"),
        (SUM, "0 2, 1 1, 3 0", "outside the grid"),
        (SUM, "(0 2), (1 1), (0 0)", "not a list"),
        (SUM, "(0,2), (1,1), (0,0)", "not a list"),
        (SUM, "0,2,1,1,0,0", "not a list"),
        (SUM, "0 2 1 1 0 0", "not a list"),
        (SUM, "0 2, 1 1, 0 0,", "not a list"),
        (SUM, "0 2, 1 1, 0 -3", "not a list"),
        (SUM, "0 2, 1 1, 0 0\n0 2, 1 1, 0 0", "not a list"),
        (SUM, "3, 5, 1", "not a list"),
        (PRODUCT, "0 2, 1 0, 1 2, 2 1", "the product of row 0"),
        (PRODUCT, "0 0, 0 2, 1 0, 2 1", "the product of column 0"),
        (PRODUCT, "0 0, 0 2, 2 0, 1 2", "the product of row 2"),
    ],
)
def test_wrong_answers(example: Example, text: str, reason: str) -> None:
    verdict = TASK.score(example, text)
    assert not verdict.correct and reason in verdict.reason


type Chosen = tuple[tuple[int, int], ...]


def plainly(question: str) -> tuple[Callable[[Chosen], bool], int, int]:
    """The rules as the question states them: signs are counted, never multiplied."""
    rows = question.partition("\n\n")[0].split("\n")[1:]
    grid = {(r, c): int(n) for r, row in enumerate(rows) for c, n in enumerate(row.split(", "))}
    count = re.search(r"Choose (\d+) different cells", question)
    first = re.search(r"the cell (\d) (\d), which holds (-?\d+), is", question)
    limit = re.search(r"is at most (\d+)", question)
    assert count is not None and first is not None
    forced = (int(first[1]), int(first[2]))
    assert grid[forced] == int(first[3])

    def kept(chosen: Chosen) -> bool:
        if forced not in chosen or len(chosen) != int(count[1]):
            return False
        sums: collections.Counter[str] = collections.Counter()
        minus: collections.Counter[str] = collections.Counter()
        for r, c in chosen:
            for line in (f"row{r}", f"column{c}"):
                sums[line] += grid[r, c]
                minus[line] += grid[r, c] < 0
        different = len({grid[cell] for cell in chosen}) == len(chosen)
        if limit is None:
            return different and all(n % 2 == 0 for n in minus.values())
        return different and max(sums.values()) <= int(limit[1])

    return kept, len(rows), int(count[1])


def test_scorer_agrees_with_brute_force_on_whole_puzzles() -> None:
    kinds = set()
    for index in range(4):
        example = TASK.generate(index, 11, 1)
        kept, size, count = plainly(example.question)
        kinds.add(json.loads(example.metadata)["limit"] is None)
        cells = [(r, c) for r in range(size) for c in range(size)]
        right = set()
        for chosen in itertools.combinations(cells, count):
            text = ", ".join(f"{r} {c}" for r, c in chosen)
            if TASK.score(example, text).correct:
                right.add(text)
            assert (text in right) == kept(chosen)
        assert TASK.gold(example) in right
        assert len(right) < 400  # of 8,008
    assert kinds == {True, False}


def test_golds_keep_the_rules_of_the_question() -> None:
    for example in check.sample_examples(TASK, 3, 100):
        kept, _, _ = plainly(example.question)
        named = [cell.split(" ") for cell in (TASK.gold(example) or "").split(", ")]
        assert kept(tuple((int(row), int(column)) for row, column in named))
        grid = json.loads(example.metadata)["grid"]
        assert all(number for row in grid for number in row)


def test_choosing_every_cell_is_wrong(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        size = len(json.loads(example.metadata)["grid"])
        everything = ", ".join(f"{r} {c}" for r in range(size) for c in range(size))
        assert not TASK.score(example, everything).correct


def test_levels_grow_and_both_rules_are_as_common(drawn: Drawn) -> None:
    sizes = []
    for level in TASK.difficulties:
        rules = [json.loads(example.metadata) for example in drawn(TASK, level, 400)]
        sizes.append(rules[0]["chosen"])
        assert 0.4 < sum(one["limit"] is None for one in rules) / 400 < 0.6
    assert sizes == [6, 9, 13, 18, 24]


def test_positive_numbers_alone_never_suffice_under_the_product_rule() -> None:
    for example in check.sample_examples(TASK, 5, 100):
        rules = json.loads(example.metadata)
        if rules["limit"] is None:
            positive = {number for row in rules["grid"] for number in row if number > 0}
            assert len(positive) < rules["chosen"]


def test_released_items(shared_data: pathlib.Path) -> None:
    rows = (shared_data / "symbench" / "logic_puzzle.jsonl").read_text().splitlines()
    drawn = [json.loads(row) for row in rows]
    items = [
        TASK.parse_released(n, row["question"], row["solution"]) for n, row in enumerate(drawn)
    ]
    verdicts = [TASK.score(item.example, item.gold or "") for item in items]
    faults = [verdict.reason for verdict in verdicts if not verdict.correct]
    assert (len(items), len(faults)) == (100, 13)
    assert logic_puzzle.RELEASED_DEFECTS == {
        "the stored cells break the stated rule of a row or column": 13
    }
    assert sum(reason.startswith("the sum of") for reason in faults) == 11
    assert sum(reason.startswith("the product of") for reason in faults) == 2
    for row, item in zip(drawn, items, strict=True):
        assert json.loads(item.example.metadata)["grid"] == row["solution"]["grid"]


def test_malformed_items_are_reported() -> None:
    good = (
        "you must select 1 different numbers. The sum should be less than or equal to 4. "
        "Using the number 2 in the square (0,1) as the first selected number\n1, 2\n3, 1\n\n"
    )
    assert TASK.parse_released(7, good, {"solution": [[0, 1]]}).gold == "0 1"
    for question, solution in (
        ("", {"solution": [[0, 1]]}),
        (good, {"solution": "0 1"}),
        (good, None),
        (good.replace("3, 1", "3, 1, 2"), {"solution": [[0, 1]]}),
        (good.replace("(0,1)", "(0,2)"), {"solution": [[0, 1]]}),
        (good.replace("less than", "about"), {"solution": [[0, 1]]}),
    ):
        with pytest.raises(UserError, match="released item 7 of logic_puzzle"):
            TASK.parse_released(7, question, solution)
