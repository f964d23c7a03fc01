"""Teacher of gridworld (a robot that visits goals on named cells)."""

import collections
import itertools
import json
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
    count_noun,
    join_words,
    pick,
    quote,
    read,
    script,
    sentence,
    step,
)

_QUESTION: Final = re.compile(
    r"a grid of ([0-9]+) rows and ([0-9]+) columns.*starts in (C[0-9,]+)\.\n"
    r"Goals: (\[.*?\])\nObstacles: (\[.*?\])\n",
    re.DOTALL,
)
_MOST_IN_WORDS: Final = 4
"""The most goals that are visited without code."""

_CELLS: Final = """\
        rows, cols = $rows, $cols
        $start, $goals = $first, $wanted
        $walls = $blocked

        def $neighbors(cell):
            r, c = map(int, cell[1:].split(","))
            for x, y in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if 1 <= x <= rows and 1 <= y <= cols and f"C{x},{y}" not in $walls:
                    yield f"C{x},{y}"
"""
_PATHS: Final = (
    _CELLS
    + """
        def $paths(source):
            found, queue = {source: []}, [source]
            for here in queue:  # it grows while it is read
                for cell in $neighbors(here):
                    if cell not in found:
                        found[cell] = found[here] + [cell]
                        queue.append(cell)
            return found
"""
)
_FORMS: Final = {
    "states": "        import json\n        from collections import deque\n\n"
    + _CELLS
    + """
        queue = deque([([$start], frozenset($goals))])
        seen = set()
        while queue:
            $route, $left = queue.popleft()
            if not $left:
                break
            for cell in $neighbors($route[-1]):
                state = (cell, $left - {cell})
                if state not in seen:
                    seen.add(state)
                    queue.append(($route + [cell], state[1]))
        print(json.dumps($route))
    """,
    "nearest": "        import json\n\n"
    + _PATHS
    + """
        $route, $left = [$start], list($goals)
        while $left:
            found = $paths($route[-1])
            goal = min($left, key=lambda cell: len(found[cell]))
            $route += found[goal]
            $left = [cell for cell in $left if cell not in $route]
        print(json.dumps($route))
    """,
    "listed_order": "        import json\n\n"
    + _PATHS
    + """
        $route = [$start]
        for goal in $goals:
            if goal not in $route:
                $route += $paths($route[-1])[goal]
        print(json.dumps($route))
    """,
    "permutations": "        import json\n        from itertools import pairwise, permutations\n\n"
    + _PATHS
    + """
        legs = {cell: $paths(cell) for cell in [$start, *$goals]}

        def $length(order):
            return sum(len(legs[a][b]) for a, b in pairwise([$start, *order]))

        order = [$start, *min(permutations($goals), key=$length)]
        $route = [$start] + [cell for a, b in pairwise(order) for cell in legs[a][b]]
        print(json.dumps($route))
    """,
    "downhill": "        import json\n\n"
    + _CELLS
    + """
        $route, $left = [$start], set($goals)
        while $left:
            # The distance of every cell to the nearest goal that is left.
            gap, wave = dict.fromkeys($left, 0), sorted($left)
            for here in wave:
                for cell in $neighbors(here):
                    if cell not in gap:
                        gap[cell] = gap[here] + 1
                        wave.append(cell)
            while gap[$route[-1]]:
                $route.append(min($neighbors($route[-1]), key=gap.get))
            $left.remove($route[-1])
        print(json.dumps($route))
    """,
}
_METHODS: Final = {
    "states": (
        "A breadth-first search over pairs of the robot's cell and the goals still to be visited "
        "finds a shortest route.",
        "I search level by level over the cell together with the set of goals that are left.",
    ),
    "nearest": (
        "From each place I go to the nearest goal that is left, on a way that breadth-first search "
        "finds.",
        "As any route will do, the robot always takes the shortest way to the closest goal.",
    ),
    "listed_order": (
        "The number of steps is not limited, so the goals can be visited in the order listed, each "
        "leg by breadth-first search.",
        "Any order is allowed; I take the goals as they are listed and join shortest legs.",
    ),
    "permutations": (
        "With the shortest ways between start and goals I try every order of the goals and keep "
        "the shortest.",
        "Breadth-first search gives the legs; then the best of all orders of the goals is taken.",
    ),
    "downhill": (
        "A wave from all goals that are left gives each cell its distance to the nearest one; the "
        "robot walks downhill.",
        "I spread distances from the remaining goals over the grid, and the robot follows the "
        "falling numbers.",
    ),
}


class NamedGrid(NamedTuple):
    """Size, start, goals and obstacles."""

    rows: int
    columns: int
    start: str
    goals: tuple[str, ...]
    obstacles: tuple[str, ...]


class GridWorld(Teacher[NamedGrid]):
    """Leads a robot over a grid with obstacles to all goals."""

    task = "gridworld"
    forms = tuple(_FORMS)

    @override
    def parse(self, question: str) -> NamedGrid:
        found = read(_QUESTION, question)
        goals, obstacles = (tuple(json.loads(found[place])) for place in (4, 5))
        return NamedGrid(int(found[1]), int(found[2]), found[3], goals, obstacles)

    def _fields(self, data: NamedGrid, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            start="start robot origin",
            goals="goals targets wanted",
            walls="walls obstacles blocked",
            neighbors="neighbors steps_from beside",
            paths="paths ways shortest_from",
            left="left remaining missing",
            route="route path walk",
            length="length cost steps",
        )
        return names | {
            "rows": data.rows,
            "cols": data.columns,
            "first": quote(data.start),
            "wanted": json.dumps(data.goals),
            "blocked": "{" + ", ".join(map(quote, data.obstacles)) + "}",
        }

    def _openings(self, data: NamedGrid) -> list[str]:
        size, count = f"{data.rows} x {data.columns}", len(data.goals)
        return [
            f"On a {size} grid the robot has to visit {count} goals from {data.start}.",
            f"{count} goals, {count_noun(len(data.obstacles), 'obstacle')}, {size} cells.",
            f"The robot starts in {data.start} and must avoid {len(data.obstacles)} of the "
            f"{data.rows * data.columns} cells.",
        ]

    @override
    def step(self, data: NamedGrid, form: str, rng: random.Random) -> Step:
        words = sentence(rng.choice(self._openings(data)), rng.choice(_METHODS[form]))
        return Step(words=words, code=script(_FORMS[form], **self._fields(data, rng)))

    @override
    def check(self, data: NamedGrid, answer: str, rng: random.Random) -> Step:
        code = """
            $route = "$claim".split()
            $goals = $wanted
            $walls = $blocked
            spots = [tuple(map(int, cell[1:].split(","))) for cell in $route]
            inside = all(1 <= r <= $rows and 1 <= c <= $cols for r, c in spots)
            near = all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in zip(spots, spots[1:]))
            print(inside and near and $route[0] == $first
                  and $walls.isdisjoint($route) and set($goals) <= set($route))
        """
        cells = json.loads(answer)
        words = (
            f"I test the {count_noun(len(cells) - 1, 'step')}: each to a neighbor, none into an "
            "obstacle, and no goal left out.",
            f"Does the route begin in {data.start}, keep off the obstacles and meet all "
            f"{len(data.goals)} goals?",
        )
        fields = self._fields(data, rng) | {"claim": " ".join(cells)}
        return step(rng, words, script(code, **fields))

    @override
    def small_case(self, data: NamedGrid, rng: random.Random) -> Step:
        code = (
            _PATHS
            + """
        found = $paths($start)
        for goal in $goals:
            print(goal, len(found[goal]))
        """
        )
        words = (
            f"First I see how far each of the {len(data.goals)} goals is from {data.start}.",
            f"I begin with the distances from {data.start} to the goals around the obstacles.",
        )
        return step(rng, words, script(code, **self._fields(data, rng)))

    @override
    def first_attempt(self, data: NamedGrid, rng: random.Random) -> Step:
        # Walks straight from goal to goal, whatever is in the way.
        code = """
            import json

            $start, $goals = $first, $wanted
            $route = [$start]
            r, c = map(int, $start[1:].split(","))
            for goal in $goals:
                x, y = map(int, goal[1:].split(","))
                while (r, c) != (x, y):
                    if r != x:
                        r += 1 if x > r else -1
                    else:
                        c += 1 if y > c else -1
                    $route.append(f"C{r},{c}")
            print(json.dumps($route))
        """
        words = (
            "The robot walks from goal to goal, first up or down, then sideways.",
            f"I let the robot visit the {len(data.goals)} goals one after the other, to the right "
            "row first.",
        )
        return step(rng, words, script(code, **self._fields(data, rng)))

    @override
    def in_words(self, data: NamedGrid, rng: random.Random) -> tuple[str, str] | None:
        if len(data.goals) > _MOST_IN_WORDS:
            return None
        route, left, told = [data.start], list(data.goals), list[str]()
        while left:
            found = _shortest(data, route[-1])
            goal = min(left, key=lambda cell: (len(found[cell]), cell))
            way = found[goal]
            if len(way) == 1:
                told.append(f"{goal} is a neighbor of {route[-1]}, so the robot enters it.")
            else:
                told.append(f"To {goal} it goes by {join_words(way[:-1])}.")
            route += way
            left = [cell for cell in left if cell not in route]
        opening = rng.choice(
            [
                f"The robot starts in {data.start}; the nearest goal comes first each time.",
                f"From {data.start} the robot goes to the closest goal that is left, again and "
                "again.",
            ]
        )
        closing = f"None of these cells is an obstacle ({join_words(data.obstacles)})."
        return sentence(opening, *told, closing), json.dumps(route)

    @override
    def wrong_answer(self, data: NamedGrid, answer: str, rng: random.Random) -> str | None:
        # The robot stops just before it has visited its last goal.
        route = json.loads(answer)
        return json.dumps(route[: max(route.index(goal) for goal in data.goals)])


def _shortest(data: NamedGrid, source: str) -> dict[str, list[str]]:
    """Return a shortest way, without its first cell, to every cell that can be reached."""
    free = {
        (r, c)
        for r, c in itertools.product(range(1, data.rows + 1), range(1, data.columns + 1))
        if f"C{r},{c}" not in data.obstacles
    }
    row, column = map(int, source[1:].split(","))
    found: dict[str, list[str]] = {source: []}
    queue = collections.deque([(row, column)])
    while queue:
        r, c = queue.popleft()
        for x, y in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if (x, y) in free and f"C{x},{y}" not in found:
                found[f"C{x},{y}"] = [*found[f"C{r},{c}"], f"C{x},{y}"]
                queue.append((x, y))
    return found


TEACHERS: tuple[Teacher[Any], ...] = (GridWorld(),)
