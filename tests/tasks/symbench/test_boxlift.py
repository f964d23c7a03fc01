"""BoxLift: every rule by hand, exhaustive search against the schedules, released states."""

import functools
import itertools
import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import boxlift
from r1ci_jax.tasks.symbench.boxlift import BoxLift, format_schedule, schedule

TASK = BoxLift()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(boxes: list[int], lifters: list[int], limit: int) -> Example:
    return Example(
        id="x",
        task=TASK.name,
        question="",
        answer="",
        difficulty=1,
        metadata=json.dumps({"boxes": boxes, "lifters": lifters, "limit": limit}),
    )


def fewest_steps(boxes: tuple[int, ...], lifters: tuple[int, ...]) -> int:
    """Over sets of boxes: the least number of sets that one step can lift."""

    @functools.cache
    def liftable(weights: tuple[int, ...], free: tuple[int, ...]) -> bool:
        if not weights:
            return True
        return any(
            sum(team) >= weights[0]
            and liftable(weights[1:], tuple(x for i, x in enumerate(free) if i not in places))
            for size in range(1, len(free) + 1)
            for places in itertools.combinations(range(len(free)), size)
            for team in [[free[i] for i in places]]
        )

    everything = (1 << len(boxes)) - 1
    steps = [
        mask
        for mask in range(1, everything + 1)
        if liftable(tuple(w for i, w in enumerate(boxes) if mask >> i & 1), lifters)
    ]
    reached, count = {0}, 0
    while everything not in reached:
        reached |= {done | step for done in reached for step in steps}
        count += 1
    return count


def replay(question: str, answer: str) -> bool:
    """Judge a schedule from the question's text with JSON and multisets."""
    weights, capacities = (
        json.loads(f"[{row}]") for row in re.findall(r"^\w+ of the \w+: (.*)$", question, re.M)
    )
    limit = re.search(r"in at most (\d+) steps", question)
    rows = [
        line.partition(": ")[2].replace("(", "[").replace(")", "]") for line in answer.split("\n")
    ]
    steps = [json.loads(row) for row in rows]
    lifted = sorted(weight for step in steps for weight, _ in step)
    busy = [[lifter for _, team in step for lifter in team] for step in steps]
    return (
        limit is not None
        and len(steps) <= int(limit[1])
        and lifted == sorted(weights)
        and all(len(set(team)) == len(team) for team in busy)
        and all(sum(capacities[i] for i in team) >= w for step in steps for w, team in step)
    )


def test_every_rule() -> None:
    example = item([70, 25, 25, 40], [50, 30, 30], 2)
    first, second = "Step 1: [(70, [0, 2]), (25, [1])]", "Step 2: [(40, [0]), (25, [1])]"
    good = f"{first}\n{second}"
    for text in (
        good,
        f" {good}\n",
        good.replace(", ", ","),
        "Step 1: [(25, [2]), (70, [1, 0])]\nStep 2: [(25, [0]), (40, [1, 2])]",
    ):
        assert TASK.score(example, text).correct, text
    for text in (
        "",
        first,
        f"{first}\n{second}\nStep 3: [(25, [1])]",
        f"{first}\nStep 2: [(40, [0])]",  # a box is left
        f"{first}\nStep 2: [(40, [0]), (25, [1]), (25, [2])]",  # lifted three times
        f"{first}\nStep 2: [(40, [0]), (25, [0])]",  # one lifter for two boxes
        f"{first}\nStep 2: [(40, [1, 1]), (25, [0])]",  # one lifter twice
        f"{first}\nStep 2: [(40, [1]), (25, [0])]",  # too weak
        f"{first}\nStep 2: [(40, [3, 0]), (25, [1])]",  # no such lifter
        f"{first}\nStep 2: [(40, [-3]), (25, [1])]",
        f"{first}\nStep 2: [(40, []), (25, [1])]",
        f"{first}\nStep 3: [(40, [0]), (25, [1])]",
        f"{first}\n{second[8:]}",
        f"{first}, {second}",
        f"{good}\nAll boxes are lifted.",
        f"Step 1: []\n{good}",
        good.replace("(", "[").replace(")", "]"),
        f"{first}\nStep 2: [(41, [0]), (25, [1])]",
    ):
        assert not TASK.score(example, text).correct, text


def test_schedules_against_exhaustive_search() -> None:
    for example in EXAMPLES[:20]:
        drawn = json.loads(example.metadata)
        boxes, lifters = drawn["boxes"], drawn["lifters"]
        fewest = fewest_steps(tuple(boxes), tuple(lifters))
        assert fewest <= drawn["limit"] <= len(boxes)
        for tight in (True, False):
            steps = schedule(boxes, lifters, tight=tight)
            assert len(steps) >= drawn["limit"]
            unbounded = item(boxes, lifters, len(boxes))
            assert TASK.score(unbounded, format_schedule(steps)).correct


def test_golds_replay() -> None:
    for example in EXAMPLES:
        assert replay(example.question, TASK.gold(example) or "")


def test_the_released_limits_can_be_kept(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/boxlift.jsonl").read_text().splitlines()
    items = [TASK.parse_released(i, "", json.loads(line)) for i, line in enumerate(lines)]
    solved = 0
    for released in items:
        assert released.gold is None and "Capacities" in released.example.question
        drawn = json.loads(released.example.metadata)
        steps = schedule(drawn["boxes"], drawn["lifters"], tight=False)
        solved += TASK.score(released.example, format_schedule(steps)).correct
    assert (len(items), solved) == (20, 20)
    assert boxlift.RELEASED_DEFECTS == {}


@pytest.mark.parametrize(
    "solution",
    [
        None,
        {},
        {"boxes": [1]},
        {"boxes": [], "lifters": []},
        {"boxes": ["1"], "lifters": [2]},
        {"boxes": [5], "lifters": [2, 2]},
    ],
)
def test_broken_released_items_are_named(solution: object) -> None:
    with pytest.raises(UserError, match="released item 7 of boxlift"):
        TASK.parse_released(7, "", solution)
