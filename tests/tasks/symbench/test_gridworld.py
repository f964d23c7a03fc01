"""Grid world: every rule by hand, another search against the routes, released items."""

import itertools
import json
import pathlib
import random
import re
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import gridworld, named_cells, released_items
from r1ci_jax.tasks.symbench.gridworld import Grid, GridWorld, route

TASK = GridWorld()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]

SMALL: dict[str, Any] = {
    "rows": 3,
    "columns": 3,
    "start": "C1,1",
    "goals": ["C1,3", "C2,3"],
    "obstacles": ["C1,2", "C3,1"],
}
"""R # G, . . G, # . ."""


def item(grid: dict[str, Any]) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps(grid),
    )


def read_question(question: str) -> tuple[str, set[str], set[str], dict[str, list[str]]]:
    """Start, goals, obstacles and neighbors as the text has them."""
    start = re.search(r"starts in (\S+)\.\n", question)
    goals = re.search(r"^Goals: (.*)$", question, re.MULTILINE)
    obstacles = re.search(r"^Obstacles: (.*)$", question, re.MULTILINE)
    assert start is not None and goals is not None and obstacles is not None
    rows = re.findall(r"^(C\d,\d): (.*)$", question, re.MULTILINE)
    beside = {cell: held.split() for cell, held in rows}
    return start[1], set(json.loads(goals[1])), set(json.loads(obstacles[1])), beside


def fewest_steps(question: str) -> int:
    """Layer by layer over cell and visited goals together, on the neighbors of the text."""
    start, goals, obstacles, beside = read_question(question)
    layer = {(start, frozenset[str]())}
    seen = set(layer)
    for steps in itertools.count():
        if any(visited == goals for _, visited in layer):
            return steps
        layer = {
            (cell, visited | ({cell} & goals))
            for here, visited in layer
            for cell in beside[here]
            if cell not in obstacles
        } - seen
        assert layer, "a goal cannot be reached"
        seen |= layer
    raise AssertionError


def replay(question: str, answer: str) -> bool:
    """Judge a route from the question's text alone, by coordinates."""
    start, goals, obstacles, beside = read_question(question)
    cells = json.loads(answer)
    spots = [tuple(map(int, cell[1:].split(","))) for cell in cells]
    near = all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(spots))
    return (
        near
        and cells[0] == start
        and goals <= set(cells) <= set(beside)
        and obstacles.isdisjoint(cells)
    )


@pytest.mark.parametrize(
    "text",
    [
        '["C1,1", "C2,1", "C2,2", "C2,3", "C1,3"]',
        '["C1,1","C2,1","C2,2","C2,3","C1,3"]',
        ' [ "C1,1",\n"C2,1", "C2,2", "C2,3", "C1,3" ]\n',
        "['C1,1', 'C2,1', 'C2,2', 'C2,3', 'C1,3']",  # as Python prints a list
        '["C1,1", "C2,1", "C2,2", "C2,3", "C1,3", "C2,3", "C3,3"]',  # on after the last goal
        '["C1,1", "C2,1", "C1,1", "C2,1", "C2,2", "C3,2", "C3,3", "C2,3", "C1,3"]',  # a detour
    ],
)
def test_right_routes(text: str) -> None:
    assert TASK.score(item(SMALL), text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JSON list"),
        ("[]", "not a JSON list"),
        ("{}", "not a JSON list"),
        ('"C1,1"', "not a JSON list"),
        ("[1, 2]", "not a JSON list"),
        ('["C1,1", null]', "not a JSON list"),
        ('[["C1,1", "C2,1", "C2,2", "C2,3", "C1,3"]]', "not a JSON list"),
        ("[C1,1, C2,1, C2,2, C2,3, C1,3]", "not a JSON list"),
        ("C1,1 -> C2,1 -> C2,2 -> C2,3 -> C1,3", "not a JSON list"),
        ('["C1,1", "C2,1", "C2,2", "C2,3", "C1,3"', "not a JSON list"),
        ('["C1,1", "C2,1"] or ["C1,1", "C2,2"]', "not a JSON list"),
        ("[\"C1,1\", 'C2,1']", "not a JSON list"),
        ('["C2,1", "C2,2", "C2,3", "C1,3"]', "first cell is not C1,1"),
        ('["C1,1", "C2,1", "C2,2", "C2,3"]', "1 goals are not visited"),
        ('["C1,1"]', "2 goals are not visited"),
        ('["C1,1", "C1,2", "C1,3", "C2,3"]', "'C1,2' is an obstacle"),
        ('["C1,1", "C2,2", "C2,3", "C1,3"]', "'C2,2' is not a neighbor of C1,1"),  # diagonal
        ('["C1,1", "C1,1", "C2,1", "C2,2", "C2,3", "C1,3"]', "not a neighbor"),  # it stays
        ('["C1,1", "C2,1", "C2,3", "C1,3"]', "not a neighbor"),  # a jump
        ('["C1,1", "C0,1", "C1,1", "C2,1", "C2,2", "C2,3", "C1,3"]', "not a neighbor"),
        ('["C1,1", "C2,1", "C2,2", "C2,3", "C2,4", "C2,3", "C1,3"]', "not a neighbor"),
        ('["C1,1", "c2,1", "C2,2", "C2,3", "C1,3"]', "not a neighbor"),
        ('["C1,1", "C2, 1", "C2,2", "C2,3", "C1,3"]', "not a neighbor"),
        ('["C1,1", "down", "C2,2", "C2,3", "C1,3"]', "not a neighbor"),
    ],
)
def test_wrong_routes_and_why(text: str, reason: str) -> None:
    verdict = TASK.score(item(SMALL), text)
    assert not verdict.correct and reason in verdict.reason, verdict


def test_the_number_of_steps_is_not_limited() -> None:
    for example in EXAMPLES[::20]:
        gold = json.loads(TASK.gold(example) or "")
        there_and_back = [gold[0], gold[1]] * 500
        assert TASK.score(example, json.dumps(there_and_back + gold)).correct


def test_neighbors_by_hand() -> None:
    assert named_cells.neighbors(2, 3) == {
        "C1,1": ["C1,2", "C2,1"],
        "C1,2": ["C1,1", "C1,3", "C2,2"],
        "C1,3": ["C1,2", "C2,3"],
        "C2,1": ["C2,2", "C1,1"],
        "C2,2": ["C2,1", "C2,3", "C1,2"],
        "C2,3": ["C2,2", "C1,3"],
    }
    assert [*named_cells.walk("C3,1", "C2,3")] == ["C2,1", "C2,2", "C2,3"]
    assert [*named_cells.walk("C2,2", "C2,2")] == []


def test_routes_are_shortest() -> None:
    for example in EXAMPLES:
        assert len(json.loads(TASK.gold(example) or "")) - 1 == fewest_steps(example.question)
    assert route(Grid(**SMALL)) == ["C1,1", "C2,1", "C2,2", "C2,3", "C1,3"]
    assert route(Grid(**SMALL | {"obstacles": ["C1,2", "C2,1"]})) is None


def test_sizes_are_those_of_the_release() -> None:
    sizes: dict[int, set[tuple[int, ...]]] = {}
    for example in EXAMPLES:
        grid = Grid(**json.loads(example.metadata))
        found = grid.rows, grid.columns, len(grid.goals), len(grid.obstacles)
        sizes.setdefault(example.difficulty, set()).add(found)
        assert len({grid.start, *grid.goals, *grid.obstacles}) == 1 + sum(found[2:])
    assert sizes == {
        1: {(4, 4, 4, 5)},
        2: {(4, 5, 4, 5), (5, 5, 4, 5)},
        3: {(5, 5, 6, 8)},
        4: {(5, 6, 7, 10), (6, 6, 7, 10)},
        5: {(6, 7, 7, 10)},
    }


def test_the_text_says_what_the_scorer_knows() -> None:
    for example in EXAMPLES:
        grid = Grid(**json.loads(example.metadata))
        told = grid.start, set(grid.goals), set(grid.obstacles), grid.neighbors
        assert read_question(example.question) == told


def test_golds_replay_and_routes_of_other_grids_score_only_where_they_do() -> None:
    golds = [TASK.gold(example) or "" for example in EXAMPLES]
    for position, example in enumerate(EXAMPLES):
        assert replay(example.question, golds[position])
        for other in (golds[position - 1], golds[(position + 20) % len(golds)]):
            assert TASK.score(example, other).correct == replay(example.question, other)


def test_changed_routes_score_only_where_they_replay() -> None:
    """Cells left out, doubled or replaced, and walks that know nothing of goals and obstacles."""
    rng = random.Random(5)
    judged: list[bool] = []
    for example in EXAMPLES:
        gold = json.loads(TASK.gold(example) or "")
        _, _, _, beside = read_question(example.question)
        walk = gold[:1]
        while len(walk) < 400:
            walk.append(rng.choice(beside[walk[-1]]))
        changed = [walk, gold[::-1], gold + walk[1:9], gold + gold[::-1][1:]]
        for spot in range(len(gold)):
            other = rng.choice([*beside])
            changed += [gold[:spot] + gold[spot + 1 :], gold[: spot + 1] + gold[spot:]]
            changed += [[*gold[:spot], other, *gold[spot + 1 :]]]
            changed += [[*gold[: spot + 1], other, gold[spot], *gold[spot + 1 :]]]
        for cells in changed:
            text = json.dumps(cells)
            judged.append(TASK.score(example, text).correct)
            assert judged[-1] == replay(example.question, text), text
    assert 100 < sum(judged) < len(judged) - 1000


def test_released_items(shared_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = list(released_items.read_items(shared_data / "symbench_v2", TASK))
    assert len(found) == 60
    for number, (question, solution) in enumerate(found):
        released = TASK.parse_released(number, question, solution)
        start, goals, obstacles, _ = read_question(released.example.question)
        assert start == solution["initial_robot"] and released.gold is None
        assert (goals, obstacles) == (set(solution["goals"]), set(solution["obstacles"]))
        answer = TASK.solve(released.example)
        assert answer is not None and TASK.score(released.example, answer).correct
        assert replay(released.example.question, answer)
    assert gridworld.RELEASED_DEFECTS == {}
    # The release has a file for each item, in which `grid` holds the size.
    row = dict(found[0][1])
    grid = {"rows": row.pop("rows"), "cols": row.pop("cols"), "cells": [], "adjacency": {}}
    place = tmp_path / "GridWorld1_dataset"
    place.mkdir()
    (place / "gridworld_sample_4x4_13.json").write_text(json.dumps({**row, "grid": grid}))
    (again,) = released_items.read_items(tmp_path, TASK)
    assert TASK.parse_released(0, *again) == TASK.parse_released(0, *found[0])


GOOD = {
    "rows": 2,
    "cols": 2,
    "initial_robot": "C1,1",
    "goals": ["C2,2"],
    "obstacles": ["C1,2"],
}


@pytest.mark.parametrize(
    "change",
    [
        {"rows": None},
        {"rows": 0},
        {"rows": 10**9},
        {"cols": "2"},
        {"cols": True},
        {"grid": 3},
        {"initial_robot": None},
        {"initial_robot": "C3,1"},
        {"initial_robot": ["C1,1"]},
        {"initial_robot": "C1,2"},
        {"goals": []},
        {"goals": "C2,2"},
        {"goals": ["C2,2", 5]},
        {"goals": ["C2,2", {}]},
        {"goals": ["C2,2", "C2,2"]},
        {"goals": ["C1,2"]},
        {"obstacles": None},
        {"obstacles": ["C1,2", "C2,1"]},  # the goal cannot be reached
    ],
)
def test_broken_released_items_are_named(change: dict[str, object]) -> None:
    TASK.parse_released(7, "", GOOD)
    with pytest.raises(UserError, match="released item 7 of gridworld"):
        TASK.parse_released(7, "", GOOD | change)
