"""BoxNet: every rule by hand, breadth-first search against the planner, released items."""

import itertools
import json
import pathlib
import re
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import boxnet, released_items
from r1ci_jax.tasks.symbench.boxnet import BoxNet, State, plan

TASK = BoxNet()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(rows: int, columns: int, start: State, goal: State) -> Example:
    grid = {"rows": rows, "columns": columns, "start": start, "goal": goal}
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps(grid),
    )


def states(*cells: str) -> list[State]:
    """States of the boxes a, b, ...: one text of cells each."""
    return [dict(zip("abc", text.split(), strict=False)) for text in cells]


ROW = item(2, 3, {"a": "C1,1", "b": "C1,2"}, {"a": "C1,3", "b": "C1,1"})
"""The boxes pass each other: there is room for both in a cell."""
RIGHT = states("C1,1 C1,2", "C1,2 C1,1", "C1,3 C1,1")


def read_question(question: str) -> tuple[State, State, dict[str, list[str]]]:
    """Start, goals and neighbors as the text has them."""
    start = re.search(r"boxes at the start: (.*)$", question, re.MULTILINE)
    goal = re.search(r"goal of each box: (.*)$", question, re.MULTILINE)
    assert start is not None and goal is not None
    rows = re.findall(r"^(C\d,\d): (.*)$", question, re.MULTILINE)
    return (
        json.loads(start[1]),
        json.loads(goal[1]),
        {cell: held.split() for cell, held in rows},
    )


def replay(question: str, answer: str) -> bool:
    """Judge a plan from the question's text alone, by coordinates, box by box."""
    start, goal, beside = read_question(question)
    found = json.loads(answer)
    leaving: list[tuple[int, str]] = []
    for box in start:
        ways = [state[box] for state in found]
        if not set(ways) <= set(beside) or (ways[0], ways[-1]) != (start[box], goal[box]):
            return False
        for number, (here, there) in enumerate(itertools.pairwise(ways)):
            (a, b), (c, d) = (map(int, cell[1:].split(",")) for cell in (here, there))
            if abs(a - c) + abs(b - d) > 1:
                return False
            leaving += [(number, here)] * (here != there)
    return len(found) >= 2 and len(set(leaving)) == len(leaving)


def fewest_states(question: str) -> int:
    """Breadth-first over the joint states of few boxes."""
    start, goal, beside = read_question(question)
    layer = {tuple(start.values())}
    seen = set(layer)
    for count in itertools.count(1):
        if tuple(goal.values()) in layer and count > 1:
            return count
        layer = {
            after
            for here in layer
            for after in itertools.product(*([cell, *beside[cell]] for cell in here))
            if len({c for c, d in zip(here, after, strict=True) if c != d})
            == sum(c != d for c, d in zip(here, after, strict=True))
        } - seen
        seen |= layer
    raise AssertionError


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RIGHT),
        json.dumps(RIGHT, indent=1),
        f" {json.dumps(RIGHT, separators=(',', ':'))}\n",
        str(RIGHT),  # as Python prints a list
        json.dumps([dict(reversed(state.items())) for state in RIGHT]),
        # One box after the other, both in C1,2 for a while; nothing moves in a step.
        json.dumps(
            states("C1,1 C1,2", "C1,2 C1,2", "C1,2 C1,2", "C1,3 C1,2", "C1,3 C1,2", "C1,3 C1,1")
        ),
        # A box may leave its goal again, and go a long way.
        json.dumps([*RIGHT, *states("C2,3 C2,1", "C1,3 C1,1")]),
    ],
)
def test_right_plans(text: str) -> None:
    assert TASK.score(ROW, text).correct


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "fewer than two states"),
        (RIGHT[:1], "fewer than two states"),
        ({}, "not a JSON list"),
        ("a", "not a JSON list"),
        ([*RIGHT, 1], "not a JSON list"),
        ([*RIGHT, []], "not a JSON list"),
        ([{**RIGHT[0], "a": ["C1,1"]}, *RIGHT[1:]], "not a JSON list"),
        ([{**RIGHT[0], "a": None}, *RIGHT[1:]], "not a JSON list"),
        (RIGHT[:2], "not in its goal"),
        (RIGHT[1:], "first state is not the start"),
        ([*RIGHT, {}], "does not name each box"),
        ([*RIGHT[:2], {"a": "C1,3"}], "does not name each box"),  # the other is not repeated
        ([*RIGHT[:2], {**RIGHT[2], "c": "C1,1"}], "does not name each box"),
        ([{**state, "A": state["a"]} for state in RIGHT], "does not name each box"),
        (states("C1,1 C1,2", "C1,3 C1,1"), "a cannot go from C1,1 to 'C1,3'"),  # two cells
        (states("C1,1 C1,2", "C2,2 C1,1", "C1,2 C1,1", "C1,3 C1,1"), "cannot go"),  # diagonal
        (states("C1,1 C1,2", "C0,1 C1,1", "C1,1 C1,1"), "cannot go from C1,1 to 'C0,1'"),
        (states("C1,1 C1,2", "goal C1,1"), "cannot go from C1,1 to 'goal'"),
        (states("C1,1 C1,2", "C1,2 C1,2", "C1,3 C1,1"), "step 2: two boxes leave C1,2"),
    ],
)
def test_wrong_plans_and_why(found: object, reason: str) -> None:
    verdict = TASK.score(ROW, json.dumps(found))
    assert not verdict.correct and reason in verdict.reason, verdict


def test_one_of_several_boxes_leaves_a_cell() -> None:
    """Three boxes of one cell: each waits for the one before."""
    example = item(2, 2, dict.fromkeys("abc", "C1,1"), {"a": "C1,2", "b": "C2,1", "c": "C2,2"})
    slow = states(
        "C1,1 C1,1 C1,1", "C1,2 C1,1 C1,1", "C1,2 C2,1 C1,1", "C1,2 C2,1 C1,2", "C1,2 C2,1 C2,2"
    )
    assert TASK.score(example, json.dumps(slow)).correct
    # Different cells may be left at once: c goes first, then b from C1,1 while c leaves C1,2.
    fast = states("C1,1 C1,1 C1,1", "C1,1 C1,1 C1,2", "C1,1 C2,1 C2,2", "C1,2 C2,1 C2,2")
    assert TASK.score(example, json.dumps(fast)).correct
    at_once = json.dumps(states("C1,1 C1,1 C1,1", "C1,2 C2,1 C1,1", "C1,2 C2,1 C1,2"))
    assert "two boxes leave C1,1" in TASK.score(example, at_once).reason
    assert len(plan(fast[0], fast[3])) == len(fast)


def test_a_start_that_is_the_goal_needs_two_states() -> None:
    start = {"a": "C1,1"}
    example = item(1, 2, start, start)
    assert plan(start, start) == [start, start]
    assert TASK.score(example, json.dumps([start, start])).correct
    assert not TASK.score(example, json.dumps([start])).correct
    assert all(json.loads(e.metadata)["start"] != json.loads(e.metadata)["goal"] for e in EXAMPLES)


def test_names_stand_once_in_a_state() -> None:
    text = json.dumps(RIGHT).replace('{"a"', '{"a": "C1,1", "a"', 1)
    assert not TASK.score(ROW, text).correct
    for wrong in (f"{json.dumps(RIGHT)}\n" * 2, json.dumps(RIGHT)[:-1], f"[{json.dumps(RIGHT)}]"):
        assert not TASK.score(ROW, wrong).correct


def test_plans_against_breadth_first_search() -> None:
    few = [e for e in EXAMPLES if len(json.loads(e.metadata)["start"]) == 3]
    assert few
    for example in few[:3]:
        gold = json.loads(TASK.gold(example) or "")
        fewest = fewest_states(example.question)
        # Where boxes meet, one waits; a detour might save that.
        assert fewest <= len(gold) < fewest + 3
    start, goal = {"a": "C1,1", "b": "C1,1"}, {"a": "C1,3", "b": "C1,2"}
    assert plan(start, goal) == [
        start,
        {"a": "C1,2", "b": "C1,1"},  # a goes first: it has the longer way
        {"a": "C1,3", "b": "C1,2"},
    ]


def test_sizes_are_those_of_the_release() -> None:
    sizes: dict[int, set[tuple[int, int]]] = {}
    counts: dict[tuple[int, int], set[int]] = {}
    for level in TASK.difficulties:
        for index in range(60):
            grid = json.loads(TASK.generate(index, 5, level).metadata)
            size = grid["rows"], grid["columns"]
            sizes.setdefault(level, set()).add(size)
            counts.setdefault(size, set()).add(len(grid["start"]))
            for state in (grid["start"], grid["goal"]):
                assert len(set(state.values())) == len(state)
    assert sizes == {1: {(2, 6)}, 2: {(2, 8)}, 3: {(3, 6)}, 4: {(4, 6), (4, 8)}, 5: {(5, 5)}}
    assert counts == {
        (2, 6): {3, 4, 5},
        (2, 8): {3, 4, 5, 6},
        (3, 6): {4, 5, 6},
        (4, 6): {4, 5, 6},
        (4, 8): {4, 5, 6},
        (5, 5): {4, 5, 6, 7, 8},
    }


def test_golds_replay_and_others_do_not() -> None:
    golds = [TASK.gold(example) or "" for example in EXAMPLES]
    for position, example in enumerate(EXAMPLES):
        assert replay(example.question, golds[position])
        grid = json.loads(example.metadata)
        assert read_question(example.question)[:2] == (grid["start"], grid["goal"])
        found = json.loads(golds[position])
        # A state that is left out, doubled or changed; the scorer and the replay agree on each.
        for spot in range(len(found)):
            for other in (
                found[:spot] + found[spot + 1 :],
                found[: spot + 1] + found[spot:],
                [*found[:spot], dict.fromkeys(found[spot], "C1,1"), *found[spot + 1 :]],
            ):
                text = json.dumps(other)
                judged = TASK.score(example, text).correct
                assert judged == (len(other) > 1 and replay(example.question, text))


def test_released_items(shared_data: pathlib.Path) -> None:
    found = list(released_items.read_items(shared_data / "symbench_v2", TASK))
    questions: set[str] = set()
    for number, (question, solution) in enumerate(found):
        released = TASK.parse_released(number, question, solution)
        start, goal, _ = read_question(released.example.question)
        assert (start, goal) == (solution["initial_state"], solution["goal_locations"])
        assert start.keys() == set(solution["boxes"]) and released.gold is None
        answer = TASK.solve(released.example)
        assert answer is not None and TASK.score(released.example, answer).correct
        assert replay(released.example.question, answer)
        questions.add(released.example.question)
    assert len(found) == len(questions) == 60
    assert boxnet.RELEASED_DEFECTS == {}


def test_the_last_sample_of_a_cumulative_file_is_its_question(
    shared_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    rows = [
        solution for _, solution in released_items.read_items(shared_data / "symbench_v2", TASK)
    ]
    place = tmp_path / "BoxNet1_v2_dataset"
    place.mkdir()
    for number in range(3):
        held: list[Any] = []
        for row in rows[: number + 1]:
            rest = {key: value for key, value in row.items() if key not in ("rows", "cols", "file")}
            held.append({**rest, "grid": {"rows": row["rows"], "cols": row["cols"]}})
        (place / f"question_samples_2_6_{number}.json").write_text(json.dumps(held))
    (report,) = released_items.score_released(tmp_path)
    assert (report.task, report.items, report.num_solved) == ("boxnet", 3, 3)
    again = [TASK.parse_released(0, *one) for one in released_items.read_items(tmp_path, TASK)]
    assert again == [TASK.parse_released(0, "", row) for row in rows[:3]]
    assert len({one.example.question for one in again}) == 3


GOOD = {
    "rows": 2,
    "cols": 2,
    "initial_state": {"box1": "C1,1", "box2": "C1,1"},
    "goal_locations": {"box1": "C1,2", "box2": "C2,2"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"rows": None},
        {"cols": 2.0},
        {"grid": {"rows": 2}},
        {"initial_state": {}},
        {"initial_state": None},
        {"initial_state": {"box1": "C1,1"}},
        {"initial_state": {"box1": "C1,1", "box2": "C3,1"}},
        {"initial_state": {"box1": "C1,1", "box2": 5}},
        {"initial_state": {"box1": "C1,1", "box2": ["C1,1"]}},
        {"goal_locations": ["C1,1", "C1,2"]},
        {"goal_locations": {"box1": "C1,2", "box3": "C2,2"}},
    ],
)
def test_broken_released_items_are_named(change: dict[str, object]) -> None:
    TASK.parse_released(7, "", GOOD)
    with pytest.raises(UserError, match="released item 7 of boxnet"):
        TASK.parse_released(7, "", GOOD | change)
