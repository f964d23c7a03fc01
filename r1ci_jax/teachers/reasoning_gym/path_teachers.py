"""Teachers of searches: paths in grids, connected cells, sequences of buttons, pushed boxes."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Pattern, TemplateTeacher, read

Rows = tuple[str, ...]


def _rows_literal(rows: Sequence[str], name: str) -> str:
    body = "\n".join(rows)
    return f'{name} = """\n{body}\n""".split()'


def _equal_rows(text: str) -> Rows:
    rows = tuple("".join(line.split()) for line in text.strip().splitlines())
    if len({len(row) for row in rows}) != 1:
        raise UnreadableQuestionError(text[:200])
    return rows


class Maze(TemplateTeacher[tuple[Rows, str, str, str]]):
    """Counts the fewest steps between two cells of a maze."""

    task = "rg_maze"
    forms = ("breadth_first", "rings", "relaxation", "dijkstra")
    names: ClassVar = {
        "maze": ("maze", "grid", "rows", "area"),
        "start": ("start", "source", "origin"),
        "dist": ("dist", "steps", "distance"),
    }
    scripts: ClassVar = {
        "breadth_first": """
        from collections import deque

        $grid
        where = {ch: (r, c) for r, row in enumerate($maze) for c, ch in enumerate(row)}
        $start, goal = where["$s"], where["$g"]
        $dist = {$start: 0}
        queue = deque([$start])
        while queue:
            r, c = queue.popleft()
            for cell in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if cell not in $dist and $maze[cell[0]][cell[1]] != "$wall":
                    $dist[cell] = $dist[r, c] + 1
                    queue.append(cell)
        print($dist.get(goal, "infeasible"))
        """,
        "rings": """
        $grid
        cells = {(r, c): ch for r, row in enumerate($maze) for c, ch in enumerate(row)}
        free = {cell for cell, ch in cells.items() if ch != "$wall"}
        ring = {cell for cell, ch in cells.items() if ch == "$s"}
        goal = next(cell for cell, ch in cells.items() if ch == "$g")
        $dist = 0
        while ring and goal not in ring:
            free -= ring
            near = {(r + a, c + b) for r, c in ring for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))}
            ring = near & free
            $dist += 1
        print($dist if ring else "infeasible")
        """,
        "relaxation": """
        import numpy as np

        $grid
        cells = np.array([list(row) for row in $maze])
        $dist = np.where(cells == "$s", 0, 10**6)
        for _ in range(cells.size):
            before = $dist.copy()
            for axis in (0, 1):
                for shift in (1, -1):
                    $dist = np.minimum($dist, np.roll(before, shift, axis) + 1)
            $dist[cells == "$wall"] = 10**6
            if (before == $dist).all():
                break
        best = $dist[cells == "$g"][0]
        print(best if best < 10**6 else "infeasible")
        """,
        "dijkstra": """
        import heapq

        $grid
        $start = next((r, row.index("$s")) for r, row in enumerate($maze) if "$s" in row)
        heap, seen, result = [(0, $start)], set(), "infeasible"
        while heap:
            $dist, (r, c) = heapq.heappop(heap)
            if $maze[r][c] == "$g":
                result = $dist
                break
            if (r, c) in seen or $maze[r][c] == "$wall":
                continue
            seen.add((r, c))
            for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                heapq.heappush(heap, ($dist + 1, (r + a, c + b)))
        print(result)
        """,
    }
    methods: ClassVar = {
        "breadth_first": "All steps cost the same, so breadth-first search finds the fewest.",
        "rings": "I grow the set of cells reached after 0, 1, 2, ... steps until it has the goal.",
        "relaxation": "I relax all distances at once with shifted arrays until none changes.",
        "dijkstra": "A heap of (steps, cell) visits cells in order of their distance.",
    }
    slip = (
        ("I take the differences of rows and columns between '$s' and '$g'.",),
        """
        $grid
        where = {ch: (r, c) for r, row in enumerate($maze) for c, ch in enumerate(row)}
        (a, b), (c, d) = where["$s"], where["$g"]
        print(abs(a - c) + abs(b - d) + 1)
        """,
    )

    @override
    def parse(self, question: str) -> tuple[Rows, str, str, str]:
        ends = read(r"'(.)' \(start\) to '(.)' \(goal\):\s+```\n(.*?)\n```", question)
        wall = read(r"'(.)' = Wall", question)[1]
        return _equal_rows(ends[3]), ends[1], ends[2], wall

    @override
    def values(
        self, data: tuple[Rows, str, str, str], rng: random.Random
    ) -> Mapping[str, object]:
        rows, start, goal, wall = data
        name = "$maze"
        literal = _rows_literal(rows, name).replace("\\", "\\\\")
        quoted = {key: _quoted(ch) for key, ch in zip("sgw", (start, goal, wall), strict=True)}
        return {"grid": literal, "s": quoted["s"], "g": quoted["g"], "wall": quoted["w"]}

    @override
    def openings(self, data: tuple[Rows, str, str, str]) -> Sequence[str]:
        rows, start, goal, wall = (data[0], *map(_shown, data[1:]))
        return (
            f"The maze has {len(rows)} rows of {len(rows[0])} cells, and I need the fewest steps "
            f"from {start} to {goal}.",
            f"Walls are {wall}; everything else in the {len(rows)} x {len(rows[0])} maze is free.",
            f"From {start} one moves up, down, left or right to {goal}, never onto {wall}.",
        )

    @override
    def _fill(
        self,
        data: tuple[Rows, str, str, str],
        pattern: Pattern,
        more: Mapping[str, object],
        rng: random.Random,
    ) -> Step:
        return _named_twice(super()._fill(data, pattern, more, rng))


def _quoted(character: str) -> str:
    return "\\" + character if character in "\\\"'" else character


def _shown(character: str) -> str:
    return f"'{character}'".replace("$", "$$")


TEACHERS: tuple[Teacher[Any], ...] = (Maze(),)
