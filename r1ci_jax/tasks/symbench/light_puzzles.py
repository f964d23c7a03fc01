"""Press buttons that switch lights of a grid, and list the lights that are on at the end."""

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
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

RELEASED_DEFECTS: Final[dict[str, int]] = {}

type Cell = tuple[int, int]
"""Row and column, from 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    size: int
    buttons: int
    presses: int


_LEVELS: Final = {
    1: _Level(size=3, buttons=2, presses=2),
    2: _Level(size=4, buttons=3, presses=3),
    3: _Level(size=5, buttons=3, presses=4),
    4: _Level(size=6, buttons=4, presses=6),
    5: _Level(size=7, buttons=5, presses=9),
}

_PRESS = re.compile(r"Round \d+: Button ([A-Z])")
_BUTTON = re.compile(r"Button ([A-Z]) controls the lights at (.+)")
_CELL = re.compile(r'\["(\d+)", "(\d+)"\]')


def press(
    grid: Sequence[str], buttons: Mapping[str, Sequence[Sequence[int]]], presses: Sequence[str]
) -> list[int]:
    """Return the lights after all presses, row by row."""
    lights = [[int(light) for light in row] for row in grid]
    for name in presses:
        for row, column in buttons[name]:
            lights[row - 1][column - 1] ^= 1
    return [light for row in lights for light in row]


def _question(grid: Sequence[str], buttons: Mapping[str, Sequence[Cell]], presses: str) -> str:
    size = len(grid)
    wiring = "\n".join(
        f"Button {name}: {', '.join(f'({row}, {column})' for row, column in cells)}"
        for name, cells in buttons.items()
    )
    rows = "\n".join(grid)
    return (
        f"A panel has {size} rows of {size} lights; 1 is a light that is on, 0 one that is off. "
        f"At first the lights are:\n{rows}\n\n"
        "Each button is wired to some of the lights, given as (row, column). Rows are counted "
        "from 1 at the top, columns from 1 at the left. Pressing a button switches each of its "
        "lights: those that are on go off, those that are off go on. All other lights stay as "
        f"they are.\n{wiring}\n\n"
        f"The buttons are pressed in this order: {', '.join(presses)}.\n\n"
        f"Which lights are on after the last press? Answer with {size * size} numbers 0 or 1 "
        "parted by commas: the rows from top to bottom, each from left to right. For a panel of 2 "
        "rows of 2 lights of which only the top right one is on, the answer would be 0,1,0,0."
    )


class LightPuzzles(SymbenchTask):
    """Follow the lights of a panel."""

    name = "light_puzzles"
    kind = "execution"
    answer_format = "0s and 1s parted by commas, row by row"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        size = level.size
        cells = [(row, column) for row in range(1, size + 1) for column in range(1, size + 1)]
        while True:
            grid = ["".join(rng.choices("01", k=size)) for _ in range(size)]
            buttons = {
                name: sorted(rng.sample(cells, rng.randint(2, len(cells) // 2)))
                for name in "ABCDE"[: level.buttons]
            }
            presses = "".join(rng.choices(sorted(buttons), k=level.presses))
            after = press(grid, buttons, presses)
            # Presses that cancel out would make the panel itself the answer.
            if "".join(map(str, after)) != "".join(grid):
                break
        return Puzzle(
            question=_question(grid, buttons, presses),
            answer=",".join(map(str, after)),
            metadata={"lights": after},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        expected = json.loads(example.metadata)["lights"]
        given = answers.integers(answer_text)
        if given is None or not set(given) <= {0, 1}:
            return wrong_verdict(f"{answers.format_answer(answer_text)} is not a list of 0s and 1s")
        if len(given) != len(expected):
            return wrong_verdict(f"{len(given)} lights instead of {len(expected)}")
        differing = sum(a != b for a, b in zip(given, expected, strict=True))
        if differing:
            return wrong_verdict(f"{differing} of {len(expected)} lights are wrong")
        return right_verdict(f"all {len(expected)} lights are right")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        shape = re.search(r"Given n=(\d+) .*:\n((?:[01]+\n)+)", question)
        if shape is None:
            raise self.malformed(number, "no grid in the question")
        grid = shape[2].split()
        buttons = {
            name: [(int(row), int(column)) for row, column in _CELL.findall(cells)]
            for name, cells in _BUTTON.findall(question)
        }
        presses = _PRESS.findall(question)
        size = int(shape[1])
        inside = all(1 <= place <= size for cells in buttons.values() for c in cells for place in c)
        square = len(grid) == size and all(len(row) == size for row in grid)
        if not (presses and square and inside and set(presses) <= set(buttons)):
            raise self.malformed(number, "grid, buttons and rounds do not fit each other")
        stored = read_field(solution)
        if not isinstance(stored, list):
            raise self.malformed(number, "no list of lights in the solution")
        # The question alone decides; the stored answer has to agree with it.
        metadata = {"lights": press(grid, buttons, presses)}
        return self.item(number, question, metadata, ",".join(map(str, stored)))
