"""Disassemble machines and assemble parts, method after method, until no method applies."""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

Amounts = dict[str, int]
"""The amount of each thing; a thing that is not named has the amount 0."""
Method = tuple[Amounts, Amounts]
"""The things that one use consumes and the things that it produces."""

THINGS: Final = "ABCXYZ"
"""Machines A, B, C and parts X, Y, Z, in the order of the answer."""

_LEVELS: Final = {1: (2, 4), 2: (4, 9), 3: (8, 20), 4: (18, 45), 5: (40, 110)}
"""Fewest and most machines of each kind at the start."""
_EXAMPLE: Final = [4, 0, 1, 12, 0, 3]
"""The answer that the question shows; a question with this answer is not used."""

_RELEASED: Final[tuple[Method, ...]] = (
    ({"A": 1}, {"X": 2, "Y": 1}),
    ({"B": 2}, {"X": 1}),
    ({"C": 2}, {"Y": 1}),
    ({"B": 1, "C": 1}, {"A": 1}),
    ({"X": 1, "Y": 1}, {"Z": 1}),
)
"""The methods of every released question; only their wording varies."""
_RELEASED_METHOD = re.compile(r"^Method (\d): (.*)$", re.MULTILINE)
_RELEASED_START = re.compile(
    r"there are (\d+) units of Machine A, (\d+) units of Machine B, and (\d+) units of Machine C"
)
_RELEASED_NAMED: Final = ("AXY", "BX", "CY", "ABC", "XYZ")

_QUESTION = """\
A workshop has {A} machines of type A, {B} of type B and {C} of type C, and no parts yet. It can \
take machines apart and put things together by these methods, which each use up what stands \
before the arrow and yield what stands behind it:

{methods}

The workshop goes through the methods in this order. When the turn comes to a method, it is used \
exactly once if everything that it uses up is there, and is passed over otherwise. After method \
{count} it is the turn of method 1 again. The work ends when none of the methods can be used.

How many machines A, B, C and parts X, Y, Z are there in the end? Answer with six integers in the \
order A, B, C, X, Y, Z, separated by commas, for example {example}."""


class StringSplitting(symbench_task.SymbenchTask):
    """Disassemble machines and assemble parts, method after method, until no method applies."""

    name = "string_splitting"
    kind = "execution"
    answer_format = "six integers, separated by commas: the numbers of A, B, C, X, Y, Z"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        while True:
            start = {machine: rng.randint(*_LEVELS[difficulty]) for machine in "ABC"}
            methods = _methods(rng, difficulty)
            final = run_methods(start, methods)
            if final != _EXAMPLE:
                break
        listed = (
            f"{i}. {_format_amounts(a)} -> {_format_amounts(b)}"
            for i, (a, b) in enumerate(methods, 1)
        )
        question = _QUESTION.format(
            methods="\n".join(listed),
            count=len(methods),
            example=", ".join(map(str, _EXAMPLE)),
            **start,
        )
        return Puzzle(
            question=question,
            answer=", ".join(map(str, final)),
            metadata={"methods": methods, "start": start},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        expected = run_methods(metadata["start"], metadata["methods"])
        values = answers.integers(answer_text)
        if values is None or len(values) != len(THINGS):
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of six integers"
            )
        if values != expected:
            return symbench_task.wrong_verdict(f"{values} is not {expected}"[:100])
        return symbench_task.right_verdict(f"is {expected}")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        start = _RELEASED_START.search(question)
        listed = _RELEASED_METHOD.findall(question)
        named = tuple("".join(sorted(set(re.findall(r"\b[ABCXYZ]\b", text)))) for _, text in listed)
        if start is None or named != _RELEASED_NAMED:
            raise self.malformed(number, "the question shows no machines or other methods")
        gold = symbench_task.read_field(solution, "expected_answer")
        if not isinstance(gold, list):
            raise self.malformed(number, "the solution holds no answer")
        metadata = {
            "methods": _RELEASED,
            "start": dict(zip("ABC", map(int, start.groups()), strict=True)),
        }
        return self.item(number, question, metadata, ", ".join(map(str, gold)))


def run_methods(start: Amounts, methods: list[Method]) -> list[int]:
    """Return the final amounts of all things."""
    have = {thing: start.get(thing, 0) for thing in THINGS}
    idle = False
    while not idle:
        idle = True
        for takes, gives in methods:
            if all(have[thing] >= amount for thing, amount in takes.items()):
                idle = False
                for thing, amount in takes.items():
                    have[thing] -= amount
                for thing, amount in gives.items():
                    have[thing] += amount
    return list(have.values())


def _methods(rng: random.Random, difficulty: int) -> list[Method]:
    """Choose methods that terminate.

    Each use lowers the number of machines, or else the number of machines C, or else that of parts.
    """
    some = 2 if difficulty < 3 else 4
    methods: list[Method] = [
        ({"A": 1}, {"X": rng.randint(1, some), "Y": rng.randint(1, some)}),
        ({"B": rng.randint(2, 3)}, {"X": rng.randint(1, some)}),
        ({"C": rng.randint(2, 3)}, {"Y": rng.randint(1, some)}),
        ({"B": 1, "C": rng.randint(1, 2)}, {"A": 1}),
        ({"X": rng.randint(1, some), "Y": rng.randint(1, some)}, {"Z": 1}),
    ]
    if difficulty >= 3:
        methods.append(({"C": 1, "Z": rng.randint(1, 2)}, {"B": 1, "X": rng.randint(1, 2)}))
    if difficulty >= 5:
        methods.append(({"A": 1, "B": 1, "Z": 1}, {"C": 1, "Y": rng.randint(1, some)}))
    if difficulty >= 2:
        rng.shuffle(methods)
    return methods


def _format_amounts(amounts: Amounts) -> str:
    return " + ".join(f"{amount} {thing}" for thing, amount in amounts.items())
