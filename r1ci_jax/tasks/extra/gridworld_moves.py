"""Lead a robot over a drawn grid with obstacles to all goals, move by move.

The game is this project's own; `gridworld` is the published one.
"""

import collections
import json
import random
import re
from typing import Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import ProceduralTask, Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Spot = tuple[int, int]
"""Row and column, from 0."""

_MOVES: Final = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_LEVELS: Final = {
    1: (5, 5, 6, 2),
    2: (6, 7, 12, 3),
    3: (8, 8, 20, 4),
    4: (10, 11, 36, 6),
    5: (13, 14, 62, 8),
}
"""Rows, columns, obstacles, goals."""
_SLACK: Final = 4
"""One move in this many may be wasted."""
_MOVE = re.compile(rf"\s*(['\"]?)({'|'.join(_MOVES)})\1\s*")

_QUESTION: Final = """\
A robot stands on a grid of {rows} rows and {columns} columns. R is the robot, G a goal, # an \
obstacle and . a free cell:
{picture}

The robot knows four moves, each to the neighbouring cell: up (to the row above), down (to the \
row below), left and right. It must never leave the grid or enter a cell with an obstacle; it may \
enter a cell more than once. A goal counts as visited as soon as the robot enters its cell.

Find moves that visit all {goals} goals, in any order, with at most {limit} moves in all. The \
robot may stop anywhere.

Answer with the list of moves in their order, separated by commas, for example [left, left, up]; \
the brackets, and quotation marks around the words, may be there or not."""


def _cells(grid: list[str], mark: str) -> list[Spot]:
    return [(r, c) for r, row in enumerate(grid) for c, cell in enumerate(row) if cell == mark]


def _free(grid: list[str], spot: Spot) -> bool:
    row, column = spot
    return 0 <= row < len(grid) and 0 <= column < len(grid[row]) and grid[row][column] != "#"


def _routes(grid: list[str], start: Spot) -> dict[Spot, list[str]]:
    """Return a shortest route to every reachable cell."""
    ways: dict[Spot, list[str]] = {start: []}
    queue = collections.deque([start])
    while queue:
        here = queue.popleft()
        for move, (down, right) in _MOVES.items():
            after = here[0] + down, here[1] + right
            if after not in ways and _free(grid, after):
                ways[after] = [*ways[here], move]
                queue.append(after)
    return ways


def tour(grid: list[str]) -> list[str] | None:
    """Return the fewest moves from the robot over all goals; None: a goal cannot be reached."""
    (robot,), goals = _cells(grid, "R"), _cells(grid, "G")
    first = _routes(grid, robot)
    if any(goal not in first for goal in goals):
        return None
    between = [_routes(grid, goal) for goal in goals]
    # For growing sets of goals, find the best route that visits a set and ends at one of its goals.
    best = {(1 << last, last): first[goal] for last, goal in enumerate(goals)}
    for visited in range(1, 1 << len(goals)):
        for last in range(len(goals)):
            way = best.get((visited, last))
            for after, goal in enumerate(goals):
                if way is None or visited >> after & 1:
                    continue
                leg, known = between[last][goal], best.get((visited | 1 << after, after))
                if known is None or len(way) + len(leg) < len(known):
                    best[visited | 1 << after, after] = way + leg
    everything = (1 << len(goals)) - 1
    return min((best[everything, last] for last in range(len(goals))), key=len)


def _scatter(rng: random.Random, rows: int, columns: int, obstacles: int, goals: int) -> list[str]:
    marks = "R" + "G" * goals + "#" * obstacles
    cells = list(marks.ljust(rows * columns, "."))
    rng.shuffle(cells)
    return ["".join(cells[row * columns : (row + 1) * columns]) for row in range(rows)]


def _read(text: str) -> list[str] | None:
    """Parse the moves, or return None if the text is anything else."""
    found = answers.matches(text, _MOVE, limit=answers.MAX_PLAN_CHARS)
    return None if found is None else [move[2] for move in found]


class GridWorldMoves(ProceduralTask):
    """Lead a robot over a drawn grid with obstacles to all goals, move by move."""

    name = "gridworld_moves"
    suite = "extra"
    split = "train"
    kind = "planning"
    answer_format = "a list of the moves up, down, left and right"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        rows, columns, obstacles, goals = _LEVELS[difficulty]
        while True:
            grid = _scatter(rng, rows, columns, obstacles, goals)
            moves = tour(grid)
            if moves is not None and len(moves) >= rows:
                break
        limit = len(moves) + len(moves) // _SLACK
        return Puzzle(
            question=_QUESTION.format(
                rows=rows, columns=columns, picture="\n".join(grid), goals=goals, limit=limit
            ),
            answer=f"[{', '.join(moves)}]",
            metadata={"grid": grid, "limit": limit},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        moves = _read(answer_text)
        if moves is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of moves"
            )
        metadata = json.loads(example.metadata)
        grid, limit = metadata["grid"], metadata["limit"]
        if len(moves) > limit:
            return symbench_task.wrong_verdict(f"{len(moves)} moves, not at most {limit}")
        (here,), left = _cells(grid, "R"), set(_cells(grid, "G"))
        for number, move in enumerate(moves, 1):
            down, right = _MOVES[move]
            here = here[0] + down, here[1] + right
            if not _free(grid, here):
                return symbench_task.wrong_verdict(
                    f"move {number} ({move}) leaves the grid or hits an obstacle"
                )
            left.discard(here)
        if left:
            return symbench_task.wrong_verdict(f"{len(left)} goals are not visited")
        return symbench_task.right_verdict(f"all goals are visited in {len(moves)} moves")
