"""Slide a window over a grid of numbers and take the maximum or the average at each position."""

import dataclasses
import json
import random
import re
from fractions import Fraction
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

type Grid = list[list[int]]

# The averages that the release's own checker cannot read, because it expects integers, are right.
RELEASED_DEFECTS: Final[dict[str, int]] = {}

MAX_ANSWER_CHARS: Final = 2000
"""The limit fits 49 averages as Python prints them, which take a thousand characters."""

_PLACES: Final = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    side: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    kinds: tuple[str, ...] = ("max", "average")


_LEVELS: Final = {
    1: _Level(side=(3, 4), window=(2, 2), stride=(1, 1), kinds=("max",)),
    2: _Level(side=(4, 5), window=(2, 2), stride=(1, 1)),
    3: _Level(side=(5, 6), window=(2, 3), stride=(1, 1)),
    4: _Level(side=(6, 7), window=(2, 3), stride=(1, 2)),
    5: _Level(side=(8, 9), window=(3, 4), stride=(1, 2)),
}


def pool(grid: Grid, window: int, stride: int, kind: str) -> list[Fraction]:
    """Return the exact values of all positions of the window, row by row."""
    rows, columns = len(grid), len(grid[0])
    values: list[Fraction] = []
    for top in range(0, rows - window + 1, stride):
        for left in range(0, columns - window + 1, stride):
            cells = [cell for row in grid[top : top + window] for cell in row[left : left + window]]
            values.append(
                Fraction(max(cells)) if kind == "max" else Fraction(sum(cells), len(cells))
            )
    return values


class Pooling(symbench_task.SymbenchTask):
    """Max pooling and average pooling."""

    name = "pooling"
    kind = "execution"
    answer_format = "the pooled values row by row, parted by commas; averages to two decimal places"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        side, window, stride = (
            rng.randint(*span) for span in (level.side, level.window, level.stride)
        )
        kind = rng.choice(level.kinds)
        grid = [[rng.randint(-50, 99) for _ in range(side)] for _ in range(side)]
        values = pool(grid, window, stride, kind)
        return Puzzle(
            question=_question(grid, window, stride, kind),
            answer=",".join(map(_format_value, values)),
            metadata={"grid": grid, "window": window, "stride": stride, "kind": kind},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        found = answers.split_parts(answer_text, limit=MAX_ANSWER_CHARS)
        if found is None:
            return symbench_task.wrong_verdict("the answer is too long")
        metadata = json.loads(example.metadata)
        expected = pool(metadata["grid"], metadata["window"], metadata["stride"], metadata["kind"])
        if len(found) != len(expected):
            return symbench_task.wrong_verdict(f"{len(found)} values, not {len(expected)}")
        for place, (part, exact) in enumerate(zip(found, expected, strict=True), start=1):
            if not answers.rounds_to(exact, part, places=_PLACES):
                return symbench_task.wrong_verdict(
                    f"value {place} is {answers.format_answer(part)}, not {_format_value(exact)}"
                )
        return symbench_task.right_verdict(f"all {len(expected)} values are right")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        asked = re.search(
            r"perform (max|average) pooling .*?([0-9])\*[0-9] sliding window:\s*\n"
            r"(.+?)\nFor example",
            question,
            re.DOTALL,
        )
        if asked is None:
            raise self.malformed(number, "no grid in the question")
        rows = [answers.integers(line) for line in asked[3].splitlines()]
        grid = [row for row in rows if row is not None]
        if len(grid) != len(rows) or any(len(row) != len(grid) for row in grid):
            raise self.malformed(number, "the grid is not square")
        values = symbench_task.read_field(solution)
        if not isinstance(values, list) or not all(isinstance(row, list) for row in values):
            raise self.malformed(number, "no rows of pooled values")
        # The release never states the stride of the window: its golds use every position.
        metadata = {"grid": grid, "window": int(asked[2]), "stride": 1, "kind": asked[1]}
        return self.item(
            number, question, metadata, ",".join(str(value) for row in values for value in row)
        )


def _format_value(value: Fraction) -> str:
    return str(value) if value.is_integer() else f"{float(value):.{_PLACES}f}"


def _question(grid: Grid, window: int, stride: int, kind: str) -> str:
    rows = "\n".join(", ".join(map(str, row)) for row in grid)
    step = "one cell" if stride == 1 else f"{stride} cells"
    taken = "largest number" if kind == "max" else "average of the numbers"
    if kind == "max":
        written = "A result with the rows 5 -6 and 7 8 would be written 5,-6,7,8."
    else:
        written = (
            f"Write averages as decimal numbers, either exactly or rounded to {_PLACES} decimal "
            "places or more. A result with the rows 5 -0.33 and 7 8.5 would be written "
            "5,-0.33,7,8.5."
        )
    return (
        f"This is a grid of {len(grid)} rows and {len(grid)} columns of integers:\n\n{rows}\n\n"
        f"A window that covers {window} rows and {window} columns is placed on the grid, first in "
        f"the top left corner. It moves to the right by {step} at a time; at the end of a row of "
        f"places it goes back to the left edge and moves down by {step}. Only places where the "
        f"whole window lies on the grid count. For each place, take the {taken} under the window. "
        "These values form a new, smaller grid in the order of their places.\n\n"
        "Answer with all values of the new grid as one flat list, row by row from the top and each "
        f"row from left to right, with a comma between values. {written}"
    )
