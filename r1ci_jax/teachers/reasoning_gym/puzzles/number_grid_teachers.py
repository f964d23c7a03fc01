"""Teachers of grids of numbers: tables with sums, patterns of a modulus."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.row_blocks import split_block
from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import (
    Matrix,
    TemplateTeacher,
    count_noun,
    join_words,
    read,
    read_matrix,
    rows_literal,
)


class Survo(TemplateTeacher[tuple[Matrix, tuple[int, ...]]]):
    """Places numbers so that the sums of rows and columns come out."""

    task = "rg_survo"
    forms = ("permutations", "backtracking", "assignment")
    names: ClassVar = {
        "table": ("grid", "table", "matrix"),
        "pool": ("pool", "numbers", "left_over"),
        "empty": ("empty", "gaps", "holes"),
    }
    scripts: ClassVar = {
        "permutations": """
        from itertools import permutations

        $table = $given
        $pool = $free
        $empty = [(r, c) for r, row in enumerate($table) for c, v in enumerate(row) if v == 0]

        def balanced(lines):
            return all(sum(line[:-1]) == line[-1] for line in lines)

        for order in permutations($pool):
            for (r, c), number in zip($empty, order):
                $table[r][c] = number
            if balanced($table) and balanced(zip(*$table)):
                break
        for row in $table:
            print(*row)
        """,
        "backtracking": """
        $table = $given
        $empty = [(r, c) for r, row in enumerate($table) for c, v in enumerate(row) if v == 0]

        def full_and_wrong(line):
            return 0 not in line and sum(line[:-1]) != line[-1]

        def place(k, $pool):
            if k == len($empty):
                return True
            r, c = $empty[k]
            for number in set($pool):
                $table[r][c] = number
                column = [row[c] for row in $table]
                if not full_and_wrong($table[r]) and not full_and_wrong(column):
                    rest = list($pool)
                    rest.remove(number)
                    if place(k + 1, rest):
                        return True
            $table[r][c] = 0
            return False

        place(0, $free)
        for row in $table:
            print(*row)
        """,
        "assignment": """
        $table = $given
        stack = [($table, $free)]
        while stack:
            $table, $pool = stack.pop()
            $empty = [(r, c) for r, row in enumerate($table) for c, v in enumerate(row) if v == 0]
            lines = [*$table, *map(list, zip(*$table))]
            if any(0 not in line and sum(line[:-1]) != line[-1] for line in lines):
                continue
            if not $empty:
                break
            # The gap whose row has the fewest empty cells comes first.
            r, c = min($empty, key=lambda cell: $table[cell[0]].count(0))
            for k, number in enumerate($pool):
                after = [list(row) for row in $table]
                after[r][c] = number
                stack.append((after, $pool[:k] + $pool[k + 1 :]))
        for row in $table:
            print(*row)
        """,
    }
    methods: ClassVar = {
        "permutations": "I try the orders of the numbers until all sums are right.",
        "backtracking": "Backtracking fills gap by gap and stops at a complete row or column with "
        "a wrong sum.",
        "assignment": "A stack of partial tables is extended where a row has the fewest gaps.",
    }
    checking = (
        (
            "All sums must hold, with the given cells kept and $listed used once each.",
            "I add up the rows and columns again and compare the filled cells with $listed.",
            "Rows, columns and the numbers used are compared with the question.",
        ),
        """
        start = $given
        done = $answer
        lines = [*done, *zip(*done)]
        sums = all(sum(line[:-1]) == line[-1] for line in lines)
        pairs = [(old, new) for a, b in zip(start, done) for old, new in zip(a, b)]
        placed = sorted(new for old, new in pairs if old == 0)
        print(sums and placed == sorted($free) and all(old in (0, new) for old, new in pairs))
        """,
    )
    exploring = (
        (
            "First I see what each row and column still lacks.",
            "Lines with a single gap are determined, so I list the gaps first.",
            "The $count gaps lie in rows and columns with known sums; I list what is missing.",
        ),
        """
        $table = $given
        for name, lines in (("row", $table), ("column", list(zip(*$table)))):
            for i, line in enumerate(lines):
                print(name, i, "gaps", line.count(0), "missing", line[-1] - sum(line[:-1]))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[Matrix, tuple[int, ...]]:
        table = read(r"\n(\d+(?: \d+)+(?:\n\d+(?: \d+)+)+)", question)[1]
        pool = read(r"\[(\d+(?:, \d+)*)\]", question)[1]
        return read_matrix(table), tuple(map(int, pool.split(",")))

    @override
    def values(
        self, data: tuple[Matrix, tuple[int, ...]], rng: random.Random
    ) -> Mapping[str, object]:
        table, pool = data
        return {
            "given": rows_literal(map(list, table)) if len(table) > 4 else list(map(list, table)),
            "free": list(pool),
            "listed": join_words(pool),
            "count": len(pool),
        }

    @override
    def answer_values(
        self, data: tuple[Matrix, tuple[int, ...]], answer: str
    ) -> Mapping[str, object]:
        return {"answer": [list(row) for row in read_matrix(answer)]}

    @override
    def openings(self, data: tuple[Matrix, tuple[int, ...]]) -> Sequence[str]:
        table, pool = data
        return (
            f"{len(pool)} numbers go into the zeros of a {len(table)} x {len(table[0])} table.",
            f"The numbers {join_words(pool)} fill the {len(pool)} gaps.",
            f"Each row and column ends with its sum, and {len(pool)} cells are open.",
        )


class ModuloGrid(TemplateTeacher[tuple[str, ...]]):
    """Finds the rule of a pattern and fills the holes by it."""

    task = "rg_modulo_grid"
    forms = ("search", "filter", "numpy")
    names: ClassVar = {
        "rows": ("rows", "grid", "pattern"),
        "m": ("m", "divisor", "modulus"),
        "t": ("t", "target", "remainder"),
        "f": ("f", "rule", "value"),
    }
    scripts: ClassVar = {
        "search": """
        $rows = $given
        rules = [
            lambda x, y: x + y,
            lambda x, y: abs(x - y),
            lambda x, y: x * y,
            lambda x, y: x**y,
        ]

        def draw($f, $m, $t):
            size = range(len($rows)), range(len($rows[0]))
            return ["".join(".#"[$f(x, y) % $m == $t] for x in size[1]) for y in size[0]]

        def fits(made):
            return all(a in ("?", b) for row, new in zip($rows, made) for a, b in zip(row, new))

        options = ((f, m, t) for m in range(1, $most) for t in range(m) for f in rules)
        made = next(made for option in options if fits(made := draw(*option)))
        for row in made:
            print(row)
        """,
        "filter": """
        $rows = $given
        cells = {(x, y): ch for y, row in enumerate($rows) for x, ch in enumerate(row)}
        on = [cell for cell, ch in cells.items() if ch == "#"]
        off = [cell for cell, ch in cells.items() if ch == "."]
        rules = [
            lambda x, y: x + y,
            lambda x, y: abs(x - y),
            lambda x, y: x * y,
            lambda x, y: x**y,
        ]

        def find():
            for $m in range(1, $most):
                for $f in rules:
                    marked = {$f(*cell) % $m for cell in on}
                    if len(marked) == 1 and not marked & {$f(*cell) % $m for cell in off}:
                        return $f, $m, marked

        $f, $m, marked = find()
        for y, row in enumerate($rows):
            print("".join(".#"[$f(x, y) % $m in marked] for x in range(len(row))))
        """,
        "numpy": """
        import numpy as np

        lines = $given
        $rows = np.array([list(line) for line in lines])
        y, x = np.indices($rows.shape).astype(object)
        known = $rows != "?"

        def complete():
            for $m in range(1, $most):
                for $f in (x + y, abs(x - y), x * y, x**y):
                    for $t in set(($f % $m)[$rows == "#"]):
                        made = np.where($f % $m == $t, "#", ".")
                        if (made == $rows)[known].all():
                            return made

        for line in complete():
            print("".join(line))
        """,
    }
    methods: ClassVar = {
        "search": "I try sum, difference, product and power of the coordinates modulo m, drawing "
        "each candidate.",
        "filter": "For sum, difference, product or power modulo m, all marked cells must share one "
        "remainder that no clear cell has.",
        "numpy": "Arrays of x + y, |x - y|, x * y and x ** y modulo m are compared with the marks.",
    }
    exploring = (
        (
            "First I list the columns that are marked in each row.",
            "The $marks marks may repeat with a period; I list their columns row by row.",
            "I look at where the marks stand before I guess a rule.",
        ),
        """
        $rows = $given
        for y, row in enumerate($rows):
            print(y, [x for x, ch in enumerate(row) if ch == "#"])
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, ...]:
        found = read("((?:[\u274c\u2705\u2754]+\n)+[\u274c\u2705\u2754]+)", question)[1]
        return tuple(found.translate({0x274C: ".", 0x2705: "#", 0x2754: "?"}).split("\n"))

    @override
    def values(self, data: tuple[str, ...], rng: random.Random) -> Mapping[str, object]:
        return {
            "given": f'{split_block(data)}  # "#" for \u2705, "." for \u274c',
            "most": rng.choice((30, 40, 50)),
            "marks": sum(row.count("#") for row in data),
        }

    @override
    def openings(self, data: tuple[str, ...]) -> Sequence[str]:
        marks = sum(row.count("#") for row in data)
        holes = count_noun(sum(row.count("?") for row in data), "hole")
        return (
            f"I write # for each of the {marks} marks, a point for a cross and ? for a hole.",
            f"The {len(data)} x {len(data[0])} grid has {holes} (?) and {marks} marks (#).",
            f"A rule on the coordinates explains the {marks} marks, written # here.",
        )

    @override
    def answer(self, data: tuple[str, ...], printed: str) -> str:
        return printed.strip().replace("#", "\u2705").replace(".", "\u274c")


TEACHERS: tuple[Teacher[Any], ...] = (Survo(), ModuloGrid())
