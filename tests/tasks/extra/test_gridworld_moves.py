"""Grid world with moves: every rule by hand, another search against the tours."""

import itertools
import json
import re

import pytest

from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.extra.gridworld_moves import GridWorldMoves, tour

TASK = GridWorldMoves()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]

SMALL = ["R#G", "..G", "#.."]


def item(grid: list[str], limit: int = 9) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"grid": grid, "limit": limit}),
    )


def fewest_moves(grid: list[str]) -> int | None:
    """Breadth-first over cell and visited goals together, layer by layer."""
    cells = {(r, c): mark for r, row in enumerate(grid) for c, mark in enumerate(row)}
    goals = frozenset(cell for cell, mark in cells.items() if mark == "G")
    robot = next(cell for cell, mark in cells.items() if mark == "R")
    layer = {(robot, frozenset[tuple[int, int]]())}
    seen = set(layer)
    for moves in itertools.count():
        if any(visited == goals for _, visited in layer):
            return moves
        if not layer:
            return None
        after = {
            ((r + dr, c + dc), visited | ({(r + dr, c + dc)} & goals))
            for (r, c), visited in layer
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if cells.get((r + dr, c + dc), "#") != "#"
        }
        layer = after - seen
        seen |= layer
    raise AssertionError


def replay(question: str, answer: str) -> bool:
    """Judge a tour from the question's text, on one string with a frame of obstacles."""
    rows = re.findall(r"^[.#RG]+$", question, re.MULTILINE)
    limit = re.search(r"at most (\d+) moves", question)
    width = len(rows[0]) + 1
    flat = "#" * width + "#".join(rows) + "#" * (width + 1)
    here = flat.index("R")
    steps = {"up": -width, "down": width, "left": -1, "right": 1}
    visited = set[int]()
    moves = re.findall(r"\w+", answer)
    for move in moves:
        here += steps[move]
        if flat[here] == "#":
            return False
        visited.add(here)
    return (
        limit is not None
        and len(moves) <= int(limit[1])
        and sum(flat[cell] == "G" for cell in visited) == flat.count("G")
    )


@pytest.mark.parametrize(
    "text",
    [
        "[down, right, right, up]",
        "down,right,right,up",
        " ( down , right,right,up ) \n",
        '["down", "right", "right", "up"]',
        "['down', 'right', 'right', 'up']",
        "[down, right, right, up, down]",  # on after the last goal
        "[down, right, left, right, right, up]",
        "[down, right, down, right, up, up]",
    ],
)
def test_right_tours(text: str) -> None:
    assert TASK.score(item(SMALL), text).correct


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[down, right, right]",  # one goal is left
        "[right, right, down]",  # through an obstacle
        "[down, down, right, right, up, up]",  # through the other
        "[up, down, down, right, right, up]",  # off the grid
        "[left, right, down, right, right, up]",
        "[down, right, right, up, up]",
        "[down, right, right, up, right]",
        "down right right up",
        "d, r, r, u",
        "Down, Right, Right, Up",
        "[down, right, right, up",
        "[down, right, right, up,]",
        "[[down, right, right, up]]",
        "[down, right, right, 'up]",
        "[down, right, right, up]\n[down, right, right, up]",
        "[down, right, right, up] or up",
        "[down, right, right, up];",
        "down -> right -> right -> up",
    ],
)
def test_wrong_tours(text: str) -> None:
    assert not TASK.score(item(SMALL), text).correct


def test_the_limit_counts() -> None:
    moves = "down, right, left, right, right, up"
    assert TASK.score(item(SMALL, 6), moves).correct
    assert not TASK.score(item(SMALL, 5), moves).correct


def test_tours_are_shortest() -> None:
    for example in (e for e in EXAMPLES if e.difficulty <= 3):
        grid = json.loads(example.metadata)["grid"]
        moves = tour(grid)
        assert moves is not None and len(moves) == fewest_moves(grid)
    assert tour(["R#G"]) is None and fewest_moves(["R#G"]) is None
    assert tour(SMALL) == ["down", "right", "right", "up"]


def test_golds_replay() -> None:
    for example in EXAMPLES:
        assert replay(example.question, TASK.gold(example) or "")


def test_tours_of_other_grids_score_only_where_they_replay() -> None:
    golds = [TASK.gold(example) or "" for example in EXAMPLES]
    for position, example in enumerate(EXAMPLES):
        other = golds[position - 1]
        assert TASK.score(example, other).correct == replay(example.question, other)
