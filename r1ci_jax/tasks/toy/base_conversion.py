"""Write an integer in another base."""

import json
import random
import re
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_RANGE = {1: (8, 300), 2: (100, 999), 3: (1_000, 4_999), 4: (5_000, 19_999), 5: (20_000, 99_999)}


def _digits(number: int, base: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, base)
        text = str(digit) + text
    return text


class BaseConversion(toy_task.ToyTask):
    """Write an integer in another base."""

    name = "toy_base_conversion"
    answer_format = "the digits, without prefix"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        number, base = rng.randint(*_RANGE[difficulty]), rng.randint(2, 9)
        return Puzzle(
            question=f"Write {number} in base {base}.",
            answer=_digits(number, base),
            metadata={"base": base, "number": number},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        expected = json.loads(example.answer)
        text = answer_text.strip() if len(answer_text) <= answers.MAX_ANSWER_CHARS else ""
        if re.fullmatch("[0-9]+", text) is None:
            reason = f"{answers.format_answer(answer_text)} is not a row of digits"
            return Verdict(correct=False, reason=reason)
        if text.lstrip("0") != expected:
            return Verdict(
                correct=False, reason=f"{answers.format_answer(answer_text)} is not {expected}"
            )
        return Verdict(correct=True, reason=f"equals {expected}")

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        metadata = json.loads(example.metadata)
        number, base, text = metadata["number"], metadata["base"], json.loads(example.answer)
        code = f"n,s={number},''\nwhile n:\n s=str(n%{base})+s\n n//={base}\nprint(s)"
        spot = rng.randrange(len(text))
        changed = str((int(text[spot]) + rng.randint(1, base - 1)) % base)
        wrong = text[:spot] + changed + text[spot + 1 :]
        return toy_task.ReferenceSolution(
            code=code,
            faulty_code=f"n={number}\n{code.partition(chr(10))[2]}",  # `s` is never set
            check=f"print(int('{text}',{base}))",
            wrong_answer=wrong,
        )
