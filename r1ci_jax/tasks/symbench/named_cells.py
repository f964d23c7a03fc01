"""Grids whose cells have names: `C2,3` is the third cell of the second row.

GridWorld1 and BoxNet1_v2 of Code-as-Symbolic-Planner (arXiv 2503.01700) name cells so and list
the neighbors of each.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from r1ci_jax.tasks import answers

Neighbors = dict[str, list[str]]
"""The cells that share a side with each cell."""

_CELL = re.compile(r"C([1-9][0-9]?),([1-9][0-9]?)")
_LARGEST: Final = 30
"""The most rows or columns of a grid that is read; the released grids have at most eight."""

NAMING: Final = """\
A cell is named by C, its row, a comma and its column, counted from 1: C1,1 is the first cell of \
the first row, C1,2 the cell to the right of it, and C2,1 the cell below it."""


def neighbors(rows: int, columns: int) -> Neighbors:
    """Return the neighbors of every cell: left, right, above and below, as far as there are any."""
    return {
        f"C{row},{column}": [
            f"C{r},{c}"
            for r, c in (
                (row, column - 1),
                (row, column + 1),
                (row - 1, column),
                (row + 1, column),
            )
            if 1 <= r <= rows and 1 <= c <= columns
        ]
        for row in range(1, rows + 1)
        for column in range(1, columns + 1)
    }


def format_neighbors(known: Neighbors) -> str:
    """Write one line for each cell: `C1,1: C1,2 C2,1`."""
    return "\n".join(f"{cell}: {' '.join(beside)}" for cell, beside in known.items())


def position(cell: str) -> tuple[int, int]:
    """Return row and column of a cell's name."""
    match = _CELL.fullmatch(cell)
    assert match is not None, f"{cell} is no cell"
    return int(match[1]), int(match[2])


def read_list(text: str) -> list[Any] | None:
    """Parse an answer that is a JSON list, or None.

    Quotation marks may be single ones, as Python prints them, since no name has one in it.
    """
    found = answers.json_value(text, limit=answers.MAX_PLAN_CHARS)
    if found is None and '"' not in text and len(text) <= answers.MAX_PLAN_CHARS:
        found = answers.json_value(text.replace("'", '"'), limit=answers.MAX_PLAN_CHARS)
    return found if isinstance(found, list) else None


def read_size(item: Any) -> tuple[int, int] | None:
    """Return rows and columns of a released item, or None: under `grid`, or beside the others."""
    held = item.get("grid", item) if isinstance(item, dict) else None
    size = (held.get("rows"), held.get("cols")) if isinstance(held, dict) else ()
    sides = [side for side in size if type(side) is int and 1 <= side <= _LARGEST]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def read_cells(values: Any, known: Neighbors) -> list[str] | None:
    """Return the cells of a list, or None if it holds anything else, or a cell twice."""
    if not isinstance(values, list):
        return None
    cells = [value for value in values if isinstance(value, str) and value in known]
    return cells if len(set(cells)) == len(values) else None


def walk(start: str, goal: str) -> Iterator[str]:
    """Yield the cells after `start` of a shortest way to `goal`: along the column, then the row."""
    (row, column), (to_row, to_column) = position(start), position(goal)
    while (row, column) != (to_row, to_column):
        if row != to_row:
            row += 1 if to_row > row else -1
        else:
            column += 1 if to_column > column else -1
        yield f"C{row},{column}"
