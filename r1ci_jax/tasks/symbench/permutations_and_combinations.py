"""Arrange things in a row so that they obey some rules."""

import dataclasses
import json
import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

_TEXTS: Final = {
    "at": "Jar {} stands in place {}.",
    "not_at": "Jar {} does not stand in place {}.",
    "left": "Jar {} stands somewhere to the left of jar {}.",
    "beside": "Jar {} stands directly beside jar {}, on either side.",
    "apart": "Jar {} does not stand directly beside jar {}.",
}
# A rule about one position excludes little, so many are generated; at most one is `at`.
_WEIGHTS: Final = {"at": 1, "not_at": 6, "left": 4, "beside": 3, "apart": 2}
_RELEASED_TEXTS: Final = {
    r"Book (\w) must be placed in position (\d+)\.": "at",
    r"Book (\w) cannot be placed in position (\d+)\.": "not_at",
    r"Book (\w) must be to the left of book (\w)\.": "left",
    r"Book (\w) must be to the right of book (\w)\.": "right",
    r"Book (\w) must be adjacent to book (\w)\.": "beside",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that the arrangement must obey."""

    kind: str
    """One of at, not_at, left, beside, apart."""
    item: str
    other: str = ""
    """The second item, where the kind has one."""
    place: int = 0
    """The position counted from 1, where the kind has one."""

    def holds(self, row: str) -> bool:
        """Return True if a full arrangement obeys it."""
        here = row.index(self.item) + 1
        if self.kind in ("at", "not_at"):
            return (here == self.place) is (self.kind == "at")
        there = row.index(self.other) + 1
        if self.kind == "left":
            return here < there
        return (abs(here - there) == 1) is (self.kind == "beside")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    items: int
    arrangements: int
    """The largest number of right answers."""


_LEVELS: Final = {
    1: _Level(items=5, arrangements=2),
    2: _Level(items=6, arrangements=3),
    3: _Level(items=7, arrangements=4),
    4: _Level(items=8, arrangements=4),
    5: _Level(items=9, arrangements=4),
}


class _Limits:
    """The rules by item, as sets of items and positions in the bits of integers."""

    def __init__(self, items: str, rules: Iterable[Rule]) -> None:
        bit = {item: 1 << index for index, item in enumerate(items)}
        every = (1 << len(items)) - 1
        self.places = dict.fromkeys(items, every)
        self.earlier = dict.fromkeys(items, 0)
        self.beside = dict.fromkeys(items, 0)
        self.apart = dict.fromkeys(items, 0)
        self.bit = bit
        for rule in rules:
            place = 1 << (rule.place - 1) if rule.place else 0
            match rule.kind:
                case "at":
                    self.places[rule.item] &= place
                case "not_at":
                    self.places[rule.item] &= ~place
                case "left":
                    self.earlier[rule.other] |= bit[rule.item]
                case _:
                    table = self.beside if rule.kind == "beside" else self.apart
                    table[rule.item] |= bit[rule.other]
                    table[rule.other] |= bit[rule.item]


def arrangements(items: str, rules: Iterable[Rule]) -> Iterator[str]:
    """Yield all arrangements that obey the rules, found by filling the row from the left."""
    limits = _Limits(items, rules)

    def extend(row: str, used: int) -> Iterator[str]:
        if len(row) == len(items):
            yield row
            return
        last = limits.bit[row[-1]] if row else 0
        # An unplaced item that must be adjacent to the last item comes now or never.
        due = limits.beside[row[-1]] & ~used if row else 0
        for item in items:
            bit = limits.bit[item]
            if (
                not bit & used
                and not due & ~bit
                and limits.places[item] >> len(row) & 1
                and not limits.earlier[item] & ~used
                and not limits.beside[item] & used & ~last
                and not limits.apart[item] & last
            ):
                yield from extend(row + item, used | bit)

    return extend("", 0)


class PermutationsAndCombinations(symbench_task.SymbenchTask):
    """Put jars in an order that obeys every rule."""

    name = "permutations_and_combinations"
    kind = "planning"
    answer_format = "the letters from left to right, parted by commas"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        items = "ABCDEFGHI"[: level.items]
        hidden = "".join(rng.sample(items, level.items))
        rules = _rules(rng, items, hidden, level.arrangements)
        rng.shuffle(rules)
        return Puzzle(
            question=_question(items, rules),
            answer=",".join(hidden),
            metadata={"items": items, "rules": [dataclasses.asdict(rule) for rule in rules]},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        parts = answers.split_parts(answer_text)
        if parts is None:
            return symbench_task.wrong_verdict("the answer is too long")
        metadata = json.loads(example.metadata)
        found = list(map(answers.strip_quotes, parts))
        if sorted(found) != sorted(metadata["items"]):
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} does not name each item once"
            )
        row = "".join(found)
        for number, rule in enumerate(metadata["rules"], start=1):
            if not Rule(**rule).holds(row):
                return symbench_task.wrong_verdict(f"{row} breaks rule {number}")
        return symbench_task.right_verdict(f"{row} fulfils all {len(metadata['rules'])} rules")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        labelled = re.search(r"books labeled ([A-Z](?:, [A-Z])+)", question)
        listed = re.search(r"constraints are:\s*\n(.+?)\n\s*\nQuestion", question, re.DOTALL)
        gold = symbench_task.read_field(solution, "correct_solution")
        if labelled is None or listed is None or not isinstance(gold, list):
            raise self.malformed(number, "no items, no constraints or no arrangement")
        items = labelled[1].replace(", ", "")
        rules = [_released_rule(line, items) for line in listed[1].strip().splitlines()]
        if None in rules:
            raise self.malformed(number, "a constraint of an unknown kind")
        metadata = {
            "items": items,
            "rules": [dataclasses.asdict(rule) for rule in rules if rule is not None],
        }
        return self.item(number, question, metadata, json.dumps(gold))


def _rules(rng: random.Random, items: str, hidden: str, most: int) -> list[Rule]:
    """Choose rules that hold for the hidden row and few others; each rule is needed for that."""
    rules: list[Rule] = []
    found = _some(items, rules, most + 1)
    while len(found) > most:
        rule = _true_rule(rng, items, hidden)
        fixed = rule.kind == "at" and any(other.kind == "at" for other in rules)
        if not fixed and not all(rule.holds(row) for row in found):
            rules.append(rule)
            found = _some(items, rules, most + 1)
    for rule in rng.sample(rules, len(rules)):
        others = [other for other in rules if other is not rule]
        if len(_some(items, others, most + 1)) <= most:
            rules = others
    return rules


def _some(items: str, rules: list[Rule], count: int) -> list[str]:
    """Return the first arrangements that obey the rules."""
    return list(islice(arrangements(items, rules), count))


def _true_rule(rng: random.Random, items: str, hidden: str) -> Rule:
    """Return some rule that the hidden row obeys."""
    while True:
        kind = rng.choices([*_WEIGHTS], weights=[*_WEIGHTS.values()])[0]
        item, other = rng.sample(items, 2)
        if kind in ("at", "not_at"):
            place = hidden.index(item) + 1 if kind == "at" else rng.randint(1, len(items))
            rule = Rule(kind=kind, item=item, place=place)
        else:
            if kind != "left":  # Both orders have the same meaning.
                item, other = sorted((item, other))
            rule = Rule(kind=kind, item=item, other=other)
        if rule.holds(hidden):
            return rule


def _question(items: str, rules: list[Rule]) -> str:
    count = len(items)
    listed = "\n".join(
        f"{number}. {_TEXTS[rule.kind].format(rule.item, rule.other or rule.place)}"
        for number, rule in enumerate(rules, start=1)
    )
    return (
        f"{count} jars with the labels {', '.join(items)} are to stand in a row on a shelf. The "
        f"places of the row are numbered 1 to {count} from left to right, and each holds one jar. "
        f"These rules must all be kept:\n\n{listed}\n\nFind an order that keeps them. Where "
        "several do, any one of them is right.\n\nAnswer with the labels of all jars in the order "
        "of their places, from left to right, with a comma between labels. A row of only three "
        "jars would be written C,A,B."
    )


def _released_rule(line: str, items: str) -> Rule | None:
    """Parse one numbered constraint of the release."""
    text = re.sub(r"^\d+\.\s*", "", line.strip())
    for pattern, kind in _RELEASED_TEXTS.items():
        found = re.fullmatch(pattern, text)
        if found is None:
            continue
        item, other = found[1], found[2]
        if item not in items or (not other.isdigit() and other not in items):
            return None
        if kind == "right":
            return Rule(kind="left", item=other, other=item)
        if other.isdigit():
            return Rule(kind=kind, item=item, place=int(other))
        return Rule(kind=kind, item=item, other=other)
    return None
