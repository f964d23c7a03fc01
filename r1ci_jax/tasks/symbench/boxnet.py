"""Move boxes over a grid that has a robot arm in every cell, state by state.

The game is BoxNet1_v2 of Code-as-Symbolic-Planner (arXiv 2503.01700): its sizes, its rules, an
answer of states. CodeSteer's older game of colored boxes is `boxnet_actions`.
"""

import itertools
import json
import random
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import named_cells, symbench_task

State = dict[str, str]
"""The cell of every box."""

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""No known defects of items: the release stores no answers, and boxes never obstruct each other.

The files have one: see `released_items.last_entry`.
"""

_LEVELS: Final = {
    1: ((2, 6, 3, 5),),
    2: ((2, 8, 3, 5), (2, 8, 4, 6)),
    3: ((3, 6, 4, 6),),
    4: ((4, 6, 4, 6), (4, 8, 4, 6)),
    5: ((5, 5, 4, 8),),
}
"""Rows, columns, fewest and most boxes: the configurations of the release, one chosen at random."""

_QUESTION: Final = """\
{count} boxes lie on a grid of {rows} rows and {columns} columns. {naming} Each cell has one robot \
arm, which moves boxes from its own cell to a neighboring cell. A cell has room for any number of \
boxes.

The neighbors of each cell:
{neighbors}

The boxes at the start: {start}
The goal of each box: {goal}

Make a plan that brings every box to its goal: a list of states, one for every point in time. A \
state names the cell of each box.
- The first state is the start. In the last state every box is in its goal cell.
- There are at least two states. Their number is not limited.
- From one state to the next, every box either stays in its cell or moves to a neighbor of it.
- An arm moves one box at a time: of several boxes in the same cell, at most one may leave it from \
one state to the next. Boxes of different cells may move at the same time.

Answer with the plan as a JSON list of objects, for example
[{{"box1": "C1,2", "box2": "C2,3"}}, {{"box1": "C1,3", "box2": "C2,3"}}]"""


def plan(start: State, goal: State) -> list[State]:
    """Move all boxes at once on shortest ways; of those in one cell the farthest goes first."""
    ways = {box: [*named_cells.walk(start[box], goal[box])] for box in start}
    states = [dict(start)]
    while any(ways.values()):
        after, leaving = dict(states[-1]), set[str]()
        for box in sorted(ways, key=lambda box: -len(ways[box])):
            here = states[-1][box]
            if ways[box] and here not in leaving:
                leaving.add(here)
                after[box] = ways[box].pop(0)
        states.append(after)
    return states if len(states) > 1 else states * 2


def _question(rows: int, columns: int, start: State, goal: State) -> str:
    return _QUESTION.format(
        count=len(start),
        rows=rows,
        columns=columns,
        naming=named_cells.NAMING,
        neighbors=named_cells.format_neighbors(named_cells.neighbors(rows, columns)),
        start=json.dumps(start),
        goal=json.dumps(goal),
    )


def _metadata(rows: int, columns: int, start: State, goal: State) -> dict[str, Any]:
    return {"rows": rows, "columns": columns, "start": start, "goal": goal}


class BoxNet(symbench_task.SymbenchTask):
    """Move boxes over a grid that has a robot arm in every cell, state by state."""

    name = "boxnet"
    kind = "planning"
    answer_format = 'a JSON list of states: [{"box1": "C1,2"}, {"box1": "C1,3"}]'
    many_answers = True
    released_name = "boxnet_v2"
    released_files = "BoxNet1_v2_dataset/question_samples_*.json"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        rows, columns, fewest, most = rng.choice(_LEVELS[difficulty])
        cells = [*named_cells.neighbors(rows, columns)]
        boxes = [f"box{number}" for number in range(1, rng.randint(fewest, most) + 1)]
        while True:
            start, goal = (
                dict(zip(boxes, rng.sample(cells, len(boxes)), strict=True)) for _ in range(2)
            )
            if start != goal:
                break
        return Puzzle(
            question=_question(rows, columns, start, goal),
            answer=json.dumps(plan(start, goal)),
            metadata=_metadata(rows, columns, start, goal),
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        states = _read(answer_text)
        if states is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a JSON list of states"
            )
        metadata = json.loads(example.metadata)
        start, goal = metadata["start"], metadata["goal"]
        if len(states) < 2:
            return symbench_task.wrong_verdict("there are fewer than two states")
        if any(state.keys() != start.keys() for state in states):
            return symbench_task.wrong_verdict("a state does not name each box")
        if states[0] != start:
            return symbench_task.wrong_verdict("the first state is not the start")
        beside = named_cells.neighbors(metadata["rows"], metadata["columns"])
        for number, (before, after) in enumerate(itertools.pairwise(states), 1):
            problem = _step(before, after, beside)
            if problem:
                return symbench_task.wrong_verdict(f"step {number}: {problem}")
        if states[-1] != goal:
            return symbench_task.wrong_verdict("a box is not in its goal in the last state")
        return symbench_task.right_verdict(
            f"the boxes are in their goals after {len(states)} states"
        )

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        """Read one item.

        Args:
            number: The number of the item.
            question: Empty, as the release stores none; the question is then generated.
            solution: An object with `initial_state`, `goal_locations`, and `rows` and `cols`, of
                which the last two may lie under `grid`.

        Raises:
            UserError: The grid or its boxes cannot be read.
        """
        size = named_cells.read_size(solution)
        if size is None:
            raise self.malformed(number, "rows and columns are missing")
        known = named_cells.neighbors(*size)
        start, goal = (
            _read_state(symbench_task.read_field(solution, key), known)
            for key in ("initial_state", "goal_locations")
        )
        if not start or goal is None or start.keys() != goal.keys():
            raise self.malformed(number, "the cells and goals of the boxes cannot be read")
        text = question or _question(*size, start, goal)
        return self.item(number, text, _metadata(*size, start, goal), None)

    @override
    def solve(self, example: Example) -> str | None:
        metadata = json.loads(example.metadata)
        return json.dumps(plan(metadata["start"], metadata["goal"]))


def _read(text: str) -> list[State] | None:
    """Parse the states, or return None if the text is anything else."""
    states = named_cells.read_list(text)
    if states is None or not all(isinstance(state, dict) for state in states):
        return None
    fits = all(isinstance(cell, str) for state in states for cell in state.values())
    return states if fits else None


def _read_state(held: Any, known: named_cells.Neighbors) -> State | None:
    if not isinstance(held, dict):
        return None
    fits = all(isinstance(part, str) for pair in held.items() for part in pair)
    return held if fits and set(held.values()) <= known.keys() else None


def _step(before: State, after: State, beside: named_cells.Neighbors) -> str:
    """Return what is wrong with a step, if anything; the cells of `before` are known ones."""
    leaving: set[str] = set()
    for box, here in before.items():
        if after[box] == here:
            continue
        if after[box] not in beside[here]:
            return f"{box} cannot go from {here} to {answers.format_answer(after[box])}"
        if here in leaving:
            return f"two boxes leave {here}"
        leaving.add(here)
    return ""
