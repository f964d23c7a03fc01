"""Lead a robot over a grid with obstacles to all goals, cell by cell.

The game is GridWorld1 of Code-as-Symbolic-Planner (arXiv 2503.01700): its sizes, its rules, an
answer of cells without a limit on their number.
"""

import collections
import dataclasses
import json
import random
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import named_cells, symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""No known defects: the release stores no answers, and a route exists for every item."""

_LEVELS: Final = {
    1: ((4, 4, 4, 5),),
    2: ((4, 5, 4, 5), (5, 5, 4, 5)),
    3: ((5, 5, 6, 8),),
    4: ((5, 6, 7, 10), (6, 6, 7, 10)),
    5: ((6, 7, 7, 10),),
}
"""Rows, columns, goals and obstacles: the configurations of the release, one chosen at random."""

_QUESTION: Final = """\
A robot stands on a grid of {rows} rows and {columns} columns. {naming}

The robot starts in {start}.
Goals: {goals}
Obstacles: {obstacles}

The neighbors of each cell:
{neighbors}

In one step the robot moves from its cell to a neighbor of it, that is up, down, left or right. It \
must never enter a cell with an obstacle; it may enter a cell more than once. It has to visit all \
{count} goals, in any order, and may stop anywhere. The number of steps is not limited.

Answer with a JSON list of the cells in which the robot is, one after the other. The first is the \
cell in which it starts, and each following one is a neighbor of the one before, for example
["C1,1", "C2,1", "C2,2"]"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid with what stands on it; cells are named as in `named_cells`."""

    rows: int
    columns: int
    start: str
    goals: list[str]
    obstacles: list[str]

    @property
    def neighbors(self) -> named_cells.Neighbors:
        """The neighbors of each cell, obstacles among them."""
        return named_cells.neighbors(self.rows, self.columns)


def route(grid: Grid) -> list[str] | None:
    """Return the fewest cells from the start over all goals; None: a goal cannot be reached.

    The search is breadth-first over pairs of the robot's cell and the goals that it has visited.
    """
    beside, blocked, wanted = grid.neighbors, set(grid.obstacles), frozenset(grid.goals)
    first = grid.start, wanted & {grid.start}
    came: dict[tuple[str, frozenset[str]], tuple[str, frozenset[str]] | None] = {first: None}
    queue = collections.deque([first])
    while queue:
        here = queue.popleft()
        if here[1] == wanted:
            cells: list[str] = []
            state: tuple[str, frozenset[str]] | None = here
            while state is not None:
                cells.append(state[0])
                state = came[state]
            return cells[::-1]
        for cell in beside[here[0]]:
            after = cell, here[1] | (wanted & {cell})
            if cell not in blocked and after not in came:
                came[after] = here
                queue.append(after)
    return None


def _scatter(rng: random.Random, rows: int, columns: int, goals: int, obstacles: int) -> Grid:
    chosen = rng.sample([*named_cells.neighbors(rows, columns)], obstacles + goals + 1)
    return Grid(
        rows=rows,
        columns=columns,
        start=chosen[-1],
        goals=chosen[obstacles:-1],
        obstacles=chosen[:obstacles],
    )


def _question(grid: Grid) -> str:
    return _QUESTION.format(
        rows=grid.rows,
        columns=grid.columns,
        naming=named_cells.NAMING,
        start=grid.start,
        goals=json.dumps(grid.goals),
        obstacles=json.dumps(grid.obstacles),
        neighbors=named_cells.format_neighbors(grid.neighbors),
        count=len(grid.goals),
    )


class GridWorld(symbench_task.SymbenchTask):
    """Lead a robot over a grid with obstacles to all goals, cell by cell."""

    name = "gridworld"
    kind = "planning"
    answer_format = 'a JSON list of the cells of the route: ["C1,1", "C2,1"]'
    many_answers = True
    released_files = "GridWorld1_dataset/gridworld_sample_*.json"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        while True:
            grid = _scatter(rng, *rng.choice(_LEVELS[difficulty]))
            cells = route(grid)
            if cells is not None:
                break
        return Puzzle(
            question=_question(grid), answer=json.dumps(cells), metadata=dataclasses.asdict(grid)
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        cells = named_cells.read_list(answer_text)
        if not cells or not all(isinstance(cell, str) for cell in cells):
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a JSON list of cells"
            )
        grid = Grid(**json.loads(example.metadata))
        if cells[0] != grid.start:
            return symbench_task.wrong_verdict(f"the first cell is not {grid.start}")
        beside, blocked = grid.neighbors, set(grid.obstacles)
        here = grid.start
        for cell in cells[1:]:
            shown = answers.format_answer(cell)
            if cell not in beside[here]:
                return symbench_task.wrong_verdict(f"{shown} is not a neighbor of {here}")
            if cell in blocked:
                return symbench_task.wrong_verdict(f"{shown} is an obstacle")
            here = cell
        left = set(grid.goals) - set(cells)
        if left:
            return symbench_task.wrong_verdict(f"{len(left)} goals are not visited")
        return symbench_task.right_verdict(f"all goals are visited in {len(cells) - 1} steps")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        """Read one item.

        Args:
            number: The number of the item.
            question: Empty, as the release stores none; the question is then generated.
            solution: An object with `initial_robot`, `goals`, `obstacles`, and `rows` and `cols`,
                of which the last two may lie under `grid`.

        Raises:
            UserError: The grid cannot be read, or a goal cannot be reached.
        """
        size = named_cells.read_size(solution)
        if size is None:
            raise self.malformed(number, "rows and columns are missing")
        known = named_cells.neighbors(*size)
        start, goals, obstacles = (
            named_cells.read_cells(values, known)
            for values in (
                [symbench_task.read_field(solution, "initial_robot")],
                symbench_task.read_field(solution, "goals"),
                symbench_task.read_field(solution, "obstacles"),
            )
        )
        if not start or not goals or obstacles is None or set(obstacles) & {*start, *goals}:
            raise self.malformed(number, "start, goals and obstacles cannot be read")
        grid = Grid(rows=size[0], columns=size[1], start=start[0], goals=goals, obstacles=obstacles)
        if route(grid) is None:
            raise self.malformed(number, "a goal cannot be reached")
        return self.item(number, question or _question(grid), dataclasses.asdict(grid), None)

    @override
    def solve(self, example: Example) -> str | None:
        cells = route(Grid(**json.loads(example.metadata)))
        return None if cells is None else json.dumps(cells)
