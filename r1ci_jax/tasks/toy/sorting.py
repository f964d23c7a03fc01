"""Sort a list of integers."""

import json
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_HIGH = {1: 20, 2: 50, 3: 99, 4: 99, 5: 999}


class Sorting(toy_task.ToyTask):
    """Sort a list of integers."""

    name = "toy_sorting"
    answer_format = "the integers in ascending order, parted by blanks"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        numbers = rng.sample(range(1, _HIGH[difficulty] + 1), 2 + difficulty)
        ordered = sorted(numbers)
        if numbers == ordered:  # A sorted list would reward repeating the question.
            numbers.reverse()
        return Puzzle(
            question=f"Sort [{','.join(map(str, numbers))}] ascending.",
            answer=" ".join(map(str, ordered)),
            metadata={"numbers": numbers},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        found = answers.integers(answer_text)
        if found is None:
            reason = f"{answers.format_answer(answer_text)} is not a list of integers"
            return Verdict(correct=False, reason=reason)
        numbers = json.loads(example.metadata)["numbers"]
        if found == sorted(numbers):
            return Verdict(correct=True, reason="the numbers in ascending order")
        if sorted(found) == sorted(numbers):
            return Verdict(correct=False, reason="the right numbers, not in ascending order")
        return Verdict(correct=False, reason="not the numbers of the question")

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        numbers = json.loads(example.metadata)["numbers"]
        ordered = sorted(numbers)
        listed = f"[{','.join(map(str, numbers))}]"
        code = f"print(*sorted({listed}))"
        swapped = list(ordered)
        spot = rng.randrange(len(swapped) - 1)
        swapped[spot], swapped[spot + 1] = swapped[spot + 1], swapped[spot]
        return toy_task.ReferenceSolution(
            code=code,
            faulty_code=toy_task.misspell(code, rng, "print", "sorted"),
            check=f"print(sorted({listed})==[{','.join(map(str, ordered))}])",
            wrong_answer=" ".join(map(str, swapped)),
        )
