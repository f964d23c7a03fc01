"""Greatest common divisor and least common multiple of two integers."""

import json
import math
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_HIGH = {1: 60, 2: 200, 3: 999, 4: 9_999, 5: 99_999}


class GcdLcm(toy_task.ToyTask):
    """Greatest common divisor or least common multiple of two integers."""

    name = "toy_gcd_lcm"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        high = _HIGH[difficulty]
        shared = rng.randint(2, 6 * difficulty)  # Otherwise most pairs would be coprime.
        a, b = (shared * rng.randint(1, high // shared) for _ in range(2))
        what = rng.choice(("gcd", "lcm"))
        return Puzzle(
            question=f"{what} of {a} and {b}?",
            answer=math.gcd(a, b) if what == "gcd" else math.lcm(a, b),
            metadata={"a": a, "b": b, "what": what},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return answers.score_integer(json.loads(example.answer), answer_text)

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        metadata = json.loads(example.metadata)
        a, b, what = metadata["a"], metadata["b"], metadata["what"]
        value = json.loads(example.answer)
        call = f"print(math.{what}({a},{b}))"
        check = (
            f"print({a}%{value},{b}%{value})"
            if what == "gcd"
            else f"print({value}%{a},{value}%{b})"
        )
        return toy_task.ReferenceSolution(
            code=f"import math\n{call}",
            faulty_code=call,  # The import is missing.
            check=check,
            wrong_answer=str(value * rng.choice((2, 3))),
        )
