"""Teacher of gridworld_moves (a robot that visits goals)."""

import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, quote, read, rows_literal, script, step

_TALL: Final = 7
"""The most rows of a grid that are written on lines of their own."""
_ROBOT: Final = re.compile(
    r"# an obstacle and \. a free cell:\n([RG#.\n]+)\n\n.*?with at most ([0-9]+) moves", re.DOTALL
)

_CELLS: Final = """\
        $grid = $board
        STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
        cells = {(r, c): sign for r, row in enumerate($grid) for c, sign in enumerate(row)
                 if sign != "#"}
        $start = next(cell for cell in cells if cells[cell] == "R")
        $goals = [cell for cell in cells if cells[cell] == "G"]
"""
_DISTANCES: Final = (
    _CELLS
    + """
        def $routes(source):
            paths, queue = {source: []}, [source]
            for r, c in queue:  # it grows while it is read
                for name, (dr, dc) in STEPS.items():
                    after = (r + dr, c + dc)
                    if after in cells and after not in paths:
                        paths[after] = paths[r, c] + [name]
                        queue.append(after)
            return paths

        paths = {cell: $routes(cell) for cell in [$start, *$goals]}
"""
)
_ROBOT_FORMS: Final = {
    "states": "        from collections import deque\n\n"
    + _CELLS
    + """
        first = ($start, frozenset($goals))
        came, queue = {first: None}, deque([first])
        while queue:
            state = (r, c), $left = queue.popleft()
            if not $left:
                break
            for name, (dr, dc) in STEPS.items():
                cell = (r + dr, c + dc)
                after = (cell, $left - {cell})
                if cell in cells and after not in came:
                    came[after] = (state, name)
                    queue.append(after)

        $moves = []
        while came[state]:
            state, name = came[state]
            $moves.append(name)
        print("[" + ", ".join(reversed($moves)) + "]")
    """,
    "permutations": "        from itertools import pairwise, permutations\n\n"
    + _DISTANCES
    + """
        def $length(order):
            return sum(len(paths[a][b]) for a, b in pairwise([$start, *order]))

        order = min(permutations($goals), key=$length)
        $moves = [m for a, b in pairwise([$start, *order]) for m in paths[a][b]]
        print(f"[{', '.join($moves)}]")
    """,
    "recursion": "        from functools import lru_cache\n\n"
    + _DISTANCES
    + """
        @lru_cache(maxsize=None)
        def $length(here, $left):
            tours = [paths[here][goal] + $length(goal, $left - {goal}) for goal in $left]
            return min(tours, key=len, default=[])

        print("[" + ", ".join($length($start, frozenset($goals))) + "]")
    """,
    "priority_queue": "        import heapq\n\n"
    + _DISTANCES
    + """
        queue, done = [(0, $start, [], frozenset($goals))], set()
        while queue:
            cost, here, $moves, $left = heapq.heappop(queue)
            if not $left:
                break
            if (here, $left) not in done:
                done.add((here, $left))
                for goal in $left:
                    leg = paths[here][goal]
                    heapq.heappush(queue, (cost + len(leg), goal, $moves + leg, $left - {goal}))
        print(f"[{', '.join($moves)}]")
    """,
}
_ROBOT_WORDS: Final = {
    "states": "A breadth-first search over pairs of the robot's cell and the goals still to be "
    "visited finds the shortest plan.",
    "permutations": "Breadth-first search gives the routes between robot and goals; then every "
    "order of the goals is tried and the shortest taken.",
    "recursion": "With the shortest routes between robot and goals known, a recursion with memory "
    "over the goals that are left finds the best order.",
    "priority_queue": "After the shortest routes between the goals are known, a priority queue "
    "always extends the tour that is shortest so far.",
}


class RobotGrid(NamedTuple):
    """The rows of the grid and the largest number of moves."""

    grid: tuple[str, ...]
    limit: int

    @property
    def goals(self) -> int:
        """Number of goals."""
        return "".join(self.grid).count("G")


class GridWorldMoves(Teacher[RobotGrid]):
    """Leads a robot over a grid with obstacles to all goals."""

    task = "gridworld_moves"
    forms = tuple(_ROBOT_FORMS)

    @override
    def parse(self, question: str) -> RobotGrid:
        found = read(_ROBOT, question)
        return RobotGrid(tuple(found[1].split()), int(found[2]))

    def _fields(self, data: RobotGrid, rng: random.Random, form: str) -> dict[str, Any]:
        names = pick(
            rng,
            grid="grid rows field lines",
            start="start robot origin",
            goals="goals targets wanted",
            left="left remaining missing",
            moves="moves plan route",
            routes="routes paths_from shortest_routes bfs",
            length="tour_length cost total" if form == "permutations" else "tour best_tour finish",
        )
        rows = [quote(row) for row in data.grid]
        if len(rows) > _TALL:
            rows = [", ".join(rows[k : k + 2]) for k in range(0, len(rows), 2)]
        return names | {"board": rows_literal(rows)}

    @override
    def step(self, data: RobotGrid, form: str, rng: random.Random) -> Step:
        size = f"{len(data.grid)} by {len(data.grid[0])}"
        opening = rng.choice(
            [
                f"The robot has to visit {data.goals} goals on a {size} grid within {data.limit} "
                "moves, so the order matters.",
                f"{data.goals} goals and a limit of {data.limit} moves: detours must be avoided.",
                f"On this {size} grid a shortest tour over the {data.goals} goals certainly keeps "
                f"the limit of {data.limit} moves.",
            ]
        )
        return Step(
            words=f"{opening} {_ROBOT_WORDS[form]}",
            code=script(_ROBOT_FORMS[form], **self._fields(data, rng, form)),
        )

    @override
    def check(self, data: RobotGrid, answer: str, rng: random.Random) -> Step:
        code = """
            $grid = $board
            $moves = "$claim".split()
            steps = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
            cells = {(r, c): sign for r, line in enumerate($grid) for c, sign in enumerate(line)}
            r, c = next(cell for cell in cells if cells[cell] == "R")
            $left = {cell for cell in cells if cells[cell] == "G"}
            legal = len($moves) <= $limit
            for move in $moves:
                r, c = r + steps[move][0], c + steps[move][1]
                legal = legal and cells.get((r, c), "#") != "#"
                $left.discard((r, c))
            print(legal and not $left)
        """
        fields = self._fields(data, rng, "states")
        claim = answer.strip("[]").replace(",", "")
        return step(
            rng,
            [
                "I walk the moves once more and see whether an obstacle is hit or a goal is left.",
                "Walking the plan shows whether it stays on free cells, visits all "
                f"{data.goals} goals and needs at most {data.limit} moves.",
            ],
            script(code, **fields | {"claim": claim, "limit": data.limit}),
        )

    @override
    def small_case(self, data: RobotGrid, rng: random.Random) -> Step:
        code = (
            _DISTANCES
            + """
        for cell in [$start, *$goals]:
            print(cell, [len(paths[cell][goal]) for goal in $goals])
        """
        )
        return step(
            rng,
            [
                f"First the distances from the robot and between the {data.goals} goals.",
                "I begin with the table of the shortest distances to each goal.",
            ],
            script(code, **self._fields(data, rng, "states")),
        )

    @override
    def wrong_answer(self, data: RobotGrid, answer: str, rng: random.Random) -> str | None:
        # A shortest plan enters its last goal by its last move.
        moves = answer.strip("[]").split(", ")
        return f"[{', '.join(moves[:-1])}]" if len(moves) > 1 else None


TEACHERS: tuple[Teacher[Any], ...] = (GridWorldMoves(),)
