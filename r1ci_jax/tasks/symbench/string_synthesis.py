"""Combine blocks by a list of methods, each used as often as possible, until nothing changes."""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Counts = dict[str, int]
"""The amount of each block."""
Method = tuple[Counts, Counts]
"""The blocks that are consumed and the blocks that are produced."""

BLOCKS: Final = ("[A]", "[B]", "[C]", "{A}", "{B}", "{C}", "(A)", "(B)", "(C)")
_TIERS: Final = (BLOCKS[:3], BLOCKS[3:6], BLOCKS[6:])

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""There are none. The released wording does not state how often a method is used before the next
one; all released answers use it as often as possible, and our own text states this. With one use
per round, 73 of the 100 would differ."""

_LEVELS: Final = {
    1: (2, 1, 2, 5),
    2: (3, 1, 2, 7),
    3: (3, 2, 3, 10),
    4: (4, 2, 5, 16),
    5: (5, 3, 10, 30),
}
"""Methods on square blocks, methods on curly blocks, least and largest number of a square block."""

_WORDS: Final = {"one": 1, "two": 2, "three": 3, "four": 4}
_TERM = re.compile(r"(one|two|three|four) ([\[{(][ABC][\]})])", re.IGNORECASE)
_METHOD = re.compile(r"^\s*\d+\.\s*(.+) can be combined to form (.+)\.\s*$", re.MULTILINE)
_HELD = re.compile(r"(\d+) (\[[ABC]\])")

_QUESTION: Final = """\
You have a supply of blocks. A block carries the letter A, B or C and is square as in [A], curly \
as in {{A}} or round as in (A), so there are nine kinds:
{kinds}

Blocks can be changed by these methods; each use takes away the blocks on the left and adds those \
on the right:
{methods}

Work in this order. Begin with method 1 and use it again and again, until the blocks it needs are \
no longer all there (perhaps it cannot be used at all). Then do the same with method 2, and so on \
to method {last}. After method {last} begin a new round with method 1. Stop after a round in which \
no method could be used.

At the start you have {held}, and no other blocks.

How many blocks of each kind are there at the end? Answer with a list of nine whole numbers, \
separated by blanks, in the order {kinds}. For example, 0 2 0 0 1 0 0 0 3 would mean two [B], one \
{{B}} and three (C)."""


def _able(held: Counts, method: Method) -> bool:
    return all(held.get(block, 0) >= number for block, number in method[0].items())


def synthesise(start: Counts, methods: list[Method]) -> tuple[Counts, list[int]]:
    """Return the blocks at the end, and the number of uses of each method."""
    held, uses = dict(start), [0] * len(methods)
    changed = True
    while changed:
        changed = False
        for index, (taken, given) in enumerate(methods):
            while _able(held, methods[index]):
                for block, number in taken.items():
                    held[block] -= number
                for block, number in given.items():
                    held[block] = held.get(block, 0) + number
                uses[index] += 1
                changed = True
    return held, uses


def _tally(blocks: list[str]) -> Counts:
    return {block: blocks.count(block) for block in BLOCKS if block in blocks}


def _methods(rng: random.Random, tier: int, count: int) -> list[Method]:
    """Choose distinct methods that turn blocks into fewer of the next tier, so all work ends."""
    methods: list[Method] = []
    while len(methods) < count:
        size = rng.randint(2, 3)
        taken = _tally(rng.choices(_TIERS[tier], k=size))
        given = _tally(rng.choices(_TIERS[tier + 1], k=rng.randint(1, size - 1)))
        if all(taken != other for other, _ in methods):
            methods.append((taken, given))
    return methods


def _format_counts(counts: Counts) -> str:
    return " + ".join(f"{number} {block}" for block, number in counts.items())


def _question(start: Counts, methods: list[Method]) -> str:
    lines = [
        f"{number}. {_format_counts(taken)} -> {_format_counts(given)}"
        for number, (taken, given) in enumerate(methods, 1)
    ]
    held = [f"{number} {block}" for block, number in start.items()]
    return _QUESTION.format(
        kinds=" ".join(BLOCKS),
        methods="\n".join(lines),
        last=len(methods),
        held=f"{', '.join(held[:-1])} and {held[-1]}",
    )


class StringSynthesis(symbench_task.SymbenchTask):
    """Combine blocks by a list of methods, each used as often as possible."""

    name = "string_synthesis"
    kind = "execution"
    answer_format = "nine whole numbers separated by blanks"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        square, curly, low, high = _LEVELS[difficulty]
        while True:
            methods = _methods(rng, 0, square) + _methods(rng, 1, curly)
            start = {block: rng.randint(low, high) for block in _TIERS[0]}
            end, uses = synthesise(start, methods)
            # Both tiers must change, or else the question is smaller than it looks.
            if sum(map(bool, uses[:square])) >= min(2, square) and any(uses[square:]):
                break
        return Puzzle(
            question=_question(start, methods),
            answer=" ".join(str(end.get(block, 0)) for block in BLOCKS),
            metadata={"start": start, "methods": methods},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        end, _ = synthesise(metadata["start"], metadata["methods"])
        expected = [end.get(block, 0) for block in BLOCKS]
        return answers.score_integers(expected, answer_text, "the numbers of blocks at the end")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        methods = [(_spelt(left), _spelt(right)) for left, right in _METHOD.findall(question)]
        start = {block: int(held) for held, block in _HELD.findall(question)}
        final = symbench_task.read_field(solution, "final_counts")
        if not methods or len(start) != 3 or not isinstance(final, list):
            raise self.malformed(number, "methods, blocks or final counts are missing")
        gold = " ".join(map(str, final))
        return self.item(number, question, {"start": start, "methods": methods}, gold)


def _spelt(text: str) -> Counts:
    """Parse the blocks of a released phrase such as `One {A} and one {C}`."""
    return {block: _WORDS[word.lower()] for word, block in _TERM.findall(text)}
