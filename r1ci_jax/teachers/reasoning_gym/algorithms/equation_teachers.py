"""Teachers of algebra: complex numbers, polynomials and antiderivatives."""

import ast
import dataclasses
import functools
import random
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.algorithms.expression_scripts import parse_formula
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, TextTeacher, read, require

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
    names: ClassVar = {"re im": ("re im", "real imag", "x y")}
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
            from sympy import I, simplify

            first, second = $a + $b * I, $c + $d * I
            $re, $im = map(float, simplify(first $op second).as_real_imag())
            {_SHOW}
            """,
        "fractions": f"""
            from fractions import Fraction

            a, b, c, d = map(Fraction, ($a, $b, $c, $d))
            $re = float($p0)
            $im = float($p1)
            {_SHOW}
            """,
    }
    methods: ClassVar = {
        "complex_type": "Python has complex numbers; only the form has to be written.",
        "parts": "I compute the real and the imaginary part by their formulas.",
        "sympy": "sympy keeps it exact.",
        "fractions": "With fractions the two parts are exact.",
    }
    slip = (
        (
            "I combine the real parts and the imaginary parts, each with each.",
            "Real part with real part, imaginary part with imaginary part.",
        ),
        f"""
        a, b = $a, $b
        c, d = $c, $d
        $re = $wrong0
        $im = $wrong1
        {_SHOW}
        """,
    )
    checking = (
        (
            "The inverse operation must lead back to the first number.",
            "I undo the operation with the second number and compare with the first.",
        ),
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
        formulas = zip(_FORMULAS[data.operator], _MISTAKES[data.operator], strict=True)
        parts = {f"p{i}": right for i, (right, _) in enumerate(formulas)}
        wrong = {f"wrong{i}": each for i, each in enumerate(_MISTAKES[data.operator])}
        inverse = {"+": "-", "-": "+", "*": "/", "/": "*"}[data.operator]
        numbers = dict(zip("abcd", map(_plain, (a, b, c, d)), strict=True))
        return {**numbers, **parts, **wrong, "op": data.operator, "inverse": inverse}

    @override
    def openings(self, data: ComplexPair) -> Sequence[str]:
        (a, b), (c, d) = data.left, data.right
        kind = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}[data.operator]
        return (
            f"The real parts are {_plain(a)} and {_plain(c)}, and the {kind} is asked.",
            f"I need the {kind}; the imaginary parts are {_plain(b)} and {_plain(d)}.",
            f"The {kind} of {_written(data.left)} and {_written(data.right)} is asked.",
        )

    @override
    def first_attempt(self, data: ComplexPair, rng: random.Random) -> Step | None:
        (a, b), (c, d) = data.left, data.right
        match data.operator:
            case "+":
                return None
            case "-":
                same = d == 0
            case "*":
                same = (a * c, b * d) == (a * c - b * d, a * d + b * c)
            case _:
                same = c == 0 or d == 0  # it would raise
        return None if same else super().first_attempt(data, rng)

    @override
    def in_words(self, data: ComplexPair, rng: random.Random) -> tuple[str, str] | None:
        (a, b), (c, d) = data.left, data.right
        p, q = (_bracketed(each) for each in (c, d))
        if data.operator == "/" or max(map(abs, (a, b, c, d))) >= 1000:
            return None
        if data.operator == "*":
            x, y = a * c - b * d, a * d + b * c
            words = (
                "As i * i = -1, the real part is "
                f"{_plain(a)} * {p} - {_bracketed(b)} * {q} = {_plain(x)}, and the imaginary part "
                f"is {_plain(a)} * {q} + {_bracketed(b)} * {p} = {_plain(y)}."
            )
        else:
            sign = 1 if data.operator == "+" else -1
            x, y = a + sign * c, b + sign * d
            words = (
                f"The real parts give {_plain(a)} {data.operator} {p} = {_plain(x)}, "
                f"the imaginary parts {_plain(b)} {data.operator} {q} = {_plain(y)}."
            )
        return words, f"{x:.1f} {'-' if y < 0 else '+'} {abs(y):.1f}i"

    @override
    def wrong_answer(self, data: ComplexPair, answer: str, rng: random.Random) -> str | None:
        return None if answer.endswith(" 0.0i") else answer.translate({43: 45, 45: 43}).lstrip("-+")


def _plain(number: float) -> str:
    return str(int(number) if number.is_integer() else number)


def _written(number: Number) -> str:
    real, imaginary = number
    return f"{_plain(real)} {'-' if imaginary < 0 else '+'} {_plain(abs(imaginary))}i"


def _bracketed(number: float) -> str:
    return f"({_plain(number)})" if number < 0 else _plain(number)


_FORMULAS = {
    "+": ("a + c", "b + d"),
    "-": ("a - c", "b - d"),
    "*": ("a * c - b * d", "a * d + b * c"),
    "/": ("(a * c + b * d) / (c * c + d * d)", "(b * c - a * d) / (c * c + d * d)"),
}
_MISTAKES = {
    "+": ("a + c", "b + d"),
    "-": ("a - c", "b + d"),
    "*": ("a * c", "b * d"),
    "/": ("a / c", "b / d"),
}


def _parts(text: str) -> Number:
    compact = text.replace(" ", "")
    found = read(r"^(?:([-+]?[\d.]+)(?!i|[\d.]))?(?:([-+]?[\d.]*)i)?$", compact)
    imaginary = found[2]
    if imaginary in ("", "+", "-"):
        imaginary += "1"
    return float(found[1] or 0), float(imaginary or 0)


Polynomial = Mapping[int, Fraction]
"""The coefficient of each exponent of the one variable."""


def _polynomial(node: ast.expr) -> Polynomial:
    """Expand an expression in one variable."""
    match node:
        case ast.Constant(value=int(value)):
            return {0: Fraction(value)}
        case ast.Name():
            return {1: Fraction(1)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return {exponent: -number for exponent, number in _polynomial(operand).items()}
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            return functools.reduce(_product, [_polynomial(left)] * power, {0: Fraction(1)})
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=int(value))):
            return {exponent: number / value for exponent, number in _polynomial(left).items()}
        case ast.BinOp(left=left, op=operator, right=right):
            one, two = _polynomial(left), _polynomial(right)
            if isinstance(operator, ast.Mult):
                return _product(one, two)
            sign = -1 if isinstance(operator, ast.Sub) else 1
            total = dict(one)
            for exponent, number in two.items():
                total[exponent] = total.get(exponent, Fraction(0)) + sign * number
            return total
        case _:
            raise UnreadableQuestionError(ast.unparse(node))


def _product(one: Polynomial, two: Polynomial) -> dict[int, Fraction]:
    total: dict[int, Fraction] = {}
    for i, a in one.items():
        for j, b in two.items():
            total[i + j] = total.get(i + j, Fraction(0)) + a * b
    return total


def _factors(node: ast.expr) -> list[Polynomial]:
    """Return the factors of a product; those of one term are put together."""
    match node:
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            found = [*_factors(left), *_factors(right)]
        case _:
            found = [_polynomial(node)]
    single = functools.reduce(
        _product, (each for each in found if len(each) == 1), {0: Fraction(1)}
    )
    sums = [each for each in found if len(each) > 1]
    return [single, *sums] if single != {0: 1} or not sums else sums


class PolynomialMultiplication(TextTeacher):
    """Expands a product of polynomials."""

    task = "rg_polynomial_multiplication"
    forms = ("expand", "poly", "coefficients")
    pattern = r"(?:Simplify this expression|Calculate the following): ([-+*/() \dxyz]+)(?:\n|$)"
    names: ClassVar = {"product": ("product", "result", "expanded"), "new": ("new", "after")}
    scripts: ClassVar = {
        "expand": """
            from sympy import expand, symbols

            $var = symbols("$var")
            $product = expand($data)
            print($product)
            """,
        "poly": """
            from sympy import Poly, symbols

            $var = symbols("$var")
            $product = Poly($data, $var)
            print($product.as_expr())
            """,
        "coefficients": """
            # exponent: coefficient
            factors = [$factors]
            $product = {0: 1}
            for factor in factors:
                $new = {}
                for i, a in $product.items():
                    for j, b in factor.items():
                        $new[i + j] = $new.get(i + j, 0) + a * b
                $product = $new
            terms = []
            for i, a in sorted($product.items(), reverse=True):
                power = {0: "", 1: "*$var"}.get(i, f"*$var**{i}")
                terms += [f"{a}{power}"] if a else []
            print(" + ".join(terms).replace("+ -", "- "))
            """,
    }
    methods: ClassVar = {
        "expand": "sympy's expand multiplies out and collects like terms.",
        "poly": "As a Poly it is kept expanded.",
        "coefficients": "I keep the coefficients by exponent and multiply term by term.",
    }
    checking = (
        (
            "At several points both forms must have the same value.",
            "I put numbers in for $var and compare the two forms.",
        ),
        "print(all(($data) == ($literal) for $var in range(-9, 10)))",
    )

    @override
    def parse(self, question: str) -> str:
        text = super().parse(question)
        require(len(set(re.findall(r"[xyz]", text))) <= 1, text)
        _factors(parse_formula(text))
        return text

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        factors = [
            "{" + ", ".join(f"{i}: {a}" for i, a in factor.items()) + "}"
            for factor in _factors(parse_formula(data))
        ]
        return {"data": data, "var": _variable(data), "factors": ", ".join(factors)}

    @override
    def openings(self, data: str) -> Sequence[str]:
        if "(" not in data:
            return (
                f"In {data} there is nothing to multiply out; like terms have to be collected.",
                f"{data} has no brackets, so at most like terms can be put together.",
            )
        return (
            f"{data} has to be multiplied out, with like terms collected.",
            "Every term of one factor meets every term of the other, then like terms are added.",
            f"The brackets of {data} have to go.",
        )

    @override
    def step(self, data: str, form: str, rng: random.Random) -> Step:
        return super().step(data, form if "(" in data else rng.choice(("expand", "poly")), rng)

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        factors, var = _factors(parse_formula(data)), _variable(data)
        if len(factors) != 2 or max(map(len, factors)) > 2:
            return None
        one, two = factors
        parts = [
            f"{_term(a, i, var)} * {_in_brackets(_term(b, j, var))} = {_term(a * b, i + j, var)}"
            for i, a in one.items()
            for j, b in two.items()
        ]
        total = _sum_of_terms(_product(one, two), var)
        return f"Term by term: {'; '.join(parts)}. Together that is {total}.", total


def _variable(data: str) -> str:
    found = re.search(r"(?<![a-zA-Z])[xyzX](?![a-zA-Z])", data)
    return found[0] if found else "x"


def _term(number: Fraction, exponent: int, var: str) -> str:
    power = {0: "", 1: var}.get(exponent, f"{var}**{exponent}")
    if not power:
        return str(number)
    whole = {1: "", -1: "-"}.get(number.numerator, f"{number.numerator}*")
    return f"{whole}{power}" + (f"/{number.denominator}" if number.denominator > 1 else "")


def _in_brackets(term: str) -> str:
    return f"({term})" if term.startswith("-") else term


def _sum_of_terms(terms: Polynomial, var: str) -> str:
    ordered = sorted(terms.items(), reverse=True)
    return " + ".join(_term(a, i, var) for i, a in ordered if a).replace("+ -", "- ") or "0"


class Integral(TextTeacher):
    """What the teachers of antiderivatives share; the data are the integrand."""

    forms = ("integrate", "named_steps", "manual")
    # The data are the integrand alone, so a constant must be one of the usual variable.
    pattern = r"(?:integral|antiderivative): \u222b ([^\n]+ (?=dx)|[^\n]*X[^\n]* (?=dX))d[xX]\n"
    names: ClassVar = {"f": ("f", "integrand", "g"), "F": ("F", "antiderivative", "result")}
    scripts: ClassVar = {
        "integrate": """
            from sympy import $imported

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
        (
            "sympy's integrate takes the integrand and the variable; latex writes the result.",
            "One call of integrate is enough, and LaTeX shows fractions and powers well.",
        ),
        """
        from sympy import integrate, latex, sympify

        $F = integrate(sympify("$data"), sympify("$var"))
        print(latex($F) + " + C")
        """,
    )

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        # A fraction of two literals would become a float in Python.
        exact = re.sub(r"(?<![\w*)])(\d+)/(\d+)", r"Rational(\1, \2)", data)
        used = re.findall(r"[A-Za-z]{2,}", exact)
        imported = ", ".join(sorted({"integrate", "symbols", *used}, key=str.lower))
        var = "X" if "X" in data else "x"
        return {"data": data, "exact": exact, "var": var, "imported": imported}

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

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        terms, var = _polynomial(parse_formula(data)), _variable(data)
        if len(terms) > 3:
            return None
        found = {i + 1: a / (i + 1) for i, a in terms.items()}
        parts = [
            f"{_term(a, i, var)} becomes {_term(found[i + 1], i + 1, var)}"
            for i, a in terms.items()
        ]
        rule = rng.choice(
            (
                "The exponent grows by 1 and the coefficient is divided by the new one",
                "By the power rule",
            )
        )
        return f"{rule}: {', '.join(parts)}.", f"{_sum_of_terms(found, var)} + C"


class IntermediateIntegration(Integral):
    """Integrates by substitution or by parts."""

    task = "rg_intermediate_integration"


TEACHERS: tuple[Teacher[Any], ...] = (
    ComplexArithmetic(),
    PolynomialMultiplication(),
    SimpleIntegration(),
    IntermediateIntegration(),
)
