"""2048: one tile's way over the grid, against a second simulation that reads the question."""

import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.tile_2048 import (
    RELEASED_REMARKS,
    Tile2048,
    move,
)

TASK = Tile2048()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def gold(example: Example) -> str:
    text = TASK.gold(example)
    assert text is not None
    return text


def item(grid: list[list[int]], row: int, column: int, moves: str) -> Example:
    metadata = {"grid": grid, "row": row, "column": column, "moves": moves}
    return TASK.item(0, "", metadata, None).example


@pytest.mark.parametrize(
    ("grid", "start", "moves", "expected", "effects"),
    [
        ([[2, 0], [0, 0]], (0, 0), "r", [[0, 2], [0, 0]], "m"),
        ([[2, 0], [0, 0]], (0, 0), "ul", [[2, 0], [0, 0]], "--"),  # the edge
        ([[2, 4], [0, 0]], (0, 0), "r", [[2, 4], [0, 0]], "-"),  # blocked
        ([[2, 4], [0, 0]], (0, 0), "rd", [[0, 4], [2, 0]], "-m"),  # the steps go on
        ([[2, 2], [4, 0]], (0, 1), "l", [[4, 0], [4, 0]], "x"),
        ([[2, 2], [4, 0]], (0, 1), "ld", [[0, 0], [8, 0]], "xx"),  # the merged tile moves on
        ([[2, 2], [2, 0]], (0, 1), "ld", [[4, 0], [2, 0]], "x-"),
        ([[0, 2], [2, 0]], (0, 0), "rdd", [[0, 2], [2, 0]], ""),  # nothing there to move
    ],
)
def test_each_rule(
    grid: list[list[int]], start: tuple[int, int], moves: str, expected: object, effects: str
) -> None:
    assert move(grid, *start, moves) == (expected, effects)
    example = item(grid, *start, moves)
    assert TASK.score(example, json.dumps(expected)).correct
    if grid != expected:
        assert not TASK.score(example, json.dumps(grid)).correct


def walk(question: str) -> list[list[int]]:
    """The final grid from the question's text, with cells on the complex plane."""
    block = re.search(r"The grid:\n((?:[\d, ]+\n)+)", question)
    start = re.search(r"in row (\d+), column (\d+) does the steps ([udlr]+)\.", question)
    assert block and start
    rows = [[int(n) for n in line.split(", ")] for line in block[1].splitlines()]
    cells = {complex(c, r): n for r, row in enumerate(rows) for c, n in enumerate(row)}
    here = complex(int(start[2]) - 1, int(start[1]) - 1)
    for step in start[3]:
        there = here + {"u": -1j, "d": 1j, "l": -1, "r": 1}[step]
        if there in cells and (cells[there] == 0 or cells[there] == cells[here]):
            cells[there] += cells.pop(here)
            cells[here], here = 0, there
    return [[cells[complex(c, r)] for c in range(len(rows))] for r in range(len(rows))]


def test_golds_agree_with_a_second_simulation() -> None:
    for example in EXAMPLES:
        assert json.loads(gold(example)) == walk(example.question)
        given = json.loads(example.metadata)
        _, effects = move(given["grid"], given["row"], given["column"], given["moves"])
        assert "x" in effects and "-" in effects and json.loads(gold(example)) != given["grid"]


def test_forms_and_near_misses() -> None:
    for example in EXAMPLES:
        text = gold(example)
        for form in (text.replace(" ", ""), text.replace("], ", "],\n ")):
            assert TASK.score(example, form).correct
        rows = json.loads(text)
        off = json.dumps([[rows[0][0] + 2, *rows[0][1:]], *rows[1:]])
        flat = json.dumps([n for row in rows for n in row])
        near = (off, flat, text[1:-1], f"{text},", f"[{text}]")
        shapes = (json.dumps(rows[:-1]), json.dumps([row[:-1] for row in rows]))
        kinds = (text.replace("0", "0.0"), text.replace("0", "false"), text.replace("0", '"0"'))
        assert not any(TASK.score(example, wrong).correct for wrong in (*near, *shapes, *kinds))


def test_released_tiles_that_are_not_there(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "2048.jsonl").read_text().splitlines()
    still = 0
    for number, row in enumerate(map(json.loads, lines)):
        given = json.loads(
            TASK.parse_released(number, row["question"], row["solution"]).example.metadata
        )
        still += given["grid"][given["row"]][given["column"]] == 0
    assert [still] == list(RELEASED_REMARKS.values()) == [57]


def test_unreadable_released_items_are_reported() -> None:
    question = "number in position (1, 2) using the sequence 'dl':\n0, 16\n4, 2\n\nWhat"
    found = TASK.parse_released(1, question, {"solution": "16, 0\n4, 2"})
    assert found.gold == "[[16, 0], [4, 2]]" and TASK.score(found.example, found.gold).correct
    for broken in (("Hello", {"solution": "2"}), (question, None), (question, {"solution": "a"})):
        with pytest.raises(UserError, match="released item 4 of 2048"):
            TASK.parse_released(4, *broken)
