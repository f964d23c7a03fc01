"""Put operators and parentheses between given numbers so that the value is a target."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import formula, symbench_task
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""Golds of the released sample that break the stated rules: there are none."""

_COUNT = {1: 3, 2: 4, 3: 5, 4: 6, 5: 7}
"""The number of numbers."""
_TARGETS = range(10, 101)
_FREE_LEVEL = 1
"""The level whose targets may be reached without parentheses; higher levels require them."""

_CLOSE = 1e-8

_QUESTION = """\
Turn this row of {count} numbers into a formula with the value {target}: {numbers}

Put exactly one of the operators +, -, * and / between any two neighbouring numbers, and \
parentheses wherever you like. The numbers keep their order, each is used exactly once, and they \
are neither joined to longer numbers nor given a sign. Multiplication and division bind more \
strongly than addition and subtraction; operators that bind equally strongly are done from left \
to right. Calculate exactly: intermediate results may be negative or fractions, but nothing may be \
divided by zero.

Answer with the list of the formula's numbers and symbols from left to right, separated by commas, \
for example [8, -, (, 1, +, 9, ), /, 5] for 8-(1+9)/5. There may be several right answers; give \
one."""

_RELEASED = re.compile(r"input numbers are: ([\d, ]+), the target values is: (\d+)")
_TOKEN = re.compile(r" *(['\"]?)([-+*/()]|0|[1-9][0-9]{0,3})\1 *", re.ASCII)


def plainly_reachable(numbers: Sequence[int], target: int) -> bool:
    """Return True if the numbers in their order give the target without parentheses.

    The values are floats, for speed: a value of seven digits that is not the target is far from it.
    """
    # Each formula so far is stored as the sum of its finished terms and its last term.
    states = [(0.0, float(numbers[0]))]
    for following in numbers[1:]:
        states = [
            state
            for total, term in states
            for state in (
                (total + term, following),
                (total + term, -following),
                (total, term * following),
                (total, term / following),
            )
        ]
    return any(abs(total + term - target) < _CLOSE for total, term in states)


class CombinatorialCalculation(symbench_task.SymbenchTask):
    """Reach a target from numbers in a fixed order."""

    name = "combinatorial_calculation"
    kind = "planning"
    answer_format = "a list of numbers, operators and parentheses"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        while True:
            numbers = [rng.randint(1, 9) for _ in range(_COUNT[difficulty])]
            made = formula.make_formula(rng, numbers)
            if made is None or made.value not in _TARGETS:
                continue
            target = int(made.value)
            if difficulty == _FREE_LEVEL or not plainly_reachable(numbers, target):
                break
        question = _QUESTION.format(
            count=len(numbers), target=target, numbers=", ".join(map(str, numbers))
        )
        return Puzzle(
            question=question,
            answer=_format_list(made.tokens),
            metadata={"numbers": numbers, "target": target},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        row = _read(answer_text)
        if row is None:
            reason = f"{answers.format_answer(answer_text)} is not a list of numbers and symbols"
            return symbench_task.wrong_verdict(reason)
        given = json.loads(example.metadata)
        if [int(token) for token in row if token.isdigit()] != given["numbers"]:
            return symbench_task.wrong_verdict("not the given numbers in their order")
        return formula.score_formula(row, given["target"])

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        match = _RELEASED.search(question)
        if match is None:
            raise self.malformed(number, "the question has no numbers and target")
        tokens = symbench_task.read_field(solution)
        if not isinstance(tokens, list):
            raise self.malformed(number, "the solution is not a list of symbols")
        metadata = {"numbers": [int(n) for n in match[1].split(",")], "target": int(match[2])}
        return self.item(number, question, metadata, _format_list([str(token) for token in tokens]))


def _format_list(tokens: Sequence[str]) -> str:
    return f"[{', '.join(tokens)}]"


def _read(text: str) -> list[str] | None:
    """Parse the tokens; the list may lack its brackets, and a token may be in quotes."""
    found = answers.matches(text, _TOKEN, brackets=("[]",))
    return None if found is None else [token[2] for token in found]
