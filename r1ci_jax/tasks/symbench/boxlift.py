"""Distribute lifters so that all boxes are lifted within a number of steps."""

import itertools
import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Lift = tuple[int, tuple[int, ...]]
"""The weight of a box and the lifters that lift it together."""
Step = list[Lift]

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""No known defects: the release stores no answers, and its step limits can be kept."""

_LEVELS: Final = {
    1: (5, 3, (40, 90), (15, 120)),
    2: (8, 3, (40, 90), (15, 150)),
    3: (12, 4, (30, 120), (20, 200)),
    4: (18, 5, (40, 160), (30, 300)),
    5: (26, 6, (50, 200), (40, 400)),
}
"""Boxes, lifters, range of capacities, range of weights."""

_ITEM = r"\(\s*[0-9]{1,6}\s*,\s*\[\s*[0-9]{1,3}(?:\s*,\s*[0-9]{1,3})*\s*\]\s*\)"
_LINE = re.compile(rf"Step ([0-9]{{1,4}}):\s*\[\s*({_ITEM}(?:\s*,\s*{_ITEM})*)\s*\]")
_LIFT = re.compile(r"\(\s*([0-9]+)\s*,\s*\[([^\]]*)\]")

_QUESTION: Final = """\
{boxes} boxes have to be lifted by {count} lifters, in at most {limit} steps.

Weights of the boxes: {weights}
Capacities of the lifters: {capacities}

Rules:
- In a step several boxes may be lifted at the same time.
- A lifter takes part in lifting at most one box a step. In the next step all are free again.
- Several lifters may lift one box together. Their capacities, added up, must be at least the \
weight of the box.
- Every box must be lifted exactly once. Boxes of the same weight are alike.
- There may be at most {limit} steps; fewer are welcome. At least one box is lifted in each.

The lifters have the numbers 0 to {last}, in the order in which their capacities are given. Name a \
box by its weight. Answer with one line for every step, numbered from 1, in this form:
Step 1: [(70, [0, 2]), (25, [1])]
Step 2: [(40, [1])]
which means that in the first step lifters 0 and 2 lift a box of weight 70 together and lifter 1 \
lifts a box of weight 25, and in the second step lifter 1 lifts a box of weight 40."""


def _first_team(weight: int, free: list[int], lifters: list[int]) -> tuple[int, ...]:
    """Choose lifters in their order until they are strong enough."""
    for size in range(1, len(free) + 1):
        if sum(lifters[number] for number in free[:size]) >= weight:
            return tuple(free[:size])
    return ()


def _tight_team(weight: int, free: list[int], lifters: list[int]) -> tuple[int, ...]:
    """Choose the team that wastes least."""
    enough = [
        (capacity, team)
        for size in range(1, len(free) + 1)
        for team in itertools.combinations(free, size)
        if (capacity := sum(lifters[number] for number in team)) >= weight
    ]
    return min(enough)[1] if enough else ()


def schedule(boxes: list[int], lifters: list[int], *, tight: bool) -> list[Step]:
    """Return steps that lift all boxes, always the heaviest that can be lifted first.

    `tight` chooses each team so that least capacity is wasted. Without it, lifters are used in
    their order, and the number of steps is the limit that the release sets.
    """
    assert max(boxes) <= sum(lifters), "a box is too heavy for all lifters together"
    choose = _tight_team if tight else _first_team
    left, steps = sorted(boxes, reverse=True), []
    while left:
        free, step = list(range(len(lifters))), list[Lift]()
        for weight in list(left):
            team = choose(weight, free, lifters)
            if team:
                step.append((weight, team))
                left.remove(weight)
                free = [number for number in free if number not in team]
        steps.append(step)
    return steps


def format_schedule(steps: list[Step]) -> str:
    """Format the schedule as an answer."""
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        lifts = ", ".join(f"({weight}, {list(team)})" for weight, team in step)
        lines.append(f"Step {number}: [{lifts}]")
    return "\n".join(lines)


def _question(boxes: list[int], lifters: list[int], limit: int) -> str:
    return _QUESTION.format(
        boxes=len(boxes),
        count=len(lifters),
        limit=limit,
        weights=", ".join(map(str, boxes)),
        capacities=", ".join(map(str, lifters)),
        last=len(lifters) - 1,
    )


class BoxLift(symbench_task.SymbenchTask):
    """Distribute lifters so that all boxes are lifted within a number of steps."""

    name = "boxlift"
    kind = "planning"
    answer_format = "one line a step: Step 1: [(70, [0, 2]), (25, [1])]"
    many_answers = True
    released_files = "BoxLift_dataset/*/*/BoxLift.json"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        count, crew, capacities, weights = _LEVELS[difficulty]
        lifters = [rng.randint(*capacities) for _ in range(crew)]
        heaviest = min(weights[1], sum(lifters) * 3 // 4)
        boxes = [rng.randint(weights[0], heaviest) for _ in range(count)]
        plans = [schedule(boxes, lifters, tight=tight) for tight in (True, False)]
        steps = min(plans, key=len)
        return Puzzle(
            question=_question(boxes, lifters, len(steps)),
            answer=format_schedule(steps),
            metadata={"boxes": boxes, "lifters": lifters, "limit": len(steps)},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        if len(answer_text) > answers.MAX_PLAN_CHARS:
            return symbench_task.wrong_verdict("the answer is far too long")
        metadata = json.loads(example.metadata)
        lines = answer_text.strip().splitlines()
        if not 1 <= len(lines) <= metadata["limit"]:
            return symbench_task.wrong_verdict(f"{len(lines)} steps, not 1 to {metadata['limit']}")
        left = list(metadata["boxes"])
        for number, line in enumerate(lines, 1):
            match = _LINE.fullmatch(line.strip())
            if match is None or int(match[1]) != number:
                return symbench_task.wrong_verdict(
                    f"{answers.format_answer(line)} is not step {number} in the form asked"
                )
            problem = _lift(left, metadata["lifters"], match[2])
            if problem:
                return symbench_task.wrong_verdict(f"step {number}: {problem}")
        if left:
            return symbench_task.wrong_verdict(f"{len(left)} boxes are left")
        return symbench_task.right_verdict(f"all boxes are lifted in {len(lines)} steps")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        """Read one item.

        Args:
            number: The number of the item.
            question: Empty, as the release stores none; the question is then generated.
            solution: BoxLift.json, an object with `boxes` and `lifters`.

        Raises:
            UserError: These fields are missing, or a box is too heavy.
        """
        boxes, lifters = (
            _weights(symbench_task.read_field(solution, key)) for key in ("boxes", "lifters")
        )
        if not boxes or not lifters or max(boxes) > sum(lifters):
            raise self.malformed(number, "boxes and lifters are missing, or a box is too heavy")
        limit = len(schedule(boxes, lifters, tight=False))
        metadata = {"boxes": boxes, "lifters": lifters, "limit": limit}
        return self.item(number, question or _question(boxes, lifters, limit), metadata, None)

    @override
    def solve(self, example: Example) -> str | None:
        metadata = json.loads(example.metadata)
        return format_schedule(schedule(metadata["boxes"], metadata["lifters"], tight=False))


def _lift(left: list[int], lifters: list[int], step: str) -> str:
    """Apply one step; return the error, if any."""
    used: set[int] = set()
    for box, team in _LIFT.findall(step):
        # The text is not split and read by int(), which refuses some white space that \s accepts.
        weight, numbers = int(box), [int(number) for number in re.findall(r"[0-9]+", team)]
        if weight not in left:
            return f"no box of weight {weight} is left"
        if max(numbers) >= len(lifters):
            return f"there is no lifter {max(numbers)}"
        if len(set(numbers)) < len(numbers) or not used.isdisjoint(numbers):
            return "a lifter is used twice"
        if sum(lifters[number] for number in numbers) < weight:
            return f"lifters {numbers} are too weak for {weight}"
        left.remove(weight)
        used.update(numbers)
    return ""


def _weights(values: Any) -> list[int]:
    """Return the list, if it contains positive integers; else nothing."""
    fits = isinstance(values, list) and all(type(value) is int and value > 0 for value in values)
    return list(values) if fits else []
