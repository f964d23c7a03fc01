"""Teachers of formulas: integer, decimal and bitwise arithmetic, and the count of bits."""

import ast
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read


def _tree(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UnreadableQuestionError(text[:200]) from error


def _formula(pattern: str, question: str) -> str:
    text = read(pattern, question)[1].strip()
    _tree(text)
    return text


class Calculation(TemplateTeacher[str]):
    """What the teachers of one arithmetic expression share."""

    names: ClassVar = {
        "result": ("result", "value", "answer", "total"),
        "text": ("expression", "text", "formula", "problem"),
    }

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        terms = re.findall(r"([-+]?) ?(\d+)", data)
        return {
            "data": data,
            "exact": re.sub(r"([\d.]+)", r"Fraction(\1)", data),
            "signed": ", ".join(f"{sign.replace('+', '')}{number}" for sign, number in terms),
            "count": len(terms),
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"\d+", data))
        return (
            f"The expression has {count} numbers; parentheses first, then * and /, then + and -.",
            f"I have to evaluate {data}, and Python follows the same rules of precedence.",
            f"{count} numbers are combined; exact whole numbers are best left to Python.",
        )


_WALK = """
            import ast
            import operator
            from fractions import Fraction

            $text = "$data"
            operations = {
                ast.Add: operator.add,
                ast.Sub: operator.sub,
                ast.Mult: operator.mul,
                ast.Div: operator.truediv,
            }


            def evaluate(node):
                if isinstance(node, ast.BinOp):
                    return operations[type(node.op)](evaluate(node.left), evaluate(node.right))
                if isinstance(node, ast.UnaryOp):
                    return -evaluate(node.operand)
                return Fraction(node.value)


            print(evaluate(ast.parse($text, mode="eval").body))
            """


class BasicArithmetic(Calculation):
    """Evaluates an expression of whole numbers."""

    task = "rg_basic_arithmetic"
    forms = ("exact_fractions", "syntax_tree", "sympy", "integer_division")
    scripts: ClassVar = {
        "exact_fractions": """
            from fractions import Fraction

            $result = $exact
            print($result)
            """,
        "syntax_tree": _WALK,
        "sympy": """
            from sympy import sympify

            $text = "$data"
            print(sympify($text))
            """,
        "integer_division": """
            $result = $divided
            print($result)
            """,
    }
    methods: ClassVar = {
        "exact_fractions": "Fractions keep divisions exact.",
        "syntax_tree": "I walk over the syntax tree with exact fractions.",
        "sympy": "sympy evaluates it exactly.",
        "integer_division": "With // in place of / all values stay whole numbers.",
    }

    @override
    def parse(self, question: str) -> str:
        return _formula(
            r"(?:Calculate|Put your final answer after '='[^:]*:|What is the (?:value|result) of"
            r"|What is)\s+([-+*/() \d]+?)(?:\.|\?| =|\n|$)",
            question,
        )

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {**super().values(data, rng), "divided": data.replace("/", "//")}


class ChainSum(Calculation):
    """Adds and subtracts whole numbers."""

    task = "rg_chain_sum"
    forms = ("sum_of_signed", "running_total", "parse_text", "two_sums")
    scripts: ClassVar = {
        "sum_of_signed": "$text = [$signed]\nprint(sum($text))",
        "running_total": """
            $result = 0
            for term in ($signed):
                $result += term
            print($result)
            """,
        "parse_text": """
            import re

            $text = "$data"
            terms = re.findall(r"[+-]?\\d+", $text.replace(" ", ""))
            print(sum(map(int, terms)))
            """,
        "two_sums": """
            terms = [$signed]
            gained = sum(t for t in terms if t > 0)
            lost = sum(-t for t in terms if t < 0)
            print(gained - lost)
            """,
    }
    methods: ClassVar = {
        "sum_of_signed": "A difference adds a negative term, so it is one sum.",
        "running_total": "I keep a running total from left to right.",
        "parse_text": "I read the signed terms from the text and add them.",
        "two_sums": "I add what is added and what is subtracted apart, then take the difference.",
    }
    exploring = (
        ("I look at the running totals first.", "The intermediate totals show any slip."),
        "from itertools import accumulate\n\nprint(*list(accumulate([$signed]))[:-1])",
    )

    @override
    def parse(self, question: str) -> str:
        return _formula(r"arithmetic problem: ([-+ \d]+) =", question)

    @override
    def openings(self, data: str) -> Sequence[str]:
        terms = re.findall(r"\d+", data)
        return (
            f"{len(terms)} terms are added and subtracted, starting from {terms[0]}.",
            f"The chain is {data}.",
            f"A sum of {len(terms)} terms up to {max(terms, key=int)} is asked.",
        )

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        terms = [int(each) for each in re.findall(r"[-+]?\d+", data.replace(" ", ""))]
        if len(terms) > 6:
            return None
        total, parts = terms[0], list[str]()
        for term in terms[1:]:
            sign = "-" if term < 0 else "+"
            parts.append(f"{total} {sign} {abs(term)} = {total + term}")
            total += term
        return f"From left to right: {'; '.join(parts)}.", str(total)

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return str(int(answer) + rng.choice((-100, -10, 10, 100)))


class DecimalArithmetic(Calculation):
    """Evaluates an expression of decimal numbers."""

    task = "rg_decimal_arithmetic"
    forms = ("decimals", "exact_fractions", "sympy", "syntax_tree")
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
            print(f"{rounded:f}")
            """,
        "sympy": """
            from sympy import N, sympify

            $result = sympify("$data", rational=True)
            print(f"{float(N($result, 12)):.9f}".rstrip("0").rstrip("."))
            """,
        "syntax_tree": _WALK.replace(
            'print(evaluate(ast.parse($text, mode="eval").body))',
            '$result = evaluate(ast.parse($text, mode="eval").body)\n            '
            'print(f"{float($result):.9f}".rstrip("0").rstrip("."))',
        ).replace("Fraction(node.value)", "Fraction(str(node.value))"),
    }
    methods: ClassVar = {
        "decimals": "Decimals with 12 digits and half-up rounding do what is asked.",
        "exact_fractions": "I compute with exact fractions and round once, at the end.",
        "sympy": "sympy takes the decimals as rationals, so nothing is lost before the end.",
        "syntax_tree": "I walk over the syntax tree with exact fractions.",
    }

    @override
    def parse(self, question: str) -> str:
        return _formula(r"reply with the final value\.\n([-+*/()\d. ]+) = \?", question)

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {
            "data": data,
            "decimal": re.sub(r"([\d.]+)", r'Decimal("\1")', data),
            "quoted": re.sub(r"([\d.]+)", r'Fraction("\1")', data),
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"[\d.]+", data))
        return (
            f"{count} decimal numbers are combined, with 12 significant digits asked.",
            f"Binary floats cannot hold the decimals of {data} exactly.",
            f"The value of {data} is asked.",
        )


class BitwiseArithmetic(Calculation):
    """Evaluates an expression of hexadecimal numbers."""

    task = "rg_bitwise_arithmetic"
    forms = ("direct", "steps_by_tree", "powers_of_two", "stepwise")
    scripts: ClassVar = {
        "direct": "$result = $data\nprint(hex($result))",
        "steps_by_tree": """
            import ast
            import operator

            $text = "$data"
            operations = {
                ast.Add: operator.add,
                ast.Sub: operator.sub,
                ast.Mult: operator.mul,
                ast.LShift: operator.lshift,
                ast.RShift: operator.rshift,
                ast.BitAnd: operator.and_,
                ast.BitOr: operator.or_,
                ast.BitXor: operator.xor,
            }


            def evaluate(node):
                if isinstance(node, ast.BinOp):
                    return operations[type(node.op)](evaluate(node.left), evaluate(node.right))
                return node.value


            print(hex(evaluate(ast.parse($text, mode="eval").body)))
            """,
        "powers_of_two": """
            # x << k is x * 2**k, and x >> k is floor(x / 2**k)
            $result = $powers
            print(f"{$result:#x}")
            """,
        "stepwise": "$steps\nprint(hex($last))",
    }
    methods: ClassVar = {
        "direct": "Python's integers have any depth and a sign, and hex keeps the minus.",
        "steps_by_tree": "I evaluate the syntax tree with the operators on integers.",
        "powers_of_two": "Shifts are products and floor quotients with powers of two.",
        "stepwise": "I compute the parentheses from the inside out, one name for each.",
    }
    slip = (
        ("I evaluate the expression and print it.",),
        "$result = $data\nprint($result)",
    )

    @override
    def parse(self, question: str) -> str:
        return _formula(r"final hexidecimal value\.\n([-+*<>&|^~() 0-9a-fA-Fx]+)", question)

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        lines: list[str] = []
        last = _stepwise(_tree(data), data, lines)
        powers = re.sub(r"<< (0x\w+)", r"* 2**\1", data)
        powers = re.sub(r">> (0x\w+)", r"// 2**\1", powers)
        return {"data": data, "steps": "\n".join(lines), "last": last, "powers": powers}

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"0x\w+", data))
        return (
            f"The {count} numbers are hexadecimal, and the result has to be as well.",
            f"I evaluate an expression of {count} hexadecimal numbers without any limit of width.",
            "Signed integers of any size are just what Python has.",
        )


def _stepwise(node: ast.expr, text: str, lines: list[str]) -> str:
    if not isinstance(node, ast.BinOp):
        return ast.get_source_segment(text, node) or ast.unparse(node)
    left = _stepwise(node.left, text, lines)
    right = _stepwise(node.right, text, lines)
    sign = ast.unparse(ast.BinOp(ast.Name("a"), node.op, ast.Name("b")))[2:-2]
    lines.append(f"s{len(lines) + 1} = {left} {sign} {right}")
    return f"s{len(lines)}"


class CountBits(TemplateTeacher[int]):
    """Counts the ones of a binary number."""

    task = "rg_count_bits"
    forms = ("bin_count", "bit_count", "clear_lowest", "halving")
    names: ClassVar = {"n": ("n", "number", "x"), "ones": ("ones", "count", "bits")}
    scripts: ClassVar = {
        "bin_count": '$n = $data\nprint(bin($n).count("1"))',
        "bit_count": "$n = $data\n$ones = $n.bit_count()\nprint($ones)",
        "clear_lowest": """
            $n = $data
            $ones = 0
            while $n:
                $n &= $n - 1  # clears the lowest 1
                $ones += 1
            print($ones)
            """,
        "halving": """
            $n = $data
            $ones = 0
            while $n:
                $n, bit = divmod($n, 2)
                $ones += bit
            print($ones)
            """,
    }
    methods: ClassVar = {
        "bin_count": "I count the characters 1 in its binary form.",
        "bit_count": "Integers have bit_count for this.",
        "clear_lowest": "n & (n - 1) clears the lowest 1, so I count how often that works.",
        "halving": "Repeated halving yields the bits as remainders.",
    }
    exploring = (
        ("First the binary form and its length.",),
        'n = $data\nprint(f"{n:b}", n.bit_length())',
    )

    @override
    def parse(self, question: str) -> int:
        return int(read(r"binary representation of the number (\d+)\?", question)[1])

    @override
    def values(self, data: int, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}

    @override
    def openings(self, data: int) -> Sequence[str]:
        return (
            f"The ones in the binary form of {data} are asked.",
            f"{data} has {data.bit_length()} binary digits, of which I count the ones.",
            f"How many powers of two make up {data}?",
        )

    @override
    def in_words(self, data: int, rng: random.Random) -> tuple[str, str] | None:
        if data >= 1 << 13:
            return None
        powers = [str(1 << k) for k in range(13, -1, -1) if data >> k & 1]
        return f"{data} = {' + '.join(powers)}, {len(powers)} powers of two.", str(len(powers))

    @override
    def wrong_answer(self, data: int, answer: str, rng: random.Random) -> str:
        return str(int(answer) + rng.choice((-1, 1)))


TEACHERS: tuple[Teacher[Any], ...] = (
    BasicArithmetic(),
    ChainSum(),
    DecimalArithmetic(),
    BitwiseArithmetic(),
    CountBits(),
)
