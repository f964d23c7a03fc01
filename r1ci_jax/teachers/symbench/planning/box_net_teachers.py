"""Teacher of boxnet (arms that pass boxes from cell to cell).

The scripts print a plan in short: a line has the cells of all boxes at one time, or the way of one
box. The answer writes it out as states.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
    count_noun,
    join_words,
    literal,
    pick,
    read,
    require,
    rows_literal,
    script,
    sentence,
    step,
)

Cell = tuple[int, int]
"""Row and column, from 1."""

_QUESTION: Final = re.compile(
    r"boxes lie on a grid of ([0-9]+) rows and ([0-9]+) columns.*"
    r"boxes at the start: (\{.*?\})\nThe goal of each box: (\{.*?\})\n",
    re.DOTALL,
)
_CELL: Final = re.compile(r"C([0-9]+),([0-9]+)")
_SHORT: Final = 24
"""The most cells (states times boxes) of a plan that is checked or worked out in words."""

_FORMS: Final = {
    "slots": """
        $starts = $first
        $goals = $last
        busy = set()  # (time, row, column) of an arm that has moved a box
        for (r, c), (x, y) in zip($starts, $goals):
            $route = [f"C{r},{c}"]
            while (r, c) != (x, y):
                slot = (len($route), r, c)
                if slot not in busy:
                    busy.add(slot)
                    $move_12
                $route.append(f"C{r},{c}")
            print(*$route)
    """,
    "rounds": """
        $state = $first
        $goals = $last

        def show():
            print(*(f"C{r},{c}" for r, c in $state))

        show()
        while $state != $goals:
            busy, $after = set(), []  # an arm moves one box at a time
            for (r, c), (x, y) in zip($state, $goals):
                if (r, c) != (x, y) and (r, c) not in busy:
                    busy.add((r, c))
                    $move_12
                $after.append((r, c))
            $state = $after
            show()
    """,
    "recursion": """
        $goals = $last

        def $plan($state):
            if $state == $goals:
                return [$state]
            # One box for each cell that has some to move.
            $movers = {cell: i for i, cell in enumerate($state) if cell != $goals[i]}
            $after = list($state)
            for (r, c), i in $movers.items():
                x, y = $goals[i]
                $move_8
                $after[i] = (r, c)
            return [$state, *$plan($after)]

        for $state in $plan($first):
            print(*(f"C{r},{c}" for r, c in $state))
    """,
    "arrays": """
        import numpy as np

        $state = np.array($first)
        $goals = np.array($last)
        while True:
            print(*(f"C{r},{c}" for r, c in $state))
            move = np.sign($goals - $state)
            move[move[:, $ahead] != 0, $behind] = 0  # $axis first
            away = np.flatnonzero(move.any(axis=1))
            if not len(away):
                break
            _, one = np.unique($state[away], axis=0, return_index=True)  # one box a cell
            $state[away[one]] += move[away[one]]
    """,
    "ways": """
        $starts = $first
        $goals = $last
        $ways = []
        for (r, c), (x, y) in zip($starts, $goals):
            down, right = 1 if x > r else -1, 1 if y > c else -1
            way = $corner
            $ways.append(way + [(x, y)])

        while True:
            print(*(f"C{way[0][0]},{way[0][1]}" for way in $ways))
            moving = {way[0]: way for way in $ways if len(way) > 1}  # one box a cell
            if not moving:
                break
            for way in moving.values():
                way.pop(0)
    """,
    "states": """
        import json

        $state = $named_first
        $goals = $named_last
        $plan = [$state]
        while $state != $goals:
            busy, $after = set(), {}
            for box, cell in $state.items():
                (r, c), (x, y) = (map(int, s[1:].split(",")) for s in (cell, $goals[box]))
                if (r, c) != (x, y) and cell not in busy:
                    busy.add(cell)
                    $move_12
                $after[box] = f"C{r},{c}"
            $state = $after
            $plan.append($state)
        print(json.dumps($plan, separators=(",", ":")))
    """,
}
_ROW_FIRST: Final = (
    "if r != x:\n    r += 1 if x > r else -1\nelse:\n    c += 1 if y > c else -1",
    "[(i, c) for i in range(r, x, down)] + [(x, j) for j in range(c, y, right)]",
)
_COLUMN_FIRST: Final = (
    "if c != y:\n    c += 1 if y > c else -1\nelse:\n    r += 1 if x > r else -1",
    "[(r, j) for j in range(c, y, right)] + [(i, y) for i in range(r, x, down)]",
)
_METHODS: Final = {
    "slots": (
        "I plan one box after the other; a box waits where the arm of its cell is busy at that "
        "time. A line is the way of a box.",
        "Each box takes a shortest way and reserves the arms that it needs, time by time. One line "
        "a box.",
    ),
    "rounds": (
        "In each round every arm that has a box to move brings one a cell closer; a line has the "
        "cells of all boxes.",
        "All boxes move at the same time, at most one from each cell. Each line is a state.",
    ),
    "recursion": (
        "The plan is the present state, followed by the plan from the next one, in which one box "
        "of each cell has moved.",
        "A recursion over states: one box of each cell comes a step closer to its goal.",
    ),
    "arrays": (
        "With positions as an array, the signs of the differences are the moves; np.unique leaves "
        "one box a cell.",
        "The signs of goal minus position say where each box has to go; one box a cell moves.",
    ),
    "ways": (
        "I write down the way of each box and let the boxes follow their ways, one at a time from "
        "each cell.",
        "First the ways, then the time: in each step one box of each cell goes on.",
    ),
    "states": (
        "Starting from the first state I build the next ones, in which each arm moves one box at "
        "most.",
        "Every state follows from the one before: boxes come closer to their goals, one a cell.",
    ),
}


class Boxes(NamedTuple):
    """Size of the grid, the cell of each box at the start and its goal."""

    rows: int
    columns: int
    start: Mapping[str, str]
    goal: Mapping[str, str]


class BoxNet(Teacher[Boxes]):
    """Brings boxes to their goals on a grid with an arm in each cell."""

    task = "boxnet"
    forms = tuple(_FORMS)

    @override
    def parse(self, question: str) -> Boxes:
        found = read(_QUESTION, question)
        start, goal = (json.loads(found[place]) for place in (3, 4))
        require(start.keys() == goal.keys(), question)
        return Boxes(int(found[1]), int(found[2]), start, goal)

    def _fields(self, data: Boxes, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            starts="starts boxes places",
            goals="goals targets ends",
            state="state cells now",
            after="after later moved",
            route="route path line",
            ways="ways routes tracks",
            movers="movers leaving pushed",
            plan="plan states timeline",
        )
        is_row_first = rng.random() < 0.5
        code, corner = _ROW_FIRST if is_row_first else _COLUMN_FIRST
        first, last = (literal([*map(_cell, held.values())]) for held in (data.start, data.goal))
        return names | {
            "first": first,
            "last": last,
            "named_first": json.dumps(data.start),
            "named_last": json.dumps(data.goal),
            "move_8": code.replace("\n", "\n" + " " * 8),
            "move_12": code.replace("\n", "\n" + " " * 12),
            "corner": corner,
            "ahead": 0 if is_row_first else 1,
            "behind": 1 if is_row_first else 0,
            "axis": "rows" if is_row_first else "columns",
        }

    def _openings(self, data: Boxes) -> list[str]:
        count, far = len(data.start), max(_distances(data))
        away = sum(map(bool, _distances(data)))
        return [
            f"{count} boxes on {data.rows} x {data.columns} cells, the farthest {far} from its "
            "goal.",
            f"{'All' if away == count else f'{away} of the'} {count} boxes have to move, and boxes "
            "do not obstruct each other.",
            f"At least {count_noun(far, 'step')} are needed for the {count} boxes."
            if far > 1
            else f"Each of the {count} boxes is next to its goal or in it.",
        ]

    @override
    def step(self, data: Boxes, form: str, rng: random.Random) -> Step:
        words = sentence(rng.choice(self._openings(data)), rng.choice(_METHODS[form]))
        return Step(words=words, code=script(_FORMS[form], **self._fields(data, rng)))

    @override
    def answer(self, data: Boxes, printed: str) -> str:
        text = printed.strip()
        if text.startswith("["):
            return text
        lines = [line.split() for line in text.splitlines()]
        if [line[0] for line in lines] == [*data.start.values()] and _is_ways(lines, data):
            longest = max(map(len, lines))
            padded = [line + line[-1:] * (longest - len(line)) for line in lines]
            lines = [[*cells] for cells in zip(*padded, strict=True)]
            lines *= 1 if len(lines) > 1 else 2
        return _write([dict(zip(data.start, cells, strict=True)) for cells in lines])

    @override
    def check(self, data: Boxes, answer: str, rng: random.Random) -> Step | None:
        states = json.loads(answer)
        if len(states) * len(data.start) > _SHORT:
            return None
        code = """
            $plan = $claim
            $plan = [[tuple(map(int, s[1:].split(","))) for s in line.split()] for line in $plan]
            right = len($plan) > 1 and $plan[0] == $first
            right = right and $plan[-1] == $last
            for $state, $after in zip($plan, $plan[1:]):
                leaving = [a for a, b in zip($state, $after) if a != b]
                right = right and len(set(leaving)) == len(leaving)
                for (r, c), (x, y) in zip($state, $after):
                    right = right and abs(r - x) + abs(c - y) <= 1
            print(right)
        """
        rows = [f'"{" ".join(state.values())}"' for state in states]
        words = (
            f"I go through the {len(states)} states: no box may skip a cell, and no cell may be "
            "left by two boxes at once.",
            "A second script tests start, goals, distances of one, and that one box at most leaves "
            "a cell.",
        )
        fields = self._fields(data, rng) | {"claim": rows_literal(rows)}
        return step(rng, words, script(code, **fields))

    @override
    def small_case(self, data: Boxes, rng: random.Random) -> Step:
        code = """
            $starts = $first
            $goals = $last
            for (r, c), (x, y) in zip($starts, $goals):
                print(x - r, y - c)
        """
        words = (
            f"First I see how many rows and columns each of the {len(data.start)} boxes has to go.",
            "I begin with the differences between goal and start, in rows and columns.",
        )
        return step(rng, words, script(code, **self._fields(data, rng)))

    @override
    def first_attempt(self, data: Boxes, rng: random.Random) -> Step | None:
        # Boxes would go over a corner.
        pairs = zip(map(_cell, data.start.values()), map(_cell, data.goal.values()), strict=True)
        if not any(r != x and c != y for (r, c), (x, y) in pairs):
            return None
        code = """
            import numpy as np

            $state = np.array($first)
            $goals = np.array($last)
            print(*(f"C{r},{c}" for r, c in $state))
            while ($state != $goals).any():
                $state += np.sign($goals - $state)
                print(*(f"C{r},{c}" for r, c in $state))
        """
        words = (
            f"All {len(data.start)} boxes go towards their goals at once; a line is a state.",
            "The signs of the differences say where each box goes next.",
        )
        return step(rng, words, script(code, **self._fields(data, rng)))

    @override
    def in_words(self, data: Boxes, rng: random.Random) -> tuple[str, str] | None:
        plans = [ways for ways in (_ways(data, True), _ways(data, False)) if not _clashes(ways)]
        count = max(_distances(data)) + 1
        if not plans or count * len(data.start) > _SHORT:
            return None
        ways = rng.choice(plans)
        told = [
            f"{box} goes from {way[0]} to {join_words(way[1:])}."
            if len(way) > 1
            else f"{box} stays in {way[0]}."
            for box, way in ways.items()
        ]
        opening = rng.choice(
            ["The boxes take these ways, all at the same time.", "Each box takes a shortest way."]
        )
        closing = (
            f"No cell is left by two boxes in the same step, so {count_noun(count - 1, 'step')} "
            "will do."
        )
        states = [
            {box: way[min(time, len(way) - 1)] for box, way in ways.items()}
            for time in range(count)
        ]
        return sentence(opening, *told, closing), _write(states)

    @override
    def wrong_answer(self, data: Boxes, answer: str, rng: random.Random) -> str | None:
        # The boxes would reach their goals in one step.
        if max(_distances(data)) < 2:
            return None
        return _write([data.start, data.goal])


def _write(states: Sequence[Mapping[str, str]]) -> str:
    """Write the answer, without blanks: it is long."""
    return json.dumps(states, separators=(",", ":"))


def _cell(name: str) -> Cell:
    found = _CELL.fullmatch(name)
    assert found is not None, "a cell of the question"
    return int(found[1]), int(found[2])


def _distances(data: Boxes) -> list[int]:
    """Return how many steps each box needs."""
    pairs = zip(map(_cell, data.start.values()), map(_cell, data.goal.values()), strict=True)
    return [abs(r - x) + abs(c - y) for (r, c), (x, y) in pairs]


def _ways(data: Boxes, is_row_first: bool) -> dict[str, list[str]]:
    """Return the names of the cells of each box's shortest way, which has one corner."""
    ways: dict[str, list[str]] = {}
    for box, start in data.start.items():
        (r, c), (x, y) = _cell(start), _cell(data.goal[box])
        ways[box] = [start]
        while (r, c) != (x, y):
            if (r != x and is_row_first) or c == y:
                r += 1 if x > r else -1
            else:
                c += 1 if y > c else -1
            ways[box].append(f"C{r},{c}")
    return ways


def _clashes(ways: Mapping[str, list[str]]) -> bool:
    """Return True if two boxes would leave a cell in the same step."""
    leaving = [slot for way in ways.values() for slot in enumerate(way[:-1])]
    return len(set(leaving)) < len(leaving)


def _is_ways(lines: list[list[str]], data: Boxes) -> bool:
    """Return True if line i is the way of box i: it ends in the goal of this box."""
    return [line[-1] for line in lines] == [*data.goal.values()]


TEACHERS: tuple[Teacher[Any], ...] = (BoxNet(),)
