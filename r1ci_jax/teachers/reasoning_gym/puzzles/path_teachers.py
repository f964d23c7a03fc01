"""Teachers of grids: paths through them and connected cells."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.row_blocks import read_rows, split_block
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, count_noun, read

Rows = tuple[str, ...]


Cell = tuple[int, int]

_STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""In the order in which the scripts try them."""


def _near(cell: Cell) -> list[Cell]:
    return [(cell[0] + a, cell[1] + b) for a, b in _STEPS.values()]


def _find(rows: Rows, sign: str) -> Cell:
    return next((r, row.index(sign)) for r, row in enumerate(rows) if sign in row)


def _distance(rows: Rows, start: str, goal: str, wall: str) -> int | None:
    """Return the fewest steps between two cells, or None."""
    free = {(r, c) for r, row in enumerate(rows) for c, ch in enumerate(row) if ch != wall}
    ring, steps = {_find(rows, start)}, 0
    while ring:
        if _find(rows, goal) in ring:
            return steps
        free -= ring
        ring = {near for cell in ring for near in _near(cell)} & free
        steps += 1
    return None


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

        $maze = $given
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
        $maze = $given
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

        $maze = $given
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

        $maze = $given
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
        (
            "I add the differences of rows and columns between '$s' and '$g'.",
            "From '$s' to '$g' it takes as many steps as rows and columns lie between them.",
            "The steps are the distance of '$s' and '$g' down plus the distance across.",
        ),
        """
        $maze = $given
        where = {ch: (r, c) for r, row in enumerate($maze) for c, ch in enumerate(row)}
        (a, b), (c, d) = where["$s"], where["$g"]
        print(abs(a - c) + abs(b - d))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[Rows, str, str, str]:
        found = read(r"'(.)' \(start\) to '(.)' \(goal\):\s+```\n(.*?)\n```", question)
        signs = read(r"'(.)' = Wall, '(.)' = Passage", question)
        shown = found[1] + found[2] + signs[1] + signs[2]
        if set(shown) & set("\"'\\$`<>"):  # These do not fit into a literal.
            table = str.maketrans(shown, "SG#.")
            return read_rows(found[3].translate(table)), "S", "G", "#"
        return read_rows(found[3]), found[1], found[2], signs[1]

    @override
    def values(self, data: tuple[Rows, str, str, str], rng: random.Random) -> Mapping[str, object]:
        rows, start, goal, wall = data
        note = "  # S start, G goal, # wall" if (start, goal, wall) == ("S", "G", "#") else ""
        return {"given": split_block(rows) + note, "s": start, "g": goal, "wall": wall}

    @override
    def openings(self, data: tuple[Rows, str, str, str]) -> Sequence[str]:
        rows, start, goal, wall = data
        size = f"{len(rows)} x {len(rows[0])}"
        if (start, goal, wall) == ("S", "G", "#"):
            return (
                f"I write the {size} maze with S, G and # for start, goal and wall.",
                f"In the {size} maze S is the start, G the goal and # a wall; the signs of the "
                "question would be confusing in a script.",
                f"With S for the start, G for the goal and # for walls, the {size} maze is easy "
                "to read.",
            )
        return (
            f"The maze is {size}, and I need the fewest steps from '{start}' to '{goal}'.",
            f"Walls are '{wall}'; all other cells of the {size} maze are free.",
            f"From '{start}' one moves up, down, left or right to '{goal}', never onto '{wall}'.",
        )

    @override
    def first_attempt(self, data: tuple[Rows, str, str, str], rng: random.Random) -> Step | None:
        rows, start, goal, wall = data
        (a, b), (c, d) = _find(rows, start), _find(rows, goal)
        right = _distance(rows, start, goal, wall) == abs(a - c) + abs(b - d)
        return None if right else super().first_attempt(data, rng)


class ShortestPath(TemplateTeacher[Rows]):
    """Finds the directions of a shortest path between two cells."""

    task = "rg_shortest_path"
    forms = ("breadth_first", "from_the_goal", "dijkstra")
    names: ClassVar = {
        "grid": ("grid", "rows", "area"),
        "start": ("start", "source", "origin"),
        "moves": ("moves", "directions", "steps"),
    }
    scripts: ClassVar = {
        "breadth_first": """
        from collections import deque

        $grid = $given
        $moves = $table
        cells = {(r, c): ch for r, row in enumerate($grid) for c, ch in enumerate(row)}
        $start = next(cell for cell, ch in cells.items() if ch == "*")
        paths = {$start: []}
        queue = deque([$start])
        answer = "infeasible"
        while queue:
            r, c = queue.popleft()
            if cells[r, c] == "#":
                answer = " ".join(paths[r, c])
                break
            for name, (a, b) in $moves.items():
                cell = (r + a, c + b)
                if cells.get(cell, "X") != "X" and cell not in paths:
                    paths[cell] = paths[r, c] + [name]
                    queue.append(cell)
        print(answer)
        """,
        "from_the_goal": """
        $grid = $given
        $moves = $table
        cells = {(r, c): ch for r, row in enumerate($grid) for c, ch in enumerate(row)}
        place = {ch: cell for cell, ch in cells.items()}
        remaining = {place["#"]: 0}
        queue = [place["#"]]
        for r, c in queue:
            for a, b in $moves.values():
                cell = (r + a, c + b)
                if cells.get(cell, "X") != "X" and cell not in remaining:
                    remaining[cell] = remaining[r, c] + 1
                    queue.append(cell)
        r, c = place["*"]
        path = []
        while remaining.get((r, c)):
            for name, (a, b) in $moves.items():
                if remaining.get((r + a, c + b)) == remaining[r, c] - 1:
                    path.append(name)
                    r, c = r + a, c + b
                    break
        print(" ".join(path) if (r, c) in remaining else "infeasible")
        """,
        "dijkstra": """
        import heapq

        $grid = $given
        $moves = $table
        height, width = len($grid), len($grid[0])
        $start = next((r, row.index("*")) for r, row in enumerate($grid) if "*" in row)
        heap, seen, answer = [(0, $start, "")], set(), "infeasible"
        while heap:
            cost, (r, c), path = heapq.heappop(heap)
            if (r, c) in seen:
                continue
            seen.add((r, c))
            if $grid[r][c] == "#":
                answer = path.strip()
                break
            for name, (a, b) in $moves.items():
                x, y = r + a, c + b
                if 0 <= x < height and 0 <= y < width and $grid[x][y] != "X":
                    heapq.heappush(heap, (cost + 1, (x, y), path + " " + name))
        print(answer)
        """,
    }
    methods: ClassVar = {
        "breadth_first": "Breadth-first search that keeps each cell's path reaches # first by "
        "a shortest one.",
        "from_the_goal": "I compute every cell's distance to # and then walk downhill from *.",
        "dijkstra": "A heap ordered by length takes out the shortest path to # first.",
    }
    slip = (
        (
            "I search in depth and keep the first path that arrives at #.",
            "From * I walk on as long as there is an open cell, and turn back at dead ends.",
            "A stack of paths leads to #; the first one found is printed.",
        ),
        """
        $grid = $given
        $moves = $table
        cells = {(r, c): ch for r, row in enumerate($grid) for c, ch in enumerate(row)}
        $start = next(cell for cell, ch in cells.items() if ch == "*")
        stack, seen, answer = [($start, [])], set(), "infeasible"
        while stack:
            (r, c), path = stack.pop()
            seen.add((r, c))
            if cells[r, c] == "#":
                answer = " ".join(path)
                break
            for name, (a, b) in $moves.items():
                cell = (r + a, c + b)
                if cells.get(cell, "X") != "X" and cell not in seen:
                    stack.append((cell, path + [name]))
        print(answer)
        """,
    )
    checking = (
        (
            "I walk the path: it may not leave the grid or touch an X, and must end at #.",
            "Following the directions from *, every cell must be open and the last one #.",
            "The directions must lead through open cells from * to #.",
        ),
        """
        $grid = $given
        path = $answer.split()
        $moves = $table
        cells = {(r, c): ch for r, row in enumerate($grid) for c, ch in enumerate(row)}
        r, c = next(cell for cell, ch in cells.items() if ch == "*")
        walked = []
        for name in path:
            r, c = r + $moves[name][0], c + $moves[name][1]
            walked.append(cells.get((r, c), "X"))
        print("X" not in walked and cells.get((r, c)) == "#")
        """,
    )

    @override
    def parse(self, question: str) -> Rows:
        return read_rows(read(r"in the following grid:\s+([OX*#\s]+)$", question)[1])

    @override
    def values(self, data: Rows, rng: random.Random) -> Mapping[str, object]:
        return {
            "given": split_block(data),
            "table": json.dumps(_STEPS).replace("[", "(").replace("]", ")"),
        }

    @override
    def check(self, data: Rows, answer: str, rng: random.Random) -> Step | None:
        return None if "infeasible" in answer else super().check(data, answer, rng)

    @override
    def openings(self, data: Rows) -> Sequence[str]:
        blocked = sum(row.count("X") for row in data)
        return (
            f"The {len(data)} x {len(data[0])} grid has {blocked} blocked cells.",
            f"I look for a shortest way from * to # in {len(data)} rows of {len(data[0])} cells.",
            f"{blocked} cells of {len(data) * len(data[0])} are closed; each step costs the same.",
        )

    @override
    def first_attempt(self, data: Rows, rng: random.Random) -> Step | None:
        shortest = _distance(data, "*", "#", "X")
        right = shortest is None or _depth_first(data) == shortest
        return None if right else super().first_attempt(data, rng)


def _depth_first(rows: Rows) -> int:
    """Return the length of the path that a search in depth finds, where there is one."""
    goal = _find(rows, "#")
    free = {(r, c) for r, row in enumerate(rows) for c, ch in enumerate(row) if ch != "X"}
    stack, seen = [(_find(rows, "*"), 0)], set[Cell]()
    cell, steps = stack[0]
    while cell != goal:
        cell, steps = stack.pop()
        seen.add(cell)
        stack += [(near, steps + 1) for near in _near(cell) if near in free - seen]
    return steps


class LargestIsland(TemplateTeacher[Rows]):
    """Finds the area of the largest island."""

    task = "rg_largest_island"
    forms = ("flood_fill", "recursion", "union_find", "sets")
    names: ClassVar = {
        "grid": ("grid", "rows", "sea"),
        "best": ("best", "largest", "record"),
        "area": ("area", "size", "cells"),
    }
    scripts: ClassVar = {
        "flood_fill": """
        $grid = $given
        land = {(r, c) for r, row in enumerate($grid) for c, ch in enumerate(row) if ch == "1"}
        $best = 0
        while land:
            stack, $area = [land.pop()], 0
            while stack:
                r, c = stack.pop()
                $area += 1
                for cell in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                    if cell in land:
                        land.remove(cell)
                        stack.append(cell)
            $best = max($best, $area)
        print($best)
        """,
        "recursion": """
        $grid = [list(row) for row in $given]

        def sink(r, c):
            inside = 0 <= r < len($grid) and 0 <= c < len($grid[0])
            if not inside or $grid[r][c] != "1":
                return 0
            $grid[r][c] = "0"
            return 1 + sink(r + 1, c) + sink(r - 1, c) + sink(r, c + 1) + sink(r, c - 1)

        print(max(sink(r, c) for r in range(len($grid)) for c in range(len($grid[0]))))
        """,
        "union_find": """
        from collections import Counter

        $grid = $given
        land = [(r, c) for r, row in enumerate($grid) for c, ch in enumerate(row) if ch == "1"]
        parent = {cell: cell for cell in land}

        def root(cell):
            while parent[cell] != cell:
                cell = parent[cell]
            return cell

        for r, c in land:
            for near in ((r + 1, c), (r, c + 1)):
                if near in parent:
                    parent[root(near)] = root((r, c))
        $area = Counter(root(cell) for cell in land)
        print(max($area.values(), default=0))
        """,
        "sets": """
        $grid = $given
        islands = []
        for r, row in enumerate($grid):
            for c, ch in enumerate(row):
                if ch == "1":
                    near = {(r - 1, c), (r, c - 1)}
                    touching = [island for island in islands if island & near]
                    islands = [island for island in islands if not island & near]
                    islands.append({(r, c)}.union(*touching))
        print(max(map(len, islands), default=0))
        """,
    }
    methods: ClassVar = {
        "flood_fill": "A flood fill from any land cell counts and removes its island.",
        "recursion": "A recursion sinks an island cell by cell and returns its size.",
        "union_find": "Union-find joins neighboring land cells; the largest class wins.",
        "sets": "I read cell by cell and merge the islands that touch it above or to the left.",
    }
    slip = (
        (
            "Cells with a 1 that touch belong together; I remove one group after the other.",
            "From any 1 I follow its neighbors in all directions and count them.",
            "Each island is collected from one of its cells with all that touch it.",
        ),
        """
        $grid = $given
        land = {(r, c) for r, row in enumerate($grid) for c, ch in enumerate(row) if ch == "1"}
        $best = 0
        while land:
            island = [land.pop()]
            for r, c in island:
                near = {(r + a, c + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & land
                land -= near
                island += near
            $best = max($best, len(island))
        print($best)
        """,
    )

    @override
    def parse(self, question: str) -> Rows:
        return read_rows(read(r"binary matrix grid:\s+([01 \n]+)\n\s*An island", question)[1])

    @override
    def values(self, data: Rows, rng: random.Random) -> Mapping[str, object]:
        return {"given": split_block(data)}

    @override
    def openings(self, data: Rows) -> Sequence[str]:
        land = sum(row.count("1") for row in data)
        return (
            f"The {len(data)} x {len(data[0])} grid has {count_noun(land, 'land cell')}.",
            f"{count_noun(land, 'cell')} of {len(data) * len(data[0])} are land, and those that "
            "share an edge belong together.",
            f"I look for the largest connected group of 1s in {len(data)} rows.",
        )

    @override
    def first_attempt(self, data: Rows, rng: random.Random) -> Step | None:
        wrong = _largest(data, corners=True) != _largest(data, corners=False)
        return super().first_attempt(data, rng) if wrong else None

    @override
    def wrong_answer(self, data: Rows, answer: str, rng: random.Random) -> str:
        return str(int(answer) + rng.choice((1, 2)))


def _largest(rows: Rows, *, corners: bool) -> int:
    """Return the largest number of connected cells with a 1, by edges or by corners too."""
    land = {(r, c) for r, row in enumerate(rows) for c, ch in enumerate(row) if ch == "1"}
    best = 0
    while land:
        island = [land.pop()]
        for r, c in island:
            steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if corners or 0 in (a, b)]
            near = {(r + a, c + b) for a, b in steps} & land
            land -= near
            island += near
        best = max(best, len(island))
    return best


TEACHERS: tuple[Teacher[Any], ...] = (Maze(), ShortestPath(), LargestIsland())
