"""BoxNet with actions: every rule by hand, breadth-first search, released states."""

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.extra import boxnet_actions
from r1ci_jax.tasks.extra.boxnet_actions import BoxNetActions, plan

TASK = BoxNetActions()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]

ROW = {"0.5_0.5": ["box_red", "box_blue"], "0.5_1.5": ["target_red"], "0.5_2.5": ["target_blue"]}
A, B, C = "Agent[0.5, 0.5]", "Agent[0.5, 1.5]", "Agent[0.5, 2.5]"
TO_A, TO_B, TO_C = (f"square[0.5, {x}.5]" for x in range(3))

Field = tuple[tuple[tuple[int, int, str], ...], tuple[tuple[int, int, str], ...]]
"""Boxes and targets that are left, sorted: row, column, colour."""


def item(squares: dict[str, list[str]], limit: int = 9) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"squares": squares, "limit": limit}),
    )


def field(squares: dict[str, list[str]]) -> Field:
    things = [
        (*(int(float(part)) for part in key.split("_")), *thing.split("_"))
        for key, held in squares.items()
        for thing in held
    ]
    boxes, targets = (
        tuple(sorted((int(r), int(c), str(colour)) for r, c, kind, colour in things if kind == k))
        for k in ("box", "target")
    )
    return boxes, targets


def _joint(here: Field, spots: list[tuple[int, int]], still: Field) -> Iterator[Field]:
    """All fields after one step; `still` holds the boxes that were not there when it began."""
    if not spots:
        yield tuple(sorted(here[0] + still[0])), here[1]
        return
    (row, column), *rest = spots
    yield from _joint(here, rest, still)
    for box in {b for b in here[0] if b[:2] == (row, column)}:
        left = list(here[0])
        left.remove(box)
        boxes = tuple(left)
        if box in here[1]:
            targets = list(here[1])
            targets.remove(box)
            yield from _joint((boxes, tuple(targets)), rest, still)
        for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            to = row + dr, column + dc, box[2]
            if 0 <= to[0] < 2 and 0 <= to[1] < 2:
                yield from _joint((boxes, here[1]), rest, ((*still[0], to), ()))


def fewest_steps(start: Field) -> int:
    """Breadth-first over all joint actions on a field of 2 x 2."""
    spots = [(0, 0), (0, 1), (1, 0), (1, 1)]
    layer, seen, steps = {start}, {start}, 0
    while not any(not boxes for boxes, _ in layer):
        layer = {after for here in layer for after in _joint(here, spots, ((), ()))} - seen
        seen |= layer
        steps += 1
    return steps


def replay(question: str, answer: str) -> bool:
    """Judge a plan from the question's text; boxes are numbered things with a place."""
    rows = re.findall(r"^square\[([\d.]+), ([\d.]+)\]: (.*)$", question, re.MULTILINE)
    things = [(float(r), float(c), thing) for r, c, held in rows for thing in held.split(", ")]
    limit = re.search(r"at most (\d+) steps", question)
    steps = json.loads(answer)
    for step in steps:
        before = list(things)
        for agent, action in step.items():
            row, column = map(float, re.findall(r"[\d.]+", agent))
            box, goal = re.fullmatch(r"move\((\w+), (.*)\)", action).groups()  # pyright: ignore
            before.remove((row, column, box))
            things.remove((row, column, box))
            if goal.startswith("target"):
                assert goal == box.replace("box", "target")
                things.remove((row, column, goal))
            else:
                to_row, to_column = map(float, re.findall(r"[\d.]+", goal))
                assert abs(row - to_row) + abs(column - to_column) == 1
                things.append((to_row, to_column, box))
    return limit is not None and len(steps) <= int(limit[1]) and not things


GOOD = [
    {A: f"move(box_blue, {TO_B})"},
    {A: f"move(box_red, {TO_B})", B: f"move(box_blue, {TO_C})"},
    {B: "move(box_red, target_red)", C: "move(box_blue, target_blue)"},
]


def test_right_plans() -> None:
    example = item(ROW)
    one_by_one = [{agent: action} for step in GOOD for agent, action in step.items()]
    for steps in (GOOD, one_by_one):
        for text in (json.dumps(steps), json.dumps(steps, indent=1), f" {json.dumps(steps)}\n"):
            assert TASK.score(example, text).correct, text
    assert not TASK.score(item(ROW, 4), json.dumps(one_by_one)).correct  # five steps
    assert TASK.score(item(ROW, 5), json.dumps(one_by_one)).correct


@pytest.mark.parametrize(
    "steps",
    [
        [],
        {},
        "move",
        GOOD[:2],
        [*GOOD, {}],
        [*GOOD, {A: f"move(box_red, {TO_B})"}],  # nothing left to move
        [{A: f"move(box_blue, {TO_C})"}, *GOOD[2:]],  # too far
        [{A: "move(box_red, square[1.5, 0.5])"}, *GOOD],  # off the field
        [{A: f"move(box_red, {TO_A})"}, *GOOD],  # not a move
        [{A: "move(box_red, target_red)"}, *GOOD[1:]],  # the target is elsewhere
        [*GOOD[:2], {B: "move(box_red, target_blue)", C: "move(box_blue, target_blue)"}],
        [{B: f"move(box_blue, {TO_C})"}, *GOOD[1:]],  # the box is not with that agent
        # The box arrives in the step, so it cannot be handled in the same step.
        [{A: f"move(box_blue, {TO_B})", B: f"move(box_blue, {TO_C})"}, *GOOD[1:]],
        [{A: [f"move(box_blue, {TO_B})"]}, *GOOD[1:]],
        [{"Agent(0.5, 0.5)": f"move(box_blue, {TO_B})"}, *GOOD[1:]],
        [{A: f"move(blue, {TO_B})"}, *GOOD[1:]],
        [{A: f"move(box_blue, {TO_B});"}, *GOOD[1:]],
        [GOOD[0], [1], *GOOD[1:]],
    ],
)
def test_wrong_plans(steps: object) -> None:
    assert not TASK.score(item(ROW), json.dumps(steps)).correct


def test_an_agent_acts_once_a_step() -> None:
    text = json.dumps(GOOD)
    double = text.replace("[{", f'[{{"{A}": "move(box_red, {TO_B})", ', 1)
    assert double.count(A) == 3
    for wrong in (double, text + "\n" + text, text + "]", text[:-1], f"```json\n{text}\n```"):
        assert not TASK.score(item(ROW), wrong).correct


def test_plans_against_breadth_first_search() -> None:
    for example in EXAMPLES[:12]:
        drawn = json.loads(example.metadata)
        gold = TASK.gold(example)
        assert gold is not None
        assert fewest_steps(field(drawn["squares"])) <= len(json.loads(gold)) <= drawn["limit"]


def test_golds_replay() -> None:
    for example in EXAMPLES:
        assert replay(example.question, TASK.gold(example) or "")


def test_released_states_can_be_solved(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/boxnet.jsonl").read_text().splitlines()
    items = [TASK.parse_released(i, "", json.loads(line)["state"]) for i, line in enumerate(lines)]
    solved = 0
    for released in items:
        assert released.gold is None and "square[0.5, 1.5]" in released.example.question
        steps = plan(json.loads(released.example.metadata)["squares"])
        solved += TASK.score(released.example, json.dumps(steps)).correct
    assert (len(items), solved) == (25, 25)
    assert boxnet_actions.RELEASED_DEFECTS == {}
    again = TASK.parse_released(0, "", json.loads(lines[0]))
    assert again == items[0]


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"0.5_0.5": ["box_red"]},
        {"0.5_0.5": []},
        {"0.5_0.5": "box_red"},
        {"0.5_0.5": ["box_red", "target_red"], "1.5_1.5": []},
        {"a": ["box_red", "target_red"]},
        {"0.5_0.5": ["box_red", "target_red", "ball_red"]},
        {"state": 3},
    ],
)
def test_broken_released_items_are_named(state: object) -> None:
    with pytest.raises(UserError, match="released item 7 of boxnet_actions"):
        TASK.parse_released(7, "", state)
