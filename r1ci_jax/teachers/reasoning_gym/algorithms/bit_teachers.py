"""Teachers of bits: arithmetic with hexadecimal numbers, and the count of ones."""

import ast
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.algorithms.expression_scripts import (
    Calculation,
    name_steps,
    parse_formula,
    write_walk,
)
from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, count_noun, read


class BitwiseArithmetic(Calculation):
    """Evaluates an expression of hexadecimal numbers."""

    task = "rg_bitwise_arithmetic"
    forms = ("direct", "steps_by_tree", "powers_of_two", "stepwise")
    by_steps = "stepwise"
    pattern = r"final hexidecimal value\.\n([-+*<>&|^~() 0-9a-fA-Fx]+)"
    scripts: ClassVar = {
        "direct": "$result = $data\nprint(hex($result))",
        "steps_by_tree": """
            import ast
            import operator

            $text = "$data"
            $walk
            print(hex(evaluate(ast.parse($text, mode="eval").body)))
            """,
        "powers_of_two": '$comment$result = $powers\nprint(f"{$result:#x}")',
        "stepwise": "$steps\nprint(hex($last))",
    }
    methods: ClassVar = {
        "direct": "Python's integers have any size and a sign, and hex keeps the minus.",
        "steps_by_tree": "I evaluate the syntax tree with the operators on integers.",
        "powers_of_two": "$power_words",
        "stepwise": "I compute the brackets from the inside out, one name for each.",
    }
    slip = (
        ("I evaluate the expression and print it.", "$count numbers, one line of Python."),
        "$result = $data\nprint($result)",
    )

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        text = ast.get_source_segment(data, parse_formula(data)) or data
        lines: list[str] = []
        last = name_steps(parse_formula(text), text, lines)
        powers = re.sub(r"<< (0x\w+)", r"* 2**\1", text)
        powers = re.sub(r">> (0x\w+)", r"// 2**\1", powers)
        shifts = powers != text
        return {
            "data": text,
            "steps": "\n".join(lines),
            "last": last,
            "powers": powers,
            "comment": "# x << k is x * 2**k, and x >> k is x // 2**k\n" if shifts else "",
            "power_words": "Shifts are products and floor quotients with powers of two."
            if shifts
            else "No shift occurs, so it is plain arithmetic with a format for the base.",
            "walk": write_walk(text, "node.value"),
            "count": len(re.findall(r"0x", text)),
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(re.findall(r"0x", data))
        return (
            f"The {count} numbers are hexadecimal, and the result has to be as well.",
            f"I evaluate an expression of {count} hexadecimal numbers without any limit of width.",
            f"{count} hexadecimal numbers are combined; a negative result keeps its minus sign.",
        )

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return hex(int(answer, 16) + rng.choice((-16, -1, 1, 16)))


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
        ("First the binary form and its length.", "I look at the binary digits of $data first."),
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
        count, total = len(powers), " + ".join(powers)
        words = (
            f"{data} = {total}, {count_noun(count, 'different power')} of two.",
            f"As a sum of powers of two, {data} is {total}; these are {count}.",
            f"I take away the largest power of two again and again: {data} = {total}. "
            f"Each of the {count} stands for a 1.",
        )
        return rng.choice(words), str(count)

    @override
    def wrong_answer(self, data: int, answer: str, rng: random.Random) -> str:
        return str(int(answer) + rng.choice((-1, 1)))


TEACHERS: tuple[Teacher[Any], ...] = (BitwiseArithmetic(), CountBits())
