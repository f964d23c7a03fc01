"""Teachers of numbers: decimal sums, powers, tables with sums, patterns of a modulus."""

import decimal
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.row_blocks import split_block
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
    Matrix,
    TemplateTeacher,
    count_noun,
    join_words,
    list_literal,
    read,
    read_matrix,
    rows_literal,
)


class DecimalChainSum(TemplateTeacher[str]):
    """Adds and subtracts numbers with decimal places."""

    task = "rg_decimal_chain_sum"
    forms = ("decimal", "whole_units", "fractions")
    names: ClassVar = {
        "terms": ("terms", "numbers", "parts", "values"),
        "total": ("total", "result", "balance"),
        "t": ("t", "term", "x"),
    }
    scripts: ClassVar = {
        "decimal": """
        from decimal import Decimal

        $terms = "$signed".split()
        $total = sum(Decimal($t) for $t in $terms)
        print($total)
        """,
        "whole_units": """
        expression = "$expression"
        tokens = expression.split()
        places = max(len($t.partition(".")[2]) for $t in tokens)

        def units($t):
            whole, _, part = $t.partition(".")
            return int(whole + part.ljust(places, "0"))

        $total = units(tokens[0])
        for sign, $t in zip(tokens[1::2], tokens[2::2]):
            $total += units($t) if sign == "+" else -units($t)
        whole, part = divmod(abs($total), 10**places)
        print(f"{'-' if $total < 0 else ''}{whole}.{part:0{places}d}")
        """,
        "fractions": """
        from fractions import Fraction

        $terms = $listed
        $total = sum(map(Fraction, $terms))
        places = max(len($t.split(".")[-1]) for $t in $terms)
        print(f"{float($total):.{places}f}")
        """,
    }
    methods: ClassVar = {
        "decimal": "Decimal adds base ten digits exactly, where floats would leave a tail.",
        "whole_units": "Counted in units of the last decimal place, all terms are whole numbers.",
        "fractions": "Fractions keep every term exact; I round to the given places at the end.",
    }
    slip = (
        (
            "Without the points these are whole numbers, and the point goes back in at the end.",
            "I drop the decimal points of $expression, add, and set the point again.",
            "Whole numbers add exactly, so I remove the points first.",
        ),
        """
        $terms = "$signed".split()
        $total = sum(int($t.replace(".", "")) for $t in $terms)
        places = max(len($t.split(".")[-1]) for $t in $terms)
        print($total / 10**places)
        """,
    )

    @override
    def parse(self, question: str) -> str:
        number = r"-?\d+(?:\.\d+)?"
        return read(rf"problem: ({number}(?: [+-] {number})+) =", question)[1]

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {
            "expression": data,
            "signed": " ".join(_signed(data)),
            "listed": list_literal(_signed(data)),
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        terms = _signed(data)
        minus = sum(term.startswith("-") for term in terms)
        return (
            f"{data} has {len(terms)} terms, {minus or 'none'} of them negative.",
            f"This is a chain of {len(terms)} decimals that starts with {terms[0]}.",
            f"I have to evaluate {data} to the last decimal place.",
        )

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        same = len({len(term.split(".")[-1]) for term in _signed(data)}) == 1
        return None if same else super().first_attempt(data, rng)

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str]:
        first, *others = map(decimal.Decimal, _signed(data))
        total, lines = first, []
        for term in others:
            sign = "-" if term < 0 else "+"
            lines.append(f"{total} {sign} {abs(term)} = {total + term}")
            total += term
        opening = rng.choice(("From left to right", "One term after the other", "Step by step"))
        return f"{opening}: " + "; ".join(lines) + ".", str(total)

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return str(decimal.Decimal(answer) + rng.choice((-10, -1, 1, 10)))


def _signed(expression: str) -> list[str]:
    """Return the terms, each with its sign where that is a minus."""
    joined = expression.replace("- -", "").replace("+ -", "-").replace("- ", "-")
    return joined.replace("+ ", "").split()


class PowerFunction(TemplateTeacher[tuple[str, int]]):
    """Raises a decimal number to a small power, positive or negative."""

    task = "rg_power_function"
    forms = ("float", "decimal", "loop", "logarithm")
    names: ClassVar = {
        "base": ("base", "x", "b"),
        "power": ("power", "n", "exponent"),
        "r": ("result", "y"),
    }
    scripts: ClassVar = {
        "float": """
        $base, $power = $number, $exp
        print(f"{$base**$power:.2e}")
        """,
        "decimal": """
        from decimal import Decimal

        $base = Decimal("$number")
        $r = $base**$exp
        print(f"{float($r):.2e}")
        """,
        "loop": """
        $base, $power = $number, $exp
        $r = 1.0
        for _ in range(abs($power)):
            $r *= $base
        if $power < 0:
            $r = 1 / $r
        print(f"{$r:.2e}")
        """,
        "logarithm": """
        from math import floor, log10

        $base, $power = $number, $exp
        scale = $power * log10(abs($base))
        sign = "-" if $base < 0 and $power % 2 else ""
        # The fractional part of the logarithm gives the digits, the whole part the exponent.
        digits = 10 ** (scale - floor(scale))
        print(f"{sign}{digits:.2f}e{floor(scale):+03d}")
        """,
    }
    methods: ClassVar = {
        "float": "Double precision is ample for three figures, and .2e prints three of them.",
        "decimal": "Decimal keeps the base as written and the format .2e rounds to three figures.",
        "loop": "A power is repeated multiplication, and a negative one the reciprocal of that.",
        "logarithm": "The logarithm splits into power of ten and digits; the sign is separate.",
    }
    slip = (
        (
            "I compute $number to the power $exp with three figures.",
            "Python's ** takes $number to the power $exp directly.",
            "One expression in the format .2e suffices for $number^$exp.",
        ),
        """
        print(f"{$number**$exp:.2e}")
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, int]:
        found = read(r"Compute (-?\d+(?:\.\d+)?)\^(-?\d+)\.", question)
        return found[1], int(found[2])

    @override
    def values(self, data: tuple[str, int], rng: random.Random) -> Mapping[str, object]:
        return {"number": data[0], "exp": data[1]}

    @override
    def openings(self, data: tuple[str, int]) -> Sequence[str]:
        base, power = data
        parity = "even" if power % 2 == 0 else "odd"
        sign = "the base is negative" if base.startswith("-") else "the base is positive"
        shown = f"({base})" if base.startswith("-") else base
        return (
            f"In {shown}^{power} {sign} and the exponent {parity}.",
            f"The base {base} is raised to {power}, its sign included.",
            f"I need {shown} to the power {power} with three significant figures.",
        )

    @override
    def first_attempt(self, data: tuple[str, int], rng: random.Random) -> Step | None:
        # Python's minus binds less than the power.
        slips = data[0].startswith("-") and data[1] % 2 == 0
        return super().first_attempt(data, rng) if slips else None

    @override
    def wrong_answer(self, data: tuple[str, int], answer: str, rng: random.Random) -> str:
        # The answer without its minus is a wrong one, with a minus it would hold the right one.
        factors = (10, 0.1, -1) if answer.startswith("-") else (10, 0.1)
        return f"{float(answer) * rng.choice(factors):.2e}"


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
                    $t = $f(*on[0]) % $m
                    if all($f(*c) % $m == $t for c in on) and all($f(*c) % $m != $t for c in off):
                        return $f, $m, $t

        $f, $m, $t = find()
        for y, row in enumerate($rows):
            print("".join(".#"[$f(x, y) % $m == $t] for x in range(len(row))))
        """,
        "numpy": """
        import numpy as np

        $rows = np.array([list(row) for row in $given])
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
            "given": split_block(data),
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


TEACHERS: tuple[Teacher[Any], ...] = (
    DecimalChainSum(),
    PowerFunction(),
    Survo(),
    ModuloGrid(),
)
