"""Score the runs of equal letters in a string."""

import itertools
import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

_LEVELS: Final = {1: (2, 10), 2: (3, 20), 3: (4, 35), 4: (6, 55), 5: (8, 80)}
"""Letters and length of the string."""

_POINTS: Final = range(1, 13)
_LONGER: Final = 0.45
"""The probability that a run continues for one letter; about half of the runs are too short."""

_RELEASED_RULE = re.compile(r"If there are two or more consecutive ([A-Z])'s, add (\d+) to the")
_RELEASED_STRING = re.compile(r"total score of the string ([A-Z]+)\?")

_QUESTION = """\
A run is a stretch of equal letters that cannot be made longer: the letters before and after it, \
if there are any, are different ones. Each run of a string earns points by its letter and length, \
once for the whole run:

{rules}

Runs that are shorter earn nothing.

How many points do the runs of this string earn in all?

{string}

Answer with a single integer, for example 1234."""


class StatisticalCounting(symbench_task.SymbenchTask):
    """Score the runs of equal letters in a string."""

    name = "statistical_counting"
    kind = "execution"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        count, length = _LEVELS[difficulty]
        letters = "ABCDEFGH"[:count]
        points = rng.sample(_POINTS, count)
        rules = {
            letter: [rng.randint(2, 3), earned]
            for letter, earned in zip(letters, points, strict=True)
        }
        while True:
            string = _string(rng, letters, length)
            total = total_points(string, rules)
            if total:
                break
        listed = (
            f"- a run of {shortest} or more {letter}: {earned} point{'s' * (earned != 1)}"
            for letter, (shortest, earned) in rules.items()
        )
        return Puzzle(
            question=_QUESTION.format(rules="\n".join(listed), string=string),
            answer=total,
            metadata={"rules": rules, "string": string},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        expected = total_points(metadata["string"], metadata["rules"])
        return answers.score_integer(expected, answer_text)

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        rules = {letter: [2, int(points)] for letter, points in _RELEASED_RULE.findall(question)}
        string = _RELEASED_STRING.search(question)
        if not rules or string is None or not set(string[1]) <= set(rules):
            raise self.malformed(number, "the question shows no string with rules for its letters")
        gold = symbench_task.read_field(solution)
        if not isinstance(gold, int):
            raise self.malformed(number, "the solution holds no answer")
        metadata = {"rules": rules, "string": string[1]}
        return self.item(number, question, metadata, str(gold))


def total_points(string: str, rules: dict[str, list[int]]) -> int:
    """Add the points of all runs. `rules`: the shortest scoring run and its points, by letter."""
    total = 0
    for letter, run in itertools.groupby(string):
        shortest, points = rules[letter]
        if len(list(run)) >= shortest:
            total += points
    return total


def _string(rng: random.Random, letters: str, length: int) -> str:
    """Make a string of letters that often repeat the previous one."""
    string = rng.choice(letters)
    while len(string) < length:
        others = letters.replace(string[-1], "")
        string += string[-1] if rng.random() < _LONGER else rng.choice(others)
    return string
