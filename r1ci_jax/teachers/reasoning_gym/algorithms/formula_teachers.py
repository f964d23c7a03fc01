"""Teachers of formulas of integers and of decimal numbers."""

import ast
import random
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.algorithms.expression_scripts import (
    Calculation,
    name_steps,
    operator_sign,
    parse_formula,
    write_tidily,
    write_walk,
)
from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError


def _evaluate(node: ast.expr, told: Callable[[str, Fraction], None]) -> Fraction:
    """Evaluate integers with exact fractions, telling each operation and its value."""
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, told)
    if not isinstance(node, ast.BinOp):
        return Fraction(ast.literal_eval(node))
    left, right = _evaluate(node.left, told), _evaluate(node.right, told)
    match node.op:
        case ast.Add():
            value = left + right
        case ast.Sub():
            value = left - right
        case ast.Mult():
            value = left * right
        case _:
            value = left / right
    shown = f"({right})" if right < 0 else str(right)
    told(f"{left} {operator_sign(node.op)} {shown} = {value}", value)
    return value


class _Fractions(ast.NodeTransformer):
    """Replaces quotients by fractions."""

    @override
    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            return ast.Call(ast.Name("Fraction"), [node.left, node.right], [])
        return node


class BasicArithmetic(Calculation):
    """Evaluates an expression of whole numbers; where a quotient leaves a rest, it is dropped."""

    task = "rg_basic_arithmetic"
    forms = ("fractions", "syntax_tree", "sympy", "integer_division", "steps")
    by_steps = "steps"
    pattern = (
        r"(?:Calculate|Put your final answer after '='[^:]*:|What is the (?:value|result) of"
        r"|What is)\s+([-+*/() \d]+?)(?:\.|\?| =|\n|$)"
    )
    scripts: ClassVar = {
        "fractions": "$imported$result = $exact\nprint($result)",
        "syntax_tree": """
            import ast
            import operator
            from fractions import Fraction

            $text = "$data"
            $walk
            print(evaluate(ast.parse($text, mode="eval").body))
            """,
        "sympy": """
            from sympy import sympify

            $text = "$data"
            print(sympify($text))
            """,
        "integer_division": "print($whole)",
        "steps": "$steps\nprint($last)",
    }
    methods: ClassVar = {
        "fractions": "$fraction_words",
        "syntax_tree": "I walk over the syntax tree with exact fractions.",
        "sympy": "sympy evaluates it exactly.",
        "integer_division": "$whole_words",
        "steps": "I go from the inside out, with one name for each operation.",
    }

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        divides, rounds = "/" in data, _rounds(data)
        tidy = write_tidily(data.replace("/", "//") if rounds else data)
        whole = tidy if rounds else tidy.replace("/", "//")
        exact = ast.unparse(_Fractions().visit(parse_formula(tidy)))
        lines: list[str] = []
        last = name_steps(parse_formula(whole), whole, lines)
        fractions = divides and not rounds
        return {
            "data": tidy,
            "whole": whole,
            "exact": exact,
            "imported": "from fractions import Fraction\n\n" if fractions else "",
            "walk": write_walk(tidy, "Fraction(node.value)"),
            "steps": "\n".join(lines),
            "last": last,
            "fraction_words": "A Fraction keeps a quotient exact."
            if fractions
            else "Python's integers are exact, however large.",
            "whole_words": "With // in place of / all values stay integers."
            if fractions
            else "One line of Python does it.",
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"\d+", data))
        order = ""
        if "(" in data:
            order = ", and brackets come first"
        elif re.search(r"[*/]", data) and re.search(r"\d [-+] ", data):
            order = "; products and quotients come before sums"
        rest = " A division leaves a rest, and an integer is asked, so // rounds down."
        rest *= _rounds(data)
        return (
            f"The expression has {count} numbers{order}.{rest}",
            f"I have to evaluate {write_tidily(data)}; Python follows the same precedence.{rest}",
            f"The integer value of {write_tidily(data)} is asked.{rest}",
        )

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        numbers = re.findall(r"\d+", data)
        if len(numbers) > 5 or max(map(len, numbers)) > 2 or _rounds(data):
            return None
        parts: list[str] = []
        value = _evaluate(parse_formula(data), lambda line, _: parts.append(line))
        if not parts or any(len(part) > 24 for part in parts):
            return None
        opening = rng.choice(("Step by step:", "By the order of operations:", "I work it out:"))
        last = parse_formula(data)
        negated = f" With the sign in front it is {value}." * isinstance(last, ast.UnaryOp)
        return f"{opening} {'; '.join(parts)}.{negated}", str(value)

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        value = int(answer)
        return str(rng.choice([each for each in (-value, value + 10, value - 2) if each != value]))


def _rounds(data: str) -> bool:
    """Return True if a quotient is no integer."""
    values: list[Fraction] = []
    try:
        _evaluate(parse_formula(data), lambda _, value: values.append(value))
    except ZeroDivisionError as error:
        raise UnreadableQuestionError(data) from error
    return any(value.denominator != 1 for value in values)


class ChainSum(Calculation):
    """Adds and subtracts whole numbers."""

    task = "rg_chain_sum"
    forms = ("sum_of_signed", "running_total", "parse_text", "two_sums")
    pattern = r"arithmetic problem: ([-+ \d]+) ="
    names: ClassVar = {
        "result": ("result", "value", "total"),
        "text": ("expression", "text", "chain", "problem"),
        "terms": ("terms", "numbers", "signed"),
    }
    scripts: ClassVar = {
        "sum_of_signed": "$terms = [$signed]\nprint(sum($terms))",
        "running_total": """
            $result = 0
            for term in ($signed):
                $result += term
            print($result)
            """,
        "parse_text": """
            import re

            $text = "$data"
            $terms = re.findall(r"[+-]?\\d+", $text.replace(" ", ""))
            print(sum(map(int, $terms)))
            """,
        "two_sums": """
            $terms = [$signed]
            gained = sum(t for t in $terms if t > 0)
            lost = sum(-t for t in $terms if t < 0)
            print(gained - lost)
            """,
    }
    methods: ClassVar = {
        "sum_of_signed": "A difference adds a negative term, so it is one sum.",
        "running_total": "I keep a running total from left to right.",
        "parse_text": "I read the signed terms from the text and add them.",
        "two_sums": "What is added and what is subtracted I sum apart, then take the difference.",
    }
    exploring = (
        (
            "First I sum what is added and what is subtracted, each apart.",
            "The plus terms and the minus terms first, to see the size of the result.",
        ),
        """
        $terms = [$signed]
        print("added", sum(t for t in $terms if t > 0))
        print("subtracted", sum(-t for t in $terms if t < 0))
        """,
    )

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data, "signed": ", ".join(map(str, _terms(data)))}

    @override
    def openings(self, data: str) -> Sequence[str]:
        terms = re.findall(r"\d+", data)
        return (
            f"{len(terms)} terms are added and subtracted, starting from {terms[0]}.",
            f"The chain is {data}.",
            f"There are {len(terms)} terms of up to {max(map(len, terms))} digits.",
        )

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        terms = _terms(data)
        if len(terms) > 6:
            return None
        gained = [term for term in terms if term > 0]
        lost = [-term for term in terms if term < 0]
        if len(gained) > 1 and len(lost) > 1 and rng.random() < 0.5:
            plus, minus = (" + ".join(map(str, part)) for part in (gained, lost))
            words = (
                f"Added are {plus} = {sum(gained)}, subtracted are {minus} = {sum(lost)}. "
                f"The difference is {sum(gained)} - {sum(lost)} = {sum(terms)}."
            )
            return words, str(sum(terms))
        total, parts = terms[0], list[str]()
        for term in terms[1:]:
            sign = "-" if term < 0 else "+"
            parts.append(f"{total} {sign} {abs(term)} = {total + term}")
            total += term
        opening = rng.choice(("From left to right:", "Term by term:", "In order:"))
        return f"{opening} {'; '.join(parts)}.", str(total)

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return str(int(answer) + rng.choice((-100, -10, 10, 100)))


def _terms(data: str) -> list[int]:
    return [int(each) for each in re.findall(r"[-+]?\d+", data.replace(" ", ""))]


class DecimalArithmetic(Calculation):
    """Evaluates an expression of decimal numbers."""

    task = "rg_decimal_arithmetic"
    forms = ("decimals", "exact_fractions", "sympy", "syntax_tree")
    pattern = r"reply with the final value\.\n([-+*/()\d. ]+) = \?"
    scripts: ClassVar = {
        "decimals": """
            from decimal import ROUND_HALF_UP, Decimal, getcontext

            getcontext().prec = 12
            getcontext().rounding = ROUND_HALF_UP
            $result = $decimal
            print(f"{$result:f}")
            """,
        "exact_fractions": """
            from decimal import ROUND_HALF_UP, Context, Decimal
            from fractions import Fraction

            $result = $quoted
            context = Context(prec=12, rounding=ROUND_HALF_UP)
            rounded = context.divide(Decimal($result.numerator), Decimal($result.denominator))
            print(f"{rounded.normalize():f}")
            """,
        "sympy": """
            from sympy import N, sympify

            $result = sympify("$data", rational=True)
            print(str(N($result, 12)).rstrip("0").rstrip("."))
            """,
        "syntax_tree": """
            import ast
            import operator
            from decimal import ROUND_HALF_UP, Decimal, getcontext

            getcontext().prec = 12
            getcontext().rounding = ROUND_HALF_UP
            $text = "$data"
            $walk
            print(f"{evaluate(ast.parse($text, mode='eval').body):f}")
            """,
    }
    methods: ClassVar = {
        "decimals": "Decimals with 12 digits and half-up rounding do what is asked.",
        "exact_fractions": "I compute with exact fractions and round once, at the end.",
        "sympy": "sympy takes the decimals as rationals, so nothing is lost before the end.",
        "syntax_tree": "I walk over the syntax tree with Decimals of 12 digits.",
    }

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        decimal, quoted = (
            write_tidily(re.sub(r"([\d.]+)", rf'{kind}("\1")', data)).replace("'", '"')
            for kind in ("Decimal", "Fraction")
        )
        walk = write_walk(data, "Decimal(str(node.value))")
        return {"data": data, "decimal": decimal, "quoted": quoted, "walk": walk}

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"[\d.]+", data))
        return (
            f"{count} decimal numbers are combined, with 12 significant digits asked.",
            f"Binary floats cannot hold the decimals of {data} exactly.",
            f"The value of {data} is asked.",
        )

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return f"{float(answer) + rng.choice((-1, -0.1, 0.1, 1)):.2f}"


TEACHERS: tuple[Teacher[Any], ...] = (BasicArithmetic(), ChainSum(), DecimalArithmetic())
