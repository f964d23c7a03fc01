"""Blocksworld: every rule by hand, breadth-first search against the planner, released states."""

import collections
import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import blocksworld
from r1ci_jax.tasks.symbench.blocksworld import Blocksworld, format_plan, plan

TASK = Blocksworld()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(start: list[str], goal: list[str], limit: int = 9) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"start": start, "goal": goal, "limit": limit}),
    )


def fewest_moves(start: tuple[str, ...], goal: tuple[str, ...]) -> int:
    """Breadth-first over all states."""
    depth = {start: 0}
    queue = collections.deque([start])
    while queue:
        here = queue.popleft()
        if here == goal:
            return depth[here]
        for i, stack in enumerate(here):
            for j in range(len(here)):
                if stack and i != j:
                    after = tuple(
                        s[:-1] if k == i else s + stack[-1] if k == j else s
                        for k, s in enumerate(here)
                    )
                    if after not in depth:
                        depth[after] = depth[here] + 1
                        queue.append(after)
    raise AssertionError("the goal cannot be reached")


def replay(question: str, answer: str) -> bool:
    """Judge a plan from the question's text, blocks kept as pairs of block and support."""
    halves = question.split("Goal:\n")
    states = [
        {int(n): row.split() if "empty" not in row else [] for n, row in rows}
        for rows in (re.findall(r"^stack (\d): (.*)$", half, re.MULTILINE) for half in halves)
    ]
    below: dict[str, str] = {}
    top: dict[str, str] = {}
    for n, row in states[0].items():
        chain = [str(n), *row]
        below.update(zip(chain[1:], chain[:-1], strict=True))
        top[str(n)] = chain[-1]
    for line in answer.split("\n"):
        _, block, _, source, _, target = line.split()
        if top[source] != block:
            return False
        top[source], below[block], top[target] = below[block], top[target], block
    wanted = {
        b: u for n, row in states[1].items() for b, u in zip(row, [str(n), *row], strict=False)
    }
    return below == wanted


def test_every_rule() -> None:
    example = item(["BA", "", ""], ["", "AB", ""])
    shortest = "Move A from 1 to 2\nMove B from 1 to 2"
    assert TASK.score(example, shortest).correct
    assert TASK.score(example, f"\n  {shortest} \n").correct
    longer = "Move A from 1 to 3\nMove B from 1 to 3\nMove B from 3 to 1\nMove A from 3 to 2\n"
    assert TASK.score(example, longer + "Move B from 1 to 2").correct
    for text in (
        "",
        "Move B from 1 to 2\nMove A from 1 to 2",  # B is not on top
        "Move A from 1 to 2",  # not yet the goal
        "Move A from 1 to 3\nMove B from 1 to 3",  # the right pile in the wrong stack
        f"{shortest}\nMove B from 2 to 3",  # past the goal
        "Move A from 2 to 2\n" + shortest,
        "Move A from 1 to 1\n" + shortest,
        "Move A from 1 to 4\nMove A from 4 to 2\nMove B from 1 to 2",
        "Move A from 1 to 0\nMove A from 0 to 2\nMove B from 1 to 2",
        "Move C from 1 to 2\nMove B from 1 to 2",
        "Move A from 1 to 2, Move B from 1 to 2",
        "1. Move A from 1 to 2\n2. Move B from 1 to 2",
        shortest.replace("\n", "\n\n"),
        shortest.replace("Move", "move"),
        shortest + "\nDone.",
        "Move A from 3 to 2\nMove B from 1 to 2",
    ):
        assert not TASK.score(example, text).correct, text


def test_the_limit_counts() -> None:
    there_and_back = "Move A from 1 to 2\nMove A from 2 to 1\n"
    plan_of_9 = there_and_back * 4 + "Move A from 1 to 2"
    assert TASK.score(item(["A", ""], ["", "A"], 9), plan_of_9).correct
    assert not TASK.score(item(["A", ""], ["", "A"], 8), plan_of_9).correct
    assert TASK.score(item(["A", ""], ["A", ""]), there_and_back).correct
    assert not TASK.score(item(["A", ""], ["A", ""]), "").correct


def test_plans_agree_with_breadth_first_search() -> None:
    for example in (e for e in EXAMPLES if e.difficulty <= 2):
        drawn = json.loads(example.metadata)
        start, goal = tuple(drawn["start"]), tuple(drawn["goal"])
        moves = plan(start, goal)
        assert moves is not None
        fewest = fewest_moves(start, goal)
        assert fewest <= len(moves) <= drawn["limit"]
        assert fewest >= 2  # never solved by the start, nor by one move
    assert plan(("BA", ""), ("AB", "")) is None


def test_golds_replay() -> None:
    for example in EXAMPLES:
        assert replay(example.question, TASK.gold(example) or "")


def test_released_states_can_be_solved(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/blocksworld.jsonl").read_text().splitlines()
    items = [TASK.parse_released(i, "", json.loads(line)["state"]) for i, line in enumerate(lines)]
    same = solved = 0
    for released in items:
        assert released.gold is None and "Goal:" in released.example.question
        drawn = json.loads(released.example.metadata)
        if drawn["start"] == drawn["goal"]:
            same += 1
            continue
        moves = plan(tuple(drawn["start"]), tuple(drawn["goal"]))
        assert moves is not None
        solved += TASK.score(released.example, format_plan(moves)).correct
    assert (len(items), solved, same) == (60, 59, 1)
    assert list(blocksworld.RELEASED_DEFECTS.values()) == [same]


def test_released_goals_may_name_fewer_stacks() -> None:
    text = "Initial State:\nstack1: A\nstack2: B\nstack3: \n\nGoal State:\nstack1: A B\nstack2: \n"
    for solution in (text, {"id": "x", "state": text}):
        released = TASK.parse_released(0, "", solution)
        assert TASK.score(released.example, "Move B from 2 to 1").correct
        assert not TASK.score(released.example, "Move B from 2 to 3").correct


@pytest.mark.parametrize(
    "text",
    [
        None,
        {},
        "Initial State:\nstack1: A",
        "Initial State:\nstack1: A\nGoal State:\nstack1: B",
        "Initial State:\nstack1: A A\nGoal State:\nstack1: A A",
        "Initial State:\nstack1: A\nGoal State:\nstack1:\nstack2: A",
        "Initial State:\nstack2:\nstack1: A\nGoal State:\nstack1: A",
    ],
)
def test_broken_released_items_are_named(text: object) -> None:
    with pytest.raises(UserError, match="released item 7 of blocksworld"):
        TASK.parse_released(7, "", text)
