"""Teacher of cells of a number grid that are chosen so that rows and columns obey a rule."""

import dataclasses
import math
import random
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, read, require, script, step, text_block

_SMALL = 4
"""The most rows of a grid that is explored first, or tried greedily."""
_MIDDLE = 5
"""The most rows of a grid whose answer is checked."""
_LARGE = 6
"""The most rows for which random moves find the answer soon."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The grid, the number of cells, the cell that is fixed, and the rule of rows and columns."""

    rows: tuple[tuple[int, ...], ...]
    count: int
    first: tuple[int, int]
    limit: int | None
    """The highest sum of a row or column; None where products have to be positive."""

    def greedy(self) -> int:
        """Return how many cells are found by taking each that fits, but no more than wanted."""
        cells = [self.first]
        numbers = {self.rows[self.first[0]][self.first[1]]}
        lines: dict[tuple[str, int], list[int]] = {}
        for r, row in enumerate(self.rows):
            for c, n in enumerate(row):
                held = [lines.setdefault(side, []) for side in (("r", r), ("c", c))]
                if self.limit is None:
                    fits = all(math.prod([*line, n]) > 0 for line in held)
                else:
                    fits = all(sum(line) + n <= self.limit for line in held)
                if fits and n not in numbers:
                    cells.append((r, c))
                    numbers.add(n)
                    for line in held:
                        line.append(n)
        return min(len(cells), self.count)

    def rule(self) -> str:
        """Return the rule in words."""
        if self.limit is None:
            return "every product of a row or column is positive"
        return f"no row or column sums to more than {self.limit}"


_SPLIT = "[list(map(int, line.split())) for line in text.splitlines()]"
_SUM_SEARCH = """
    $given
    $count, $limit, first = $wanted, $most, $fixed
    places = {}
    for r, row in enumerate($grid):
        for c, n in enumerate(row):
            places.setdefault(n, []).append((r, c))
    places[$grid[first[0]][first[1]]] = [first]  # this number must come from this cell
    numbers = sorted(places, reverse=True)
    rows, columns = [0] * len($grid), [0] * len($grid)

    def $search(k, spare, $cells):
        if k == len(numbers):
            return $cells
        n = numbers[k]
        # Large numbers are left out while there are more than needed.
        if spare and first not in places[n] and (found := $search(k + 1, spare - 1, $cells)):
            return found
        for r, c in places[n]:
            if rows[r] + n <= $limit and columns[c] + n <= $limit:
                rows[r] += n
                columns[c] += n
                if found := $search(k + 1, spare, [*$cells, (r, c)]):
                    return found
                rows[r] -= n
                columns[c] -= n
        return None

    found = $search(0, len(numbers) - $count, [])
    print(", ".join(f"{r} {c}" for r, c in sorted(found)))
"""
_SIGN_SEARCH = """
    $given
    $count, first = $wanted, $fixed
    places = {}
    for r, row in enumerate($grid):
        for c, n in enumerate(row):
            places.setdefault(n, []).append((r, c))
    places[$grid[first[0]][first[1]]] = [first]  # this number must come from this cell
    positive = [n for n in places if n > 0]
    negative = sorted(n for n in places if n < 0)

    def $search(k, odd, $cells):
        # odd: rows r and columns ~c that hold an odd number of negatives so far
        if len(odd) > 2 * (len(negative) - k):
            return None
        if k == len(negative):
            return $cells if len($cells) + len(positive) >= $count else None
        for r, c in places[negative[k]]:
            if found := $search(k + 1, odd ^ {r, ~c}, [*$cells, (r, c)]):
                return found
        return None if first in places[negative[k]] else $search(k + 1, odd, $cells)

    $cells = $search(0, frozenset(), []) or []
    # Positive numbers never change a sign, so they fill up the rest, the fixed cell first.
    positive.sort(key=lambda n: first not in places[n])
    $cells += [places[n][0] for n in positive[: $count - len($cells)]]
    print(", ".join(f"{r} {c}" for r, c in sorted($cells)))
"""
_BEAM = """
    from itertools import combinations

    $given
    $count, first = $wanted, $fixed$limit_line
    size = len($grid)
    beam = [((), frozenset(), (0,) * size)]  # cells, their numbers, a state for each column
    for r, row in enumerate($grid):
        following = []
        subsets = [s for k in range(size + 1) for s in combinations(range(size), k)]
        for columns in subsets:
            values = {row[c] for c in columns}
            fixed = r != first[0] or first[1] in columns
            if len(values) < len(columns) or not fixed or not $row_fits:
                continue
            for cells, numbers, state in beam:
                if numbers & values or len(cells) + len(columns) > $count:
                    continue
                new = tuple($new for c in range(size))
                $keep
        # Keep the most promising partial choices.
        following.sort(key=lambda each: $key)
        beam = following[:$width]
    $cells = next(cells for cells, _, state in beam if len(cells) == $count and $final)
    print(", ".join(f"{r} {c}" for r, c in $cells))
"""
_ANNEALING = """
    import math
    import random

    $given
    $count, first = $wanted, $fixed$limit_line
    size = len($grid)
    others = [(r, c) for r in range(size) for c in range(size) if (r, c) != first]
    rng = random.Random(0)

    def $cost(cells):
        total = 4 * (len(cells) - len({$grid[r][c] for r, c in cells}))  # repeated numbers
        for i in range(size):
            for side in (0, 1):
                line = [$grid[cell[0]][cell[1]] for cell in cells if cell[side] == i]
                total += $line_cost
        return total

    now = 1
    while now:
        $cells = [first, *rng.sample(others, $count - 1)]
        now, heat = $cost($cells), 3.0
        while now and heat > 0.1:
            new = list($cells)
            new[rng.randrange(1, $count)] = rng.choice([x for x in others if x not in new])
            after = $cost(new)
            if rng.random() < math.exp(min(0, now - after) / heat):
                $cells, now = new, after
            heat *= 0.9985
    print(", ".join(f"{r} {c}" for r, c in sorted($cells)))
"""
_WORDS = {
    "by_number": (
        "I decide number by number: take it from one of its cells or leave it out. {Rule}, which "
        "cuts off branches early.",
        "Since {n} different numbers are wanted and {rule}, I search over the numbers.",
    ),
    "beam": (
        "Row by row I join every subset of a row that fits to the partial choices so far, until "
        "{n} cells are chosen. {Rule}.",
        "Row by row I extend partial choices by all allowed subsets of the row; {rule}.",
    ),
    "annealing": (
        "Simulated annealing: {n} random cells, and one moves at a time until no number repeats "
        "and {rule}.",
        "Local search suits this: {n} cells, a cost that is 0 when {rule} and no number repeats, "
        "and random moves that are seldom worse.",
    ),
}


class LogicPuzzle(Teacher[Choice]):
    """Chooses cells of a number grid."""

    task = "logic_puzzle"
    forms = tuple(_WORDS)

    @override
    def parse(self, question: str) -> Choice:
        found = read(
            r"parted by commas:\n([-\d, \n]+)\n\nA cell .* Choose (\d+) different cells .*?"
            r"- the cell (\d+) (\d+), which .* the (product|sum) of the chosen numbers is "
            r"(?:greater than 0|at most (\d+)) ",
            question,
        )
        rows = tuple(tuple(map(int, line.split(","))) for line in found[1].splitlines())
        require({len(row) for row in rows} == {len(rows)}, question)
        return Choice(
            rows=rows,
            count=int(found[2]),
            first=(int(found[3]), int(found[4])),
            limit=int(found[6]) if found[5] == "sum" else None,
        )

    def _parts(self, data: Choice, rng: random.Random) -> dict[str, object]:
        names = pick(
            rng,
            grid=("grid", "table", "matrix"),
            count=("count", "wanted", "target"),
            limit=("limit", "highest", "most"),
            search=("search", "extend", "place"),
            cells=("chosen", "selection", "picked"),
            cost=("cost", "penalty", "broken"),
        )
        share = 0 if data.limit is None else len(data.rows) * data.limit // data.count
        sums = data.limit is not None
        limit = names["limit"]
        grid = names["grid"]
        following = (
            "following.append((cells + tuple((r, c) for c in columns), numbers | values, new))"
        )
        keep = f"if max(new) <= {limit}:\n                {following}" if sums else following
        by_sum = f"sum(each[2]) - {share} * len(each[0])"
        text = text_block("text", [" ".join(map(str, row)) for row in data.rows])
        return {
            **names,
            "given": f"{text}\n{grid} = {_SPLIT}",
            "wanted": data.count,
            "most": data.limit,
            "fixed": data.first,
            "limit_line": f"\n{limit} = {data.limit}" if sums else "",
            "row_fits": f"sum(values) <= {limit}"
            if sums
            else "sum(n < 0 for n in values) % 2 == 0",
            "new": "state[c] + (row[c] if c in columns else 0)"
            if sums
            else "(state[c] + (c in columns and row[c] < 0)) % 2",
            "keep": keep,
            "key": by_sum if sums else "sum(each[2]) - 2 * len(each[0])",
            "width": rng.choice((800, 900, 1000)),
            "final": f"max(state) <= {limit}" if sums else "not any(state)",
            "line_cost": f"max(0, sum(line) - {limit})" if sums else "sum(n < 0 for n in line) % 2",
        }

    @override
    def step(self, data: Choice, form: str, rng: random.Random) -> Step:
        if form == "beam" and len(data.rows) > _SMALL:  # it would miss some answers
            form = "annealing"
        if len(data.rows) > _LARGE:
            form = "by_number"
        by_number = _SIGN_SEARCH if data.limit is None else _SUM_SEARCH
        template = {"by_number": by_number, "beam": _BEAM, "annealing": _ANNEALING}[form]
        code = script(template, **self._parts(data, rng))
        rule = data.rule()
        texts = {"n": data.count, "rule": rule, "Rule": rule[0].upper() + rule[1:]}
        return step(rng, [text.format(**texts) for text in _WORDS[form]], code)

    @override
    def check(self, data: Choice, answer: str, rng: random.Random) -> Step | None:
        if len(data.rows) > _MIDDLE:
            return None
        law = "math.prod(line) > 0" if data.limit is None else f"sum(line) <= {data.limit}"
        code = script(
            """
            $load$given
            cells = [tuple(map(int, cell.split())) for cell in "$answer".split(", ")]
            numbers = [$grid[r][c] for r, c in cells]
            lines = [[$grid[cell[0]][cell[1]] for cell in cells if cell[side] == i]
                     for side in (0, 1) for i in range(len($grid))]
            print(len(set(cells)) == $wanted and $fixed in cells
                  and len(set(numbers)) == len(numbers) and all($law for line in lines))
            """,
            load="import math\n\n" if data.limit is None else "",
            answer=answer,
            law=law,
            **self._parts(data, rng),
        )
        words = (
            f"I check the conditions one by one: {data.count} cells, cell "
            f"{data.first[0]} {data.first[1]} among them, no number twice, and "
            f"{data.rule()}.",
            f"Are these {data.count} cells right? I test number, fixed cell, repetitions and the "
            "rows and columns.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Choice, rng: random.Random) -> Step | None:
        if len(data.rows) > _SMALL:
            return None
        code = script(
            """
            $given

            values = sorted({n for row in $grid for n in row})
            print(len(values), "different numbers:", values)
            print("cells to choose:", $wanted)
            flat = sum($grid, [])
            print("in one cell only:", [n for n in values if flat.count(n) == 1])
            """,
            **self._parts(data, rng),
        )
        words = (
            f"First: how many different numbers does the grid hold, when {data.count} are needed?",
            f"Since the {data.count} numbers must differ, I look at which numbers there are.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Choice, rng: random.Random) -> Step | None:
        # Cells are taken greedily; too few may be found.
        if len(data.rows) > _SMALL or data.greedy() == data.count:
            return None
        test = (
            "math.prod(lines[a] + [n]) > 0 and math.prod(lines[b] + [n]) > 0"
            if data.limit is None
            else f"sum(lines[a]) + n <= {data.limit} and sum(lines[b]) + n <= {data.limit}"
        )
        code = script(
            """
            $load$given
            cells = [$fixed]
            lines = {(side, i): [] for side in "rc" for i in range(len($grid))}
            for r in range(len($grid)):
                for c in range(len($grid)):
                    n, a, b = $grid[r][c], ("r", r), ("c", c)
                    used = [$grid[y][x] for y, x in cells]
                    if n not in used and $test:
                        cells.append((r, c))
                        lines[a].append(n)
                        lines[b].append(n)
            print(", ".join(f"{r} {c}" for r, c in cells[:$wanted]))
            """,
            load="import math\n\n" if data.limit is None else "",
            test=test,
            **self._parts(data, rng),
        )
        words = (
            f"I take cells from the top left on as long as {data.rule()}, until I have "
            f"{data.count}.",
            f"Greedy: run over the grid and take each new number that fits, up to {data.count}.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Choice, answer: str, rng: random.Random) -> str:
        # One cell is missing.
        cells = answer.split(", ")
        cells.remove(rng.choice(cells))
        return ", ".join(cells)


TEACHERS: tuple[Teacher[Any], ...] = (LogicPuzzle(),)
