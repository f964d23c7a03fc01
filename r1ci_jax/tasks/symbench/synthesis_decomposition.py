"""Exchange goods by methods used in turn, once per round, until none can be used."""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Amounts = dict[str, int]
"""The amount of each good."""
Method = tuple[Amounts, Amounts]
"""The goods that are paid and the goods that are received."""

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""No known defects."""

_LEVELS: Final = {
    1: ("ABX", 2, 3, 9, 3),
    2: ("ABCX", 3, 4, 12, 5),
    3: ("ABCXY", 3, 5, 16, 8),
    4: ("ABCXY", 4, 8, 24, 14),
    5: ("ABCDXY", 5, 12, 36, 24),
}
"""Goods, methods, least and largest stock of a crop, least number of uses."""
_MOST_USES: Final = 120
_RELEASED_GOODS: Final = "ABCXY"
_ENDLESS: Final = 10_000

_SIDES = re.compile(r"Method \d+: (.+?) can be exchanged for (.+?)(?:, and|\.|$)", re.MULTILINE)
_UNITS = re.compile(r"(\d+) units? of (?:crop|product) ([A-Z])")
_HELD = re.compile(r"^Initially there are (.+)$", re.MULTILINE)
_ASKED = re.compile(r"(?:remaining|obtained)_([A-Z])")

_QUESTION: Final = """\
A farmer grows the crops {crops} and trades them at a market{products}. The market offers these \
exchanges:
{methods}

The farmer goes through the list from exchange 1 to exchange {last}, again and again. When the \
turn of an exchange comes, it is made exactly once if everything to be paid is there, and left out \
if not; then it is the next one's turn. The farmer goes home after a whole pass through the list \
in which no exchange could be made. What is received can be used to pay from the next turn on.

At the start there are {held}{nothing}.

How many units of each are there at the end? Answer with a list of {count} whole numbers in the \
order [{order}]. For example, [{example}] would mean {meaning}."""


def trade(start: Amounts, methods: list[Method]) -> tuple[Amounts, list[int]]:
    """Return the goods at the end, and the number of uses of each method.

    Raises:
        ValueError: The exchange does not end.
    """
    held, uses = dict(start), [0] * len(methods)
    idle = turn = 0
    while idle < len(methods):
        paid, received = methods[turn]
        idle += 1
        if all(held.get(good, 0) >= units for good, units in paid.items()):
            for good, units in paid.items():
                held[good] -= units
            for good, units in received.items():
                held[good] = held.get(good, 0) + units
            uses[turn] += 1
            idle = 0
            if sum(uses) > _ENDLESS:
                raise ValueError("the exchanges never end")
        turn = (turn + 1) % len(methods)
    return held, uses


def _methods(rng: random.Random, goods: str, count: int) -> list[Method]:
    """Choose distinct methods. Each pays the first of its goods in order, so trading ends."""
    methods: list[Method] = []
    while len(methods) < count:
        touched = sorted(rng.sample(range(len(goods)), 3 if rng.random() < 0.7 else 2))
        target = touched.pop(-1 if rng.random() < 0.8 else 1)
        paid = {goods[index]: rng.randint(1, 3) for index in touched}
        received = {goods[target]: rng.randint(1, min(3, sum(paid.values())))}
        if all(set(paid) != set(other) or received != gain for other, gain in methods):
            methods.append((paid, received))
    return methods


def _worth_asking(goods: str, methods: list[Method], uses: list[int]) -> bool:
    """Check that all goods and methods matter; otherwise the question is smaller than it looks."""
    touched = {good for sides in methods for side in sides for good in side}
    return touched == set(goods) and uses.count(0) <= len(uses) // 3


def _format_amounts(amounts: Amounts) -> str:
    return " + ".join(f"{units} {good}" for good, units in amounts.items())


def _question(goods: str, start: Amounts, methods: list[Method]) -> str:
    products = [good for good in goods if good not in start]
    lines = [
        f"{number}. pay {_format_amounts(paid)}, receive {_format_amounts(received)}"
        for number, (paid, received) in enumerate(methods, 1)
    ]
    example = [(2 * place + 1) % 4 if place else 0 for place in range(len(goods))]
    meaning = [f"{units} of {good}" for units, good in zip(example, goods, strict=True)]
    return _QUESTION.format(
        crops=_join(list(start)),
        products=f", where they also get {_join(products)}",
        methods="\n".join(lines),
        last=len(methods),
        held=_join([f"{units} units of {good}" for good, units in start.items()]),
        nothing=f", and nothing of {_join(products, 'or')}",
        count=len(goods),
        order=", ".join(goods),
        example=", ".join(map(str, example)),
        meaning=_join(meaning),
    )


def _join(parts: list[str], word: str = "and") -> str:
    return f" {word} ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


class SynthesisDecomposition(symbench_task.SymbenchTask):
    """Exchange goods by methods used in turn."""

    name = "synthesis_decomposition"
    kind = "execution"
    answer_format = "a list of whole numbers, one for each good"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        goods, count, low, high, least = _LEVELS[difficulty]
        while True:
            methods = _methods(rng, goods, count)
            start = {good: rng.randint(low, high) for good in goods if good < "X"}
            end, uses = trade(start, methods)
            if _worth_asking(goods, methods, uses) and least <= sum(uses) <= _MOST_USES:
                break
        return Puzzle(
            question=_question(goods, start, methods),
            answer=[end.get(good, 0) for good in goods],
            metadata={"goods": goods, "start": start, "methods": methods},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        end, _ = trade(metadata["start"], metadata["methods"])
        expected = [end.get(good, 0) for good in metadata["goods"]]
        return answers.score_integers(expected, answer_text, "what is there at the end")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        methods = [(_amounts(left), _amounts(right)) for left, right in _SIDES.findall(question)]
        start = _amounts(" ".join(_HELD.findall(question)))
        goods = "".join(dict.fromkeys(_ASKED.findall(question)))
        gold = symbench_task.read_field(symbench_task.read_field(solution), "answer")
        if not methods or not start or not goods or not isinstance(gold, list):
            raise self.malformed(number, "methods, crops or answer are missing")
        try:
            trade(start, methods)
            # The answer lists five goods, even if the question uses fewer.
            kept = [gold[_RELEASED_GOODS.index(good)] for good in goods]
        except (ValueError, IndexError) as error:
            raise self.malformed(number, str(error)) from None
        metadata = {"goods": goods, "start": start, "methods": methods}
        return self.item(number, question, metadata, f"[{', '.join(map(str, kept))}]")


def _amounts(text: str) -> Amounts:
    return {good: int(units) for units, good in _UNITS.findall(text)}
