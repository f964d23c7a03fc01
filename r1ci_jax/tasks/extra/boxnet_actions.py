"""Direct agents on a grid, one in each square, to move colored boxes to their targets.

The game is BoxNet1 of CodeSteer (arXiv 2502.04350); `boxnet` is the newer game of the paper's data.
"""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Spot = tuple[int, int]
"""Row and column of a square, from 0."""
Squares = dict[str, list[str]]
"""The objects in every square, as in `{"0.5_1.5": ["box_red", "target_blue"]}`."""
Plan = list[dict[str, str]]
"""The actions of the acting agents, for every step."""

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""No known defects: the release stores no answers, and all its boxes can be matched."""

_COLOURS: Final = ("blue", "red", "green", "purple", "orange")
_LEVELS: Final = {1: (2, 2, 3), 2: (2, 3, 4), 3: (3, 3, 5), 4: (3, 4, 7), 5: (4, 5, 10)}
"""Rows, columns, boxes."""
_RELEASED_LIMIT: Final = 1_000

_PLACE = r"\[([0-9]{1,2})\.5, ?([0-9]{1,2})\.5\]"
_AGENT = re.compile(rf"Agent{_PLACE}")
_ACTION = re.compile(rf"move\(box_([a-z]+), ?(?:square{_PLACE}|target_([a-z]+))\)")
_KEY = re.compile(r"([0-9]{1,2})\.5_([0-9]{1,2})\.5")
_THING = re.compile(r"(?:box|target)_[a-z]+")

_QUESTION: Final = """\
A field of {rows} x {columns} squares is looked after by agents, one in every square. Squares are \
named by their centres: square[0.5, 0.5] is the first square of the first row, square[0.5, 1.5] \
the second square of that row, square[1.5, 0.5] the first square of the second row. Agents are \
named likewise, such as Agent[0.5, 0.5], and stay in their squares. Squares hold boxes and targets:
{listed}
All other squares are empty.

In one step every agent may do one of these things, or nothing:
- move(box_red, square[0.5, 1.5]) pushes a red box from the agent's own square into that square, \
which must share a side with its own; any number of boxes fit into a square;
- move(box_red, target_red) puts a red box in the agent's own square onto a red target in the \
same square. Box and target must be of one colour. Both vanish.
The agents act at the same time: an agent can only handle a box that is in its square when the \
step begins. An action that is not possible makes the whole plan wrong.

Find a plan of at most {limit} steps after which no box is left.

Answer with a JSON list that has one object for every step. The object has an entry for each agent \
that acts in the step (at least one): the agent's name and its action, in the form
[{{"Agent[0.5, 0.5]": "move(box_red, square[0.5, 1.5])", "Agent[1.5, 0.5]": "move(box_blue, \
target_blue)"}}, {{"Agent[0.5, 1.5]": "move(box_red, target_red)"}}]"""


def _key(spot: Spot) -> str:
    return f"{spot[0]}.5_{spot[1]}.5"


def _name(kind: str, spot: Spot) -> str:
    return f"{kind}[{spot[0]}.5, {spot[1]}.5]"


def _spots(squares: Squares) -> dict[str, Spot]:
    """Return row and column for every key."""
    matches = [(key, _KEY.fullmatch(key)) for key in squares]
    return {key: (int(match[1]), int(match[2])) for key, match in matches if match}


def _gap(one: Spot, other: Spot) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _errands(squares: Squares) -> list[tuple[str, Spot, Spot]]:
    """Return color, box and target for every box, with the closest pair first."""
    spots, errands = _spots(squares), list[tuple[str, Spot, Spot]]()
    for colour in sorted({thing.partition("_")[2] for held in squares.values() for thing in held}):
        boxes, targets = (
            sorted(spots[key] for key, held in squares.items() for thing in held if thing == name)
            for name in (f"box_{colour}", f"target_{colour}")
        )
        while boxes and targets:
            _, box, target = min((_gap(b, t), b, t) for b in boxes for t in targets)
            boxes.remove(box)
            targets.remove(target)
            errands.append((colour, box, target))
    return errands


def plan(squares: Squares) -> Plan:
    """Plan one route for every box, along the column first; the longest route starts first."""
    errands, steps = _errands(squares), list[dict[str, str]]()
    while errands:
        step: dict[str, str] = {}
        later: list[tuple[str, Spot, Spot]] = []
        for colour, box, target in sorted(errands, key=lambda errand: -_gap(*errand[1:])):
            agent = _name("Agent", box)
            if agent in step:
                later.append((colour, box, target))
            elif box == target:
                step[agent] = f"move(box_{colour}, target_{colour})"
            else:
                after = _towards(box, target)
                step[agent] = f"move(box_{colour}, {_name('square', after)})"
                later.append((colour, after, target))
        steps.append(step)
        errands = later
    return steps


def _towards(box: Spot, target: Spot) -> Spot:
    (row, column), (to_row, to_column) = box, target
    if row != to_row:
        return row + (1 if to_row > row else -1), column
    return row, column + (1 if to_column > column else -1)


def _question(squares: Squares, limit: int) -> str:
    spots = _spots(squares)
    listed = [
        f"{_name('square', spots[key])}: {', '.join(held)}" for key, held in squares.items() if held
    ]
    return _QUESTION.format(
        rows=1 + max(row for row, _ in spots.values()),
        columns=1 + max(column for _, column in spots.values()),
        listed="\n".join(listed),
        limit=limit,
    )


def _scatter(rng: random.Random, rows: int, columns: int, boxes: int) -> Squares:
    spots = [(row, column) for row in range(rows) for column in range(columns)]
    squares: Squares = {_key(spot): [] for spot in spots}
    for _ in range(boxes):
        colour = rng.choice(_COLOURS)
        box, target = rng.choice(spots), rng.choice(spots)
        squares[_key(box)].append(f"box_{colour}")
        squares[_key(target)].append(f"target_{colour}")
    return {key: sorted(held) for key, held in squares.items()}


class BoxNetActions(symbench_task.SymbenchTask):
    """Direct agents on a grid to move colored boxes to their targets."""

    name = "boxnet_actions"
    suite = "extra"
    kind = "planning"
    answer_format = "a JSON list with an object of agents and their moves for every step"
    many_answers = True
    released_name = "boxnet"
    released_files = "BoxNet1_dataset/*/*/pg_state*.json"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        rows, columns, boxes = _LEVELS[difficulty]
        while True:
            squares = _scatter(rng, rows, columns, boxes)
            if sum(box != target for _, box, target in _errands(squares)) > boxes // 2:
                break
        steps = plan(squares)
        # The limit suffices for moving one box after the other, and forbids long detours.
        limit = sum(map(len, steps))
        return Puzzle(
            question=_question(squares, limit),
            answer=json.dumps(steps),
            metadata={"squares": squares, "limit": limit},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        steps = _read(answer_text)
        if steps is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a JSON list of steps"
            )
        metadata = json.loads(example.metadata)
        if not 1 <= len(steps) <= metadata["limit"]:
            return symbench_task.wrong_verdict(f"{len(steps)} steps, not 1 to {metadata['limit']}")
        squares = metadata["squares"]
        for number, step in enumerate(steps, 1):
            problem = _act(squares, step)
            if problem:
                return symbench_task.wrong_verdict(f"step {number}: {problem}")
        left = sum(thing.startswith("box_") for held in squares.values() for thing in held)
        if left:
            return symbench_task.wrong_verdict(f"{left} boxes are left")
        return symbench_task.right_verdict(f"no box is left after {len(steps)} steps")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        """Read one item.

        Args:
            number: The number of the item.
            question: Empty, as the release stores none; the question is then generated.
            solution: pg_stateN.json, the things in every square, or an object with it as `state`.

        Raises:
            UserError: The squares cannot be read, or a box has no target.
        """
        state = solution.get("state", solution) if isinstance(solution, dict) else {}
        squares = dict(state) if isinstance(state, dict) else {}
        if not _sound(squares):
            raise self.malformed(number, "the squares and what they hold cannot be read")
        boxes = sum(thing.startswith("box_") for held in squares.values() for thing in held)
        if not boxes or len(_errands(squares)) != boxes:
            raise self.malformed(number, "there is no box, or one without a target")
        metadata = {"squares": squares, "limit": _RELEASED_LIMIT}
        text = question or _question(squares, _RELEASED_LIMIT)
        return self.item(number, text, metadata, None)

    @override
    def solve(self, example: Example) -> str | None:
        return json.dumps(plan(json.loads(example.metadata)["squares"]))


def _read(text: str) -> Plan | None:
    """Parse the steps, or return None if the text is anything else."""
    # An agent named twice in a step would act twice, so repeated names are not accepted.
    steps = answers.json_value(text, limit=answers.MAX_PLAN_CHARS)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return None
    return steps if all(isinstance(act, str) for step in steps for act in step.values()) else None


def _act(squares: Squares, step: dict[str, str]) -> str:
    """Apply one step; return the error, if any."""
    arrivals: list[tuple[str, str]] = []
    for agent, action in step.items():
        who, act = _AGENT.fullmatch(agent), _ACTION.fullmatch(action)
        if who is None or act is None:
            return f"{answers.format_answer(f'{agent}: {action}')} is not an agent and its action"
        spot = int(who[1]), int(who[2])
        held, box = squares.get(_key(spot), []), f"box_{act[1]}"
        if box not in held:
            return f"{agent} has no {box}"
        held.remove(box)
        if act[4]:
            if act[4] != act[1] or f"target_{act[4]}" not in held:
                return f"{agent} cannot put {box} on target_{act[4]}"
            held.remove(f"target_{act[4]}")
            continue
        goal = int(act[2]), int(act[3])
        if _gap(spot, goal) != 1 or _key(goal) not in squares:
            return f"{agent} cannot reach {_name('square', goal)}"
        arrivals.append((_key(goal), box))
    for key, box in arrivals:
        squares[key].append(box)
    return "" if step else "no agent acts"


def _sound(squares: Squares) -> bool:
    """Check that the squares form a full rectangle with objects in them."""
    spots = list(_spots(squares).values())
    return (
        bool(squares)
        and len(set(spots)) == len(squares)
        and len(spots) == (1 + max(r for r, _ in spots)) * (1 + max(c for _, c in spots))
        and all(isinstance(held, list) for held in squares.values())
        and all(
            isinstance(thing, str) and _THING.fullmatch(thing) is not None
            for held in squares.values()
            for thing in held
        )
    )
