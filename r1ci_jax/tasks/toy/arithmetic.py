"""Evaluate a short integer expression."""

import json
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_OPERATORS = {1: "+-", 2: "+-", 3: "+-*", 4: "*", 5: "*"}
_HIGH = {1: (9, 9, 9), 2: (99, 99, 0), 3: (99, 9, 9), 4: (99, 99, 9), 5: (999, 99, 99)}
"""Largest operands; 0 omits the third one."""


def _value(first: int, operator: str, second: int) -> int:
    match operator:
        case "+":
            return first + second
        case "-":
            return first - second
        case _:
            return first * second


class Arithmetic(toy_task.ToyTask):
    """Evaluate a short integer expression."""

    name = "toy_arithmetic"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        a, b, c = (rng.randint((high + 9) // 10, high) for high in _HIGH[difficulty])
        first = rng.choice(_OPERATORS[difficulty])
        expression, value = f"{a}{first}{b}", _value(a, first, b)
        if c:
            second = rng.choice("+-")
            expression, value = f"{expression}{second}{c}", _value(value, second, c)
        return Puzzle(
            question=f"Compute {expression}.", answer=value, metadata={"expression": expression}
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return answers.score_integer(json.loads(example.answer), answer_text)

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        expression = json.loads(example.metadata)["expression"]
        value = json.loads(example.answer)
        code = f"print({expression})"
        return toy_task.ReferenceSolution(
            code=code,
            faulty_code=toy_task.misspell(code, rng, "print"),
            check=f"print({expression}=={value})",
            wrong_answer=str(value + rng.choice((-10, -2, -1, 1, 2, 10))),
        )
