"""Choose cells of a number grid so that every row and column obeys a rule."""

import dataclasses
import json
import math
import random
import re
from collections.abc import Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench.symbench_task import (
    ReleasedItem,
    SymbenchTask,
    read_field,
    right_verdict,
    wrong_verdict,
)

RELEASED_DEFECTS: Final[dict[str, int]] = {
    "the stored cells break the stated rule of a row or column": 13
}

type Cell = tuple[int, int]
"""Row and column, from 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    size: int
    chosen: int
    largest: int
    """The largest number under the product rule: it is below `chosen`, so negatives are needed."""
    rectangles: int
    """The number of rectangles that form the planted negative cells."""


_LEVELS: Final = {
    1: _Level(size=4, chosen=6, largest=5, rectangles=1),
    2: _Level(size=5, chosen=9, largest=7, rectangles=1),
    3: _Level(size=6, chosen=13, largest=10, rectangles=2),
    4: _Level(size=7, chosen=18, largest=14, rectangles=2),
    5: _Level(size=8, chosen=24, largest=18, rectangles=3),
}

_TRIES: Final = 30
"""The number of attempts to plant a sum puzzle; the one with the lowest limit is kept."""

_PAIR = re.compile(r"\s*([0-9]{1,2})\s+([0-9]{1,2})\s*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules that the chosen cells must obey."""

    grid: list[list[int]]
    chosen: int
    first: list[int]
    """A cell that must be among the chosen ones."""
    limit: int | None
    """Highest sum of a row or column; None where products have to be positive."""

    def fault(self, cells: Sequence[Cell]) -> str | None:
        """Return the first rule that these cells break."""
        size = len(self.grid)
        if any(row >= size or column >= size for row, column in cells):
            return "a cell outside the grid"
        if len(set(cells)) != len(cells):
            return "a cell is named twice"
        if len(cells) != self.chosen:
            return f"{len(cells)} cells instead of {self.chosen}"
        row, column = self.first
        if (row, column) not in cells:
            return f"cell {row} {column} is not chosen"
        numbers = [self.grid[row][column] for row, column in cells]
        if len(set(numbers)) != len(numbers):
            return "two chosen cells hold the same number"
        for line in range(size):
            for name, side in (("row", 0), ("column", 1)):
                held = [n for n, cell in zip(numbers, cells, strict=True) if cell[side] == line]
                if self.limit is None and math.prod(held) <= 0:
                    return f"the product of {name} {line} is not above 0"
                if self.limit is not None and sum(held) > self.limit:
                    return f"the sum of {name} {line} is above {self.limit}"
        return None


def _highest_sum(numbers: dict[Cell, int], size: int) -> int:
    sums = [0] * (2 * size)
    for (row, column), number in numbers.items():
        sums[row] += number
        sums[size + column] += number
    return max(sums)


def _sum_rules(level: _Level, rng: random.Random) -> tuple[Rules, list[Cell]]:
    """Plant distinct small numbers whose sums are even; the limit is the highest sum."""
    size, highest = level.size, level.chosen + 3
    first = (0, size - 1)
    others = [(r, c) for r in range(size) for c in range(size) if (r, c) != first]
    best: dict[Cell, int] = {}
    for _ in range(_TRIES):
        cells = [first, *rng.sample(others, level.chosen - 1)]
        planted = dict(zip(cells, rng.sample(range(1, highest + 1), level.chosen), strict=True))
        if not best or _highest_sum(planted, size) < _highest_sum(best, size):
            best = planted
    grid = [[best.get((r, c)) or rng.randint(1, highest) for c in range(size)] for r in range(size)]
    limit = _highest_sum(best, size)
    rules = Rules(grid=grid, chosen=level.chosen, first=list(first), limit=limit)
    return rules, sorted(best)


def _negative_cells(level: _Level, rng: random.Random) -> set[Cell]:
    """Choose cells, an even number per row and column: corners of rectangles, added mod 2."""
    cells: set[Cell] = set()
    for _ in range(level.rectangles):
        rows, columns = rng.sample(range(level.size), 2), rng.sample(range(level.size), 2)
        cells ^= {(row, column) for row in rows for column in columns}
    return cells


def _product_rules(level: _Level, rng: random.Random) -> tuple[Rules, list[Cell]]:
    """Plant negative numbers in pairs along rows and columns, and positive ones anywhere."""
    size, largest = level.size, level.largest
    first = (0, size - 1)
    # With fewer negatives there are not enough distinct positive numbers.
    while len(negative := _negative_cells(level, rng)) < level.chosen - largest:
        pass
    cells = sorted(negative | {first})
    others = [(r, c) for r in range(size) for c in range(size) if (r, c) not in cells]
    cells = sorted(cells + rng.sample(others, level.chosen - len(cells)))
    below = iter(rng.sample(range(-largest, 0), len(negative)))
    above = iter(rng.sample(range(1, largest + 1), level.chosen - len(negative)))
    planted = {cell: next(below) if cell in negative else next(above) for cell in cells}
    values = [number for number in range(-largest, largest + 1) if number]
    grid = [[planted.get((r, c)) or rng.choice(values) for c in range(size)] for r in range(size)]
    return Rules(grid=grid, chosen=level.chosen, first=list(first), limit=None), cells


def _question(rules: Rules) -> str:
    size = len(rules.grid)
    if rules.limit is None:
        law = (
            "- in every row and every column, the product of the chosen numbers is greater than 0 "
            "(a row or column without a chosen cell is fine)"
        )
    else:
        law = (
            "- in every row and every column, the sum of the chosen numbers is at most "
            f"{rules.limit} (a row or column without a chosen cell is fine)"
        )
    rows = "\n".join(", ".join(map(str, row)) for row in rules.grid)
    row, column = rules.first
    return (
        f"Here is a grid of {size} rows and {size} columns; numbers of a row are parted by "
        f"commas:\n{rows}\n\n"
        "A cell is named by its row and its column, both counted from 0 at the top left: the cell "
        f"at the top right is {row} {column}. Choose {rules.chosen} different cells so that\n"
        f"- the cell {row} {column}, which holds {rules.grid[row][column]}, is one of them,\n"
        "- the chosen cells hold different numbers: no number is chosen twice,\n"
        f"{law}.\n\n"
        "Answer with the chosen cells in any order, each as its row and its column parted by a "
        "blank, and the cells parted by commas. For example, 1 0, 2 2, 0 1 would name three cells."
    )


def _read(text: str) -> list[Cell] | None:
    found = answers.matches(text, _PAIR, brackets=("[]",))
    return None if found is None else [(int(cell[1]), int(cell[2])) for cell in found]


class LogicPuzzle(SymbenchTask):
    """Choose cells of a number grid."""

    name = "logic_puzzle"
    kind = "planning"
    answer_format = "cells as `row column` from 0, parted by commas, in any order"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        planted = _sum_rules if rng.random() < 0.5 else _product_rules
        rules, cells = planted(level, rng)
        return Puzzle(
            question=_question(rules),
            answer=", ".join(f"{row} {column}" for row, column in cells),
            metadata=dataclasses.asdict(rules),
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        cells = _read(answer_text)
        if cells is None:
            return wrong_verdict(f"{answers.format_answer(answer_text)} is not a list of cells")
        fault = Rules(**json.loads(example.metadata)).fault(cells)
        return right_verdict("every rule holds") if fault is None else wrong_verdict(fault)

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        count = re.search(r"select (\d+) different numbers", question)
        first = re.search(
            r"square \((\d+),(\d+)\) as the first selected number\n((?:[-\d, ]+\n)+)", question
        )
        limit = re.search(r"less than or equal to (\d+)", question)
        if count is None or first is None or (limit is None and "product" not in question):
            raise self.malformed(number, "the rules cannot be read from the question")
        grid = [[int(n) for n in row.split(",")] for row in first[3].strip().split("\n")]
        cell = [int(first[1]), int(first[2])]
        if any(len(row) != len(grid) for row in grid) or max(cell) >= len(grid):
            raise self.malformed(number, "the grid is not square or lacks the first cell")
        stored = read_field(solution)
        if not isinstance(stored, list) or not all(isinstance(c, list) for c in stored):
            raise self.malformed(number, "no list of cells in the solution")
        rules = Rules(
            grid=grid,
            chosen=int(count[1]),
            first=cell,
            limit=int(limit[1]) if limit is not None else None,
        )
        gold = ", ".join(" ".join(map(str, c)) for c in stored)
        return self.item(number, question, dataclasses.asdict(rules), gold)

    @override
    def explain_gold(self, item: ReleasedItem) -> str | None:
        rules = Rules(**json.loads(item.example.metadata))
        cells = _read(item.gold or "")
        size = len(rules.grid)
        if cells is None or any(row >= size or column >= size for row, column in cells):
            return None
        numbers = [rules.grid[row][column] for row, column in cells]
        if len(cells) != rules.chosen or len({*numbers}) < len(numbers):
            return "the stored cells are too few, too many or hold a number twice"
        if tuple(rules.first) not in cells:
            return "the stored cells lack the one that must be chosen"
        lines: dict[tuple[int, int], list[int]] = {}
        for (row, column), number in zip(cells, numbers, strict=True):
            lines.setdefault((0, row), []).append(number)
            lines.setdefault((1, column), []).append(number)
        if rules.limit is None:
            is_broken = any(sum(n < 0 for n in held) % 2 or 0 in held for held in lines.values())
        else:
            is_broken = any(sum(held) > rules.limit for held in lines.values())
        return next(iter(RELEASED_DEFECTS)) if is_broken else None
