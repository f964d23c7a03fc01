"""Find the number of each letter from equations and comparisons of two letters each."""

import dataclasses
import functools
import json
import random
import re
import string
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench.symbench_task import (
    ReleasedItem,
    SymbenchTask,
    right_verdict,
    wrong_verdict,
)

RELEASED_DEFECTS: Final[dict[str, int]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    letters: int
    highest: int


_LEVELS: Final = {
    1: _Level(letters=4, highest=20),
    2: _Level(letters=6, highest=24),
    3: _Level(letters=8, highest=32),
    4: _Level(letters=10, highest=40),
    5: _Level(letters=13, highest=60),
}

_KINDS: Final = "+++---********>>>>"
"""The frequency of proposals of each kind of relation; few proposed multiples exist."""


@functools.lru_cache(maxsize=4096)
def _exact(number: str) -> tuple[int, int]:
    """Return numerator and denominator; they are cached because a search needs them often."""
    return Fraction(number).as_integer_ratio()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
    """A relation of two letters, which are given by their positions in the alphabet."""

    x: int
    kind: str
    """x + y = number, x - y = number, x = number * y (kind "*"), x > y"""
    y: int
    number: str = ""
    """An integer or a decimal fraction, exact."""

    def holds(self, x: int, y: int) -> bool:
        """Return True if the values satisfy it."""
        if self.kind == ">":
            return x > y
        numerator, denominator = _exact(self.number)
        match self.kind:
            case "+":
                return (x + y) * denominator == numerator
            case "-":
                return (x - y) * denominator == numerator
        return x * denominator == y * numerator

    def shown(self) -> str:
        """Format the relation as the question does."""
        x, y = string.ascii_uppercase[self.x], string.ascii_uppercase[self.y]
        match self.kind:
            case "*":
                return f"{x} = {self.number} * {y}"
            case ">":
                return f"{x} > {y}"
        return f"{x} {self.kind} {y} = {self.number}"


type _Arc = tuple[int, int, list[int]]
"""Letters x and y, and for every value of x the set of values allowed for y, as bits."""


def _arcs(values: Sequence[int], relations: Sequence[Relation]) -> list[_Arc]:
    arcs: list[_Arc] = []
    for known in relations:
        to_y, to_x = [0] * len(values), [0] * len(values)
        for i, x in enumerate(values):
            for j, y in enumerate(values):
                if known.holds(x, y):
                    to_y[i] |= 1 << j
                    to_x[j] |= 1 << i
        arcs += [(known.x, known.y, to_y), (known.y, known.x, to_x)]
    return arcs


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _narrow(open_values: list[int], arcs: Sequence[_Arc]) -> list[int] | None:
    """Return the values left to each letter after simple conclusions; None on a contradiction."""
    left = list(open_values)
    changed = True
    while changed:
        before = list(left)
        for x, y, masks in arcs:
            reachable = 0
            for i in _bits(left[x]):
                reachable |= masks[i]
            left[y] &= reachable
        for letter, mask in enumerate(left):
            if not mask:
                return None
            if mask & (mask - 1) == 0:
                left = [m if n == letter else m & ~mask for n, m in enumerate(left)]
        changed = left != before
    return left


def solutions(values: Sequence[int], relations: Sequence[Relation]) -> Iterator[list[int]]:
    """Yield all ways to give each letter a distinct value so that every relation holds."""
    arcs = _arcs(values, relations)

    def search(left: list[int] | None) -> Iterator[list[int]]:
        if left is None:
            return
        undecided = [n for n, mask in enumerate(left) if mask & (mask - 1)]
        if not undecided:
            yield [values[mask.bit_length() - 1] for mask in left]
            return
        letter = min(undecided, key=lambda n: left[n].bit_count())
        for i in _bits(left[letter]):
            yield from search(
                _narrow([1 << i if n == letter else m for n, m in enumerate(left)], arcs)
            )

    return search(_narrow([(1 << len(values)) - 1] * len(values), arcs))


def _other(values: Sequence[int], relations: Sequence[Relation], hidden: list[int]) -> list[int]:
    """Return a solution that is not the hidden one, or an empty one."""
    return next((found for found in solutions(values, relations) if found != hidden), [])


def _propose(hidden: Sequence[int], rng: random.Random) -> Relation | None:
    """Propose a random relation that is true of the hidden values."""
    x, y = rng.sample(range(len(hidden)), 2)
    a, b = hidden[x], hidden[y]
    match rng.choice(_KINDS):
        case "+":
            return Relation(x=x, kind="+", y=y, number=str(a + b))
        case "-":
            return Relation(x=x, kind="-", y=y, number=str(a - b))
        case "*":
            return Relation(x=x, kind="*", y=y, number=str(a // b)) if a % b == 0 else None
    return Relation(x=x, kind=">", y=y) if a > b else None


def _relations(values: Sequence[int], hidden: list[int], rng: random.Random) -> list[Relation]:
    """Choose relations that only the hidden values satisfy, none of which can be omitted."""
    relations: list[Relation] = []
    while other := _other(values, relations, hidden):
        known = None
        while known is None or known.holds(other[known.x], other[known.y]):
            known = _propose(hidden, rng)
        relations.append(known)
    for known in list(relations):
        rest = [kept for kept in relations if kept is not known]
        if not _other(values, rest, hidden):
            relations = rest
    rng.shuffle(relations)
    return relations


def _question(values: Sequence[int], relations: Sequence[Relation]) -> str:
    letters = string.ascii_uppercase[: len(values)]
    lines = "\n".join(known.shown() for known in relations)
    return (
        f"The {len(values)} letters {', '.join(letters)} stand for the {len(values)} numbers "
        f"{', '.join(map(str, sorted(values)))}. Each letter stands for one number and each number "
        f"belongs to exactly one letter. It is known that\n{lines}\n\n"
        "Which number does each letter stand for? Answer with the numbers in alphabetical order "
        "of their letters, starting with A, parted by commas. For three letters of which A is 9, "
        "B is 2 and C is 5, the answer would be [9, 2, 5]."
    )


class LogicalEquation(SymbenchTask):
    """Find the number of each letter."""

    name = "logical_equation"
    kind = "reasoning"
    answer_format = "the letters' numbers in alphabetical order, parted by commas"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        hidden = rng.sample(range(1, level.highest + 1), level.letters)
        relations = _relations(sorted(hidden), hidden, rng)
        return Puzzle(
            question=_question(hidden, relations),
            answer=hidden,
            metadata={
                "values": sorted(hidden),
                "different": True,
                "relations": [dataclasses.asdict(known) for known in relations],
            },
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        asked = json.loads(example.metadata)
        given = answers.integers(answer_text)
        if given is None:
            return wrong_verdict(f"{answers.format_answer(answer_text)} is not a list of integers")
        if len(given) != len(asked["values"]):
            return wrong_verdict(f"{len(given)} numbers instead of {len(asked['values'])}")
        if not set(given) <= set(asked["values"]):
            return wrong_verdict("a number that no letter may stand for")
        if asked["different"] and len(set(given)) != len(given):
            return wrong_verdict("two letters stand for the same number")
        for known in (Relation(**fields) for fields in asked["relations"]):
            if not known.holds(given[known.x], given[known.y]):
                return wrong_verdict(f"{known.shown()} does not hold")
        return right_verdict("every relation holds")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        listed = re.search(r"representing one of the numbers ([\d, ]+)\.", question)
        lines = re.findall(r"^\d+\. (.+)$", question, re.MULTILINE)
        relations = [_read_relation(line.strip()) for line in lines]
        known = [dataclasses.asdict(relation) for relation in relations if relation is not None]
        if listed is None or not lines or len(known) != len(lines):
            raise self.malformed(number, "the relations cannot be read from the question")
        values = [int(value) for value in listed[1].split(",")]
        if max(max(relation["x"], relation["y"]) for relation in known) >= len(values):
            raise self.malformed(number, "a relation of a letter that has no number")
        stored = solution.get("solution") if isinstance(solution, dict) else solution
        if not isinstance(stored, list):
            raise self.malformed(number, "no list of numbers in the solution")
        # The released text does not state that letters have distinct numbers.
        metadata = {"values": values, "different": False, "relations": known}
        return self.item(number, question, metadata, str(stored))


def _read_relation(line: str) -> Relation | None:
    """Parse a relation of the released questions: `A - C = -44`, `I = 3.0D`, `C > H`."""
    letter = string.ascii_uppercase.index
    if linear := re.fullmatch(r"([A-Z]) ([+-]) ([A-Z]) = (-?\d+(?:\.\d+)?)", line):
        x, kind, y, value = linear.groups()
        return Relation(x=letter(x), kind=kind, y=letter(y), number=value)
    if multiple := re.fullmatch(r"([A-Z]) = (-?\d+(?:\.\d+)?) ?\*? ?([A-Z])", line):
        x, value, y = multiple.groups()
        return Relation(x=letter(x), kind="*", y=letter(y), number=value)
    if compared := re.fullmatch(r"([A-Z]) > ([A-Z])", line):
        return Relation(x=letter(compared[1]), kind=">", y=letter(compared[2]))
    return None
