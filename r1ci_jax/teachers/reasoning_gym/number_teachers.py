"""Teachers of numbers: decimal sums and powers."""

import decimal
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, list_literal, read


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


TEACHERS: tuple[Teacher[Any], ...] = (DecimalChainSum(), PowerFunction())
