"""The teacher of numbers in several notations."""

import random
import re
import textwrap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.row_blocks import split_block
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, list_literal, read

Candidates = tuple[str, tuple[str, ...]]
"""`largest` or `smallest`, and the numbers as they are written."""


class NumberFormat(TemplateTeacher[Candidates]):
    """Picks the largest or smallest of numbers in several notations."""

    task = "rg_number_format"
    forms = ("floats", "decimal", "sorting")
    names: ClassVar = {
        "texts": ("texts", "candidates", "numbers"),
        "value": ("value", "as_number", "amount"),
        "best": ("best", "chosen", "result"),
    }
    scripts: ClassVar = {
        "floats": """
        $texts = $given
        values = [float(text.replace(",", "")) for text in $texts]
        print($extreme(values))
        """,
        "decimal": """
        from decimal import Decimal

        $texts = $listed
        $best = $extreme($texts, key=lambda text: Decimal(text.replace(",", "")))
        print(f"{Decimal($best.replace(',', '')):f}")
        """,
        "sorting": """
        def $value(text):
            return float(text.replace(",", ""))

        $texts = $given
        ordered = sorted($texts, key=$value)
        $best = ordered[$place]
        print($value($best))
        """,
    }
    methods: ClassVar = {
        "floats": "Without the commas, float reads every notation alike.",
        "decimal": "Decimal compares them exactly once the commas are removed.",
        "sorting": "I sort by value and take the number at that end.",
    }
    checking = (
        (
            "No candidate may lie beyond the answer, and it must be one of them.",
            "The answer has to be among the $count candidates with all others on one side.",
            "I compare $answer with each of the $count candidates.",
        ),
        """
        $texts = $given
        values = [float(text.replace(",", "")) for text in $texts]
        answer = $answer
        print(answer in values and all(answer $compare value for value in values))
        """,
    )
    slip = (
        (
            "I compare the candidates as they are written.",
            "Python's $extreme of the $count texts gives the $size one.",
            "The $size of the $count candidates comes straight from $extreme.",
        ),
        """
        $texts = $given
        print($extreme($texts))
        """,
    )

    @override
    def parse(self, question: str) -> Candidates:
        found = read(r"pick the (largest|smallest) number of the .*?candidates: (.+)$", question)
        texts = tuple(found[2].split())
        if not all(re.fullmatch(r"-?[\d,]+(\.\d+)?(e[+-]\d+)?", text) for text in texts):
            raise UnreadableQuestionError(found[2])
        return found[1], texts

    @override
    def values(self, data: Candidates, rng: random.Random) -> Mapping[str, object]:
        largest = data[0] == "largest"
        return {
            "given": _split_text(" ".join(data[1])),
            "listed": list_literal(data[1]),
            "count": len(data[1]),
            "size": data[0],
            "extreme": "max" if largest else "min",
            "place": -1 if largest else 0,
            "compare": ">=" if largest else "<=",
        }

    @override
    def answer_values(self, data: Candidates, answer: str) -> Mapping[str, object]:
        return {"answer": answer.replace(",", "")}

    @override
    def openings(self, data: Candidates) -> Sequence[str]:
        count = len(data[1])
        powers = sum("e" in text for text in data[1])
        commas = sum("," in text for text in data[1])
        return (
            f"I need the {data[0]} of {count} numbers in several notations.",
            f"{count} numbers, {commas} with commas and {powers} with an exponent, are compared by "
            "value.",
            f"The {count} candidates agree in their first digits; the {data[0]} is wanted.",
        )

    @override
    def first_attempt(self, data: Candidates, rng: random.Random) -> Step | None:
        numbers = {text: Decimal(text.replace(",", "")) for text in data[1]}
        extreme = max if data[0] == "largest" else min
        wrong = numbers[extreme(data[1])] != extreme(numbers.values())
        return super().first_attempt(data, rng) if wrong else None

    @override
    def wrong_answer(self, data: Candidates, answer: str, rng: random.Random) -> str | None:
        right = Decimal(answer)
        others = [text for text in data[1] if abs(Decimal(text.replace(",", "")) - right) > 1]
        return rng.choice(others) if others else None


def _split_text(text: str) -> str:
    """Return an expression for the list of the words."""
    if len(text) < 70:
        return f'"{text}".split()'
    return split_block(textwrap.wrap(text, 84))


TEACHERS: tuple[Teacher[Any], ...] = (NumberFormat(),)
