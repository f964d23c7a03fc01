"""Teachers of algebra: complex numbers, polynomials, antiderivatives and cryptarithms."""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read

Number = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComplexPair:
    """Two complex numbers as (real, imaginary), and the operator between them in Python."""

    left: Number
    right: Number
    operator: str


_SHOW = "print(f\"{$re:.1f} {'-' if $im < 0 else '+'} {abs($im):.1f}i\")"


class ComplexArithmetic(TemplateTeacher[ComplexPair]):
    """Adds, subtracts, multiplies and divides complex numbers."""

    task = "rg_complex_arithmetic"
    forms = ("complex_type", "parts", "sympy", "fractions")
    names: ClassVar = {"re": ("re", "real", "x"), "im": ("im", "imag", "y")}
    scripts: ClassVar = {
        "complex_type": f"""
            z = complex($a, $b) $op complex($c, $d)
            $re, $im = z.real, z.imag
            {_SHOW}
            """,
        "parts": f"""
            a, b = $a, $b
            c, d = $c, $d
            $re = $p0
            $im = $p1
            {_SHOW}
            """,
        "sympy": f"""
            from sympy import I, Rational, simplify

            first = Rational("$a") + Rational("$b") * I
            z = simplify(first $op (Rational("$c") + Rational("$d") * I))
            $re, $im = (float(part) for part in z.as_real_imag())
            {_SHOW}
            """,
        "fractions": f"""
            from fractions import Fraction as F

            a, b, c, d = F("$a"), F("$b"), F("$c"), F("$d")
            $re = $p0
            $im = $p1
            $re, $im = float($re), float($im)
            {_SHOW}
            """,
    }
    methods: ClassVar = {
        "complex_type": "Python has complex numbers; only the form has to be written.",
        "parts": "I compute the real and the imaginary part by their formulas.",
        "sympy": "sympy with rationals keeps it exact.",
        "fractions": "With fractions the two parts are exact.",
    }
    checking = (
        ("The inverse operation must lead back to the first number.", "I undo the operation."),
        """
        z = complex("$literal".replace(" ", "").replace("i", "j"))
        print(abs((z $inverse complex($c, $d)) - complex($a, $b)) < 1e-6)
        """,
    )

    @override
    def parse(self, question: str) -> ComplexPair:
        found = read(r"complex numbers: \(([^()]+)\) ([-+\u00d7\u00f7]) \(([^()]+)\)", question)
        operator = {"\u00d7": "*", "\u00f7": "/"}.get(found[2], found[2])
        return ComplexPair(left=_parts(found[1]), right=_parts(found[3]), operator=operator)

    @override
    def values(self, data: ComplexPair, rng: random.Random) -> Mapping[str, object]:
        (a, b), (c, d) = data.left, data.right
        return {
            **{"a": a, "b": b, "c": c, "d": d, "op": data.operator},
            **{f"p{i}": part for i, part in enumerate(_FORMULAS[data.operator])},
            "inverse": {"+": "-", "-": "+", "*": "/", "/": "*"}[data.operator],
        }

    @override
    def openings(self, data: ComplexPair) -> Sequence[str]:
        (a, b), (c, d) = data.left, data.right
        kind = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}[data.operator]
        return (
            f"The {kind} of two complex numbers with real parts {a:g} and {c:g} is asked.",
            f"I need the {kind}; the imaginary parts are {b:g} and {d:g}.",
            f"It is the {kind} of {a:g} + ({b:g})i and {c:g} + ({d:g})i.",
        )

    @override
    def wrong_answer(self, data: ComplexPair, answer: str, rng: random.Random) -> str | None:
        return None if answer.endswith(" 0.0i") else answer.translate({43: 45, 45: 43}).lstrip("-+")


_FORMULAS = {
    "+": ("a + c", "b + d"),
    "-": ("a - c", "b - d"),
    "*": ("a * c - b * d", "a * d + b * c"),
    "/": ("(a * c + b * d) / (c * c + d * d)", "(b * c - a * d) / (c * c + d * d)"),
}


def _parts(text: str) -> Number:
    compact = text.replace(" ", "")
    found = read(r"^(?:([-+]?[\d.]+)(?!i|[\d.]))?(?:([-+]?[\d.]*)i)?$", compact)
    imaginary = found[2]
    if imaginary in ("", "+", "-"):
        imaginary += "1"
    return float(found[1] or 0), float(imaginary or 0)


class PolynomialMultiplication(TemplateTeacher[str]):
    """Expands a product of polynomials."""

    task = "rg_polynomial_multiplication"
    forms = ("expand", "poly", "collect_by_hand")
    names: ClassVar = {"product": ("product", "result", "expanded")}
    scripts: ClassVar = {
        "expand": """
            from sympy import expand, symbols

            x, y, z = symbols("x y z")
            $product = expand($data)
            print($product)
            """,
        "poly": """
            from sympy import Poly, symbols

            x, y, z = symbols("x y z")
            $product = Poly($data, x, y, z)
            print($product.as_expr())
            """,
        "collect_by_hand": """
            from collections import Counter
            from sympy import Add, sympify

            total = Counter({1: 1})
            for factor in sympify("$data", evaluate=True).as_powers_dict().items():
                base, power = factor
                for _ in range(power if power.is_Integer else 1):
                    after = Counter()
                    for term, n in total.items():
                        for part in Add.make_args(base):
                            number, rest = part.as_coeff_Mul()
                            after[term * rest] += n * number
                    total = after
            $product = Add(*(n * term for term, n in total.items()))
            print($product)
            """,
    }
    methods: ClassVar = {
        "expand": "sympy's expand multiplies out and collects like terms.",
        "poly": "As a Poly the product is kept expanded.",
        "collect_by_hand": "I multiply term by term and add up the coefficients of equal powers.",
    }
    checking = (
        ("At several points both forms must have the same value.",),
        """
        points = [(2, 3, 5), (-1, 4, 7), (10, -3, 2), (0, 1, -6), (9, 8, -7), (13, 11, 12)]
        print(all(($data) == ($literal) for x, y, z in points))
        """,
    )

    @override
    def parse(self, question: str) -> str:
        found = read(r"(?:Simplify this expression|Calculate the following): ([^\n]+)\n", question)
        return read(r"^[-+*/() \dxyz]+$", found[1].strip())[0]

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}

    @override
    def openings(self, data: str) -> Sequence[str]:
        return (
            f"{data} has to be multiplied out, with like terms collected.",
            "Every term of one factor meets every term of the other, then like terms are added.",
            f"The product is {data}.",
        )


class Integral(TemplateTeacher[str]):
    """What the teachers of antiderivatives share; the data are the integrand."""

    forms = ("integrate", "named_steps", "manual")
    names: ClassVar = {"f": ("f", "integrand", "g"), "F": ("F", "antiderivative", "result")}
    scripts: ClassVar = {
        "integrate": """
            from sympy import *

            $var = symbols("$var")
            $F = integrate($exact, $var)
            print(f"{$F} + C")
            """,
        "named_steps": """
            from sympy import integrate, sympify

            $f = sympify("$data")
            $var = sympify("$var")
            $F = integrate($f.expand(), $var)
            print($F, "+ C")
            """,
        "manual": """
            from sympy import Symbol, sympify
            from sympy.integrals.manualintegrate import manualintegrate

            $var = Symbol("$var")
            $f = sympify("$data", locals={"$var": $var})
            $F = manualintegrate($f, $var)
            print(str($F) + " + C")
            """,
    }
    methods: ClassVar = {
        "integrate": "sympy integrates it, and I add the constant C.",
        "named_steps": "I read it as a sympy expression, expand it and integrate.",
        "manual": "manualintegrate goes the way of a textbook, by rules, parts and substitution.",
    }
    checking = (
        (
            "The derivative of the answer must be the integrand.",
            "I differentiate and compare with $data.",
        ),
        """
        from sympy import Symbol, diff, simplify, sympify

        $var = Symbol("$var")
        known = {"$var": $var, "C": Symbol("C")}
        $F = sympify("$literal", locals=known)
        print(simplify(diff($F, $var) - sympify("$data", locals=known)) == 0)
        """,
    )
    slip = (
        ("sympy's integrate takes the integrand and the variable.", "One call of sympy is enough."),
        """
        from sympy import acos, asin, atan, cos, exp, integrate, log, sin, sqrt

        print(integrate($data, $var), "+ C")
        """,
    )

    @override
    def parse(self, question: str) -> str:
        return read(r"(?:integral|antiderivative): \u222b ([^\n]+) dx\n", question)[1].strip()

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        # A fraction of two literals would become a float in Python.
        exact = re.sub(r"(?<![\w*)])(\d+)/(\d+)", r"Rational(\1, \2)", data)
        return {"data": data, "exact": exact, "var": "X" if "X" in data else "x"}

    @override
    def openings(self, data: str) -> Sequence[str]:
        return (
            f"I look for a function whose derivative is {data}.",
            f"The integrand is {data}.",
            f"{data} has to be integrated, up to a constant.",
        )


class SimpleIntegration(Integral):
    """Integrates a polynomial."""

    task = "rg_simple_integration"


class IntermediateIntegration(Integral):
    """Integrates by substitution or by parts."""

    task = "rg_intermediate_integration"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """The summands of a cryptarithm and its total."""

    words: tuple[str, ...]
    total: str


class Cryptarithm(TemplateTeacher[Sum]):
    """Finds digits for letters."""

    task = "rg_cryptarithm"
    forms = ("columns", "weights", "column_stack")
    names: ClassVar = {
        "digits": ("digits", "value", "assigned"),
        "total": ("total", "result", "target"),
    }
    scripts: ClassVar = {
        "columns": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            columns = [
                ([w[-i] for w in words if i <= len(w)], $total[-i])
                for i in range(1, len($total) + 1)
            ]


            def solve(i, carry, $digits):
                if i == len(columns):
                    return $digits if carry == 0 else None
                letters, below = columns[i]
                for letter in letters:
                    if letter not in $digits:
                        for d in range(letter in leading, 10):
                            if d not in $digits.values():
                                found = solve(i, carry, {**$digits, letter: d})
                                if found:
                                    return found
                        return None
                carry, d = divmod(carry + sum($digits[c] for c in letters), 10)
                if below in $digits:
                    return solve(i + 1, carry, $digits) if $digits[below] == d else None
                if d in $digits.values() or (d == 0 and below in leading):
                    return None
                return solve(i + 1, carry, {**$digits, below: d})


            print(",".join(f"{c}={d}" for c, d in sorted(solve(0, 0, {}).items())))
            """,
        "weights": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            weight = {}
            for word in words:
                for place, c in enumerate(reversed(word)):
                    weight[c] = weight.get(c, 0) + 10**place
            for place, c in enumerate(reversed($total)):
                weight[c] = weight.get(c, 0) - 10**place
            order = sorted(weight, key=lambda c: -abs(weight[c]))
            reach = [9 * sum(abs(weight[c]) for c in order[i:]) for i in range(len(order) + 1)]


            def solve(i, rest, $digits):
                if abs(rest) > reach[i]:
                    return None
                if i == len(order):
                    return $digits
                c = order[i]
                for d in range(c in leading, 10):
                    if d not in $digits.values():
                        found = solve(i + 1, rest + d * weight[c], {**$digits, c: d})
                        if found:
                            return found
                return None


            print(",".join(f"{c}={d}" for c, d in sorted(solve(0, 0, {}).items())))
            """,
        "column_stack": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            order = []
            for i in range(1, len($total) + 1):
                for w in [*words, $total]:
                    if i <= len(w) and w[-i] not in order:
                        order.append(w[-i])


            def fits($digits):
                carry = 0
                for i in range(1, len($total) + 1):
                    letters = [w[-i] for w in words if i <= len(w)]
                    if any(c not in $digits for c in [*letters, $total[-i]]):
                        return True
                    carry, digit = divmod(carry + sum($digits[c] for c in letters), 10)
                    if digit != $digits[$total[-i]]:
                        return False
                return carry == 0


            stack = [{}]
            while stack:
                $digits = stack.pop()
                if len($digits) == len(order):
                    break
                c = order[len($digits)]
                unused = set(range(c in leading, 10)) - set($digits.values())
                stack += [n for d in unused if fits(n := {**$digits, c: d})]
            print(",".join(f"{c}={d}" for c, d in sorted($digits.items())))
            """,
    }
    methods: ClassVar = {
        "columns": "I go column by column from the right, with carries, and backtrack.",
        "weights": "Letters have weights in the equation; a bounded search takes large ones first.",
        "column_stack": "A depth-first search assigns letters and tests each complete column.",
    }
    checking = (
        ("I put the digits in and test the sum, the digits and the leading letters.",),
        """
        $digits = dict(pair.split("=") for pair in "$literal".split(","))
        numbers = ["".join($digits[c] for c in w) for w in $words + ["$sum"]]
        different = len(set($digits.values())) == len($digits)
        print(different and all(n[0] != "0" for n in numbers)
              and sum(map(int, numbers[:-1])) == int(numbers[-1]))
        """,
    )

    @override
    def parse(self, question: str) -> Sum:
        found = read(r"cryptarithm:\n\n([A-Z+ \n]+?)\n-+\n\s*([A-Z]+)\n", question)
        return Sum(words=tuple(re.findall(r"[A-Z]+", found[1])), total=found[2])

    @override
    def values(self, data: Sum, rng: random.Random) -> Mapping[str, object]:
        return {"words": list(data.words), "sum": data.total}

    @override
    def openings(self, data: Sum) -> Sequence[str]:
        letters = len(set("".join(data.words) + data.total))
        return (
            f"{' + '.join(data.words)} = {data.total} has {letters} letters, all different digits.",
            f"I need {letters} digits so that the {len(data.words)} words sum to {data.total}.",
            f"The {letters} letters of the sum to {data.total} stand for different digits.",
        )


TEACHERS: tuple[Teacher[Any], ...] = (
    ComplexArithmetic(),
    PolynomialMultiplication(),
    SimpleIntegration(),
    IntermediateIntegration(),
    Cryptarithm(),
)
