"""Solve a linear congruence by trying values: the one toy task with many right answers."""

import functools
import json
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_RANGE = {1: (11, 31), 2: (37, 97), 3: (101, 199), 4: (211, 499), 5: (503, 997)}


@functools.cache
def _primes(low: int, high: int) -> tuple[int, ...]:
    return tuple(n for n in range(low, high + 1) if all(n % d for d in range(2, int(n**0.5) + 1)))


class Search(toy_task.ToyTask):
    """Find a number that satisfies a linear congruence."""

    name = "toy_search"
    answer_format = "an integer that fulfils the equation"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        modulus = rng.choice(_primes(*_RANGE[difficulty]))
        factor, rest = rng.randint(2, modulus - 1), rng.randint(1, modulus - 1)
        return Puzzle(
            question=f"Find x with x*{factor}%{modulus}=={rest}.",
            answer=pow(factor, -1, modulus) * rest % modulus,
            metadata={"factor": factor, "modulus": modulus, "rest": rest},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        x = answers.integer(answer_text)
        if x is None:
            reason = f"{answers.format_answer(answer_text)} is not a single integer"
            return Verdict(correct=False, reason=reason)
        rest = x * metadata["factor"] % metadata["modulus"]
        relation = f"x*{metadata['factor']}%{metadata['modulus']} is {rest}"
        if rest != metadata["rest"]:
            return Verdict(correct=False, reason=f"{relation}, not {metadata['rest']}")
        return Verdict(correct=True, reason=relation)

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        metadata = json.loads(example.metadata)
        factor, modulus, rest = metadata["factor"], metadata["modulus"], metadata["rest"]
        x = json.loads(example.answer)
        code = f"print(next(x for x in range({modulus}) if x*{factor}%{modulus}=={rest}))"
        return toy_task.ReferenceSolution(
            code=code,
            faulty_code=toy_task.misspell(code, rng, "print", "next", "range"),
            check=f"print({x}*{factor}%{modulus})",
            wrong_answer=str(x + rng.choice((-2, -1, 1, 2))),
        )
