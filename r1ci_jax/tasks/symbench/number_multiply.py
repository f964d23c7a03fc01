"""Multiply integers."""

import json
import math
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

# Each row lists the digits of each factor; a level chooses one of its rows.
_DIGITS: Final = {
    1: ((2, 2), (1, 3)),
    2: ((1, 2, 3), (3, 3), (2, 4)),
    3: ((1, 2, 2, 4), (2, 3, 4), (4, 5)),
    4: ((4, 4, 4), (6, 7), (2, 3, 3, 5)),
    5: ((8, 9), (5, 6, 7), (4, 5, 5, 6), (10, 10)),
}


class NumberMultiply(symbench_task.SymbenchTask):
    """Give the product of two to four integers."""

    name = "number_multiply"
    kind = "execution"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        digits = list(rng.choice(_DIGITS[difficulty]))
        rng.shuffle(digits)
        factors = [_factor(rng, count) for count in digits]
        listed = f"{', '.join(map(str, factors[:-1]))} and {factors[-1]}"
        return Puzzle(
            question=(
                f"Multiply these integers: {listed}.\n\nAnswer with the exact product in decimal "
                "digits: a minus sign in front if it is negative, no separators between digits, no "
                "exponent. The product of 2, -3 and 4 would be written -24."
            ),
            answer=str(math.prod(factors)),
            metadata={"factors": factors},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        product = math.prod(json.loads(example.metadata)["factors"])
        return answers.score_integer(product, answer_text)

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        body = re.search(r"result of (-?[0-9]+(?:\*-?[0-9]+)+)\?", question)
        if body is None:
            raise self.malformed(number, "no product in the question")
        # The release stores the product as a text file; our sample stores it under a key.
        gold = solution.get("answer") if isinstance(solution, dict) else solution
        if not isinstance(gold, str | int) or answers.integer(str(gold)) is None:
            raise self.malformed(number, "no product stored")
        factors = [int(factor) for factor in body[1].split("*")]
        return self.item(number, question, {"factors": factors}, str(gold).strip())


def _factor(rng: random.Random, digits: int) -> int:
    # A factor of 1 would only change the sign.
    size = rng.randint(max(2, 10 ** (digits - 1)), 10**digits - 1)
    return rng.choice((-1, 1)) * size
