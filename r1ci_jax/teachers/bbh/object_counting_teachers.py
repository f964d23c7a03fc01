"""The teacher of object_counting: how many things of one kind a list has."""

import dataclasses
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import fold, match, read_body, read_number
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    Pattern,
    PatternTeacher,
    join_words,
    quote,
    text_literal,
    wrap_items,
)

_KINDS: Final = {
    "fruit": "apple banana blackberry grape nectarine orange peach plum raspberry strawberry",
    "vegetable": "broccoli cabbage carrot cauliflower celery garlic lettuce onion potato yam",
    "animal": "bear cat chicken cow dog donkey duck fish frog goat mouse pig rabbit snail snake",
    "musical instrument": "accordion clarinet drum flute piano trombone trumpet violin",
    "object": "bed car chair couch fridge lamp microwave oven stove table toaster",
}
_KIND_OF: Final = {item: kind for kind, items in _KINDS.items() for item in items.split()}
_PLURALS: Final = {"mice": "mouse", "potatoes": "potato", "couches": "couch", "peaches": "peach"}

_NAMES: Final = {
    "counts": ("counts", "inventory", "things", "owned"),
    "name": ("name", "item", "thing"),
    "n": ("n", "count", "amount"),
    "wanted": ("wanted", "relevant", "chosen"),
}

_FORMS: Final[dict[str, Pattern]] = {
    "set of names": (
        (
            "I write down the $entries entries with their numbers, pick the $kinds and add up.",
            "Of the $entries entries I select the $kinds and add up how many of each there are.",
        ),
        """
$counts = $table
$wanted = $chosen
print(sum($n for $name, $n in $counts.items() if $name in $wanted))
""",
    ),
    "labels": (
        (
            'Every entry gets its kind; the sum goes over those with the label "$kind".',
            "I label each of the $entries entries with what it is and total the $kinds.",
        ),
        """
$counts = $labeled
total = 0
for $name, $n, kind in $counts:
    if kind == "$kind":
        total += $n
print(total)
""",
    ),
    "read the sentence": (
        (
            "The sentence can be read by a script: each entry is a number word or an article and a "
            "name. Only the $kinds count.",
            "I split the list at its commas, turn the number words into numbers, and keep the "
            "$kinds.",
        ),
        """
import re

text = $text
numbers = {"a": 1, "an": 1, $words}
$wanted = $written
total = 0
for entry in re.split(r",? and |, ", text):
    number, $name = entry.split(" ", 1)
    if $name in $wanted:
        total += numbers[number]
print(total)
""",
    ),
    "totals per kind": (
        (
            "A Counter collects how many things of each kind there are; I need the one for $kinds.",
            "I add up all kinds at once and print the total of the $kinds.",
        ),
        """
from collections import Counter

totals = Counter()
for $name, kind, $n in $by_kind:
    totals[kind] += $n
print(totals["$kind"])
""",
    ),
}

_SUMS: Final[dict[str, Pattern]] = {
    "set of names": (
        (
            "All $entries entries are $kinds, so I add up their numbers; an article counts as 1.",
            "Everything in this list is asked for. I write down how many of each there are.",
        ),
        """
$counts = $table
print(sum($counts.values()))
""",
    ),
    "labels": (
        (
            "I go through the $entries entries, all of them $kinds, and keep a running total.",
            "There are only $kinds in the list, so the total runs over every entry.",
        ),
        """
total = 0
for $name, $n in $pairs:
    total += $n
print(total)
""",
    ),
    "read the sentence": (
        (
            "The sentence can be read by a script: each entry is a number word or an article and a "
            "name. All of the names are $kinds.",
            "I split the list at its commas and turn the first word of each of the $entries "
            "entries into a number.",
        ),
        """
import re

text = $text
numbers = {"a": 1, "an": 1, $words}
total = 0
for entry in re.split(r",? and |, ", text):
    number, $name = entry.split(" ", 1)
    total += numbers[number]
print(total)
""",
    ),
    "totals per kind": (
        (
            "A Counter holds how often each of the $entries names occurs; its total is the number "
            "of $kinds.",
            "Every entry is one of the $kinds: a Counter of the numbers has a total.",
        ),
        """
from collections import Counter

$counts = Counter($table)
print($counts.total())
""",
    ),
}
"""Where all entries are of the kind that is asked for."""

_ONE_BY_ONE_WORDS: Final = (
    "I write out every single one of the $kinds and count them: there must be $answer.",
    "A list with one item for each thing must have the length $answer.",
)
_ONE_BY_ONE: Final = """
$counts = $table
single = []
for $name, $n in $counts.items():
    single += [$name] * $n
print(len(single) == $answer)
"""

_SEVERAL_WORDS: Final = (
    "First which of the $kinds are there more than once.",
    "I print what the list has more than one of.",
)
_SEVERAL: Final = """
for $name, $n in $pairs:
    if $n > 1:
        print($n, $name)
"""

_CHECK_WORDS: Final = (
    "From the other side: everything that is listed, less what is not among the $kinds, must "
    "be $answer.",
    "I count all things and take away the others; $answer must be left.",
)
_CHECK: Final = """
$counts = $table
others = $others
rest = sum($counts.values()) - sum($counts[$name] for $name in others)
print(rest == $answer)
"""

_TABLE_WORDS: Final = (
    "First which entries are $kinds, with their numbers.",
    "I print the $kinds that the list has.",
)
_TABLE: Final = """
for $name, kind, $n in $by_kind:
    if kind == "$kind":
        print($n, $name)
"""

_SLIP_WORDS: Final = (
    "I list the $kinds and count them.",
    "The answer is the number of $kinds in the list.",
)
_SLIP: Final = """
$wanted = $chosen_list
print(len($wanted))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the list."""

    written: str
    name: str
    count: int
    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """What somebody has, and the kind that is asked for."""

    text: str
    entries: tuple[Entry, ...]
    kind: str

    @property
    def wanted(self) -> list[Entry]:
        """The entries of that kind."""
        return [e for e in self.entries if e.kind == self.kind]

    @property
    def uniform(self) -> bool:
        """Whether all entries are of that kind."""
        return len(self.wanted) == len(self.entries)

    @property
    def kinds(self) -> str:
        """The kind in the plural."""
        return self.kind + "s"


def _entry(text: str, kind_asked: str) -> Entry:
    number, _, written = text.partition(" ")
    words = [_singular(word) for word in written.split()]
    item = words[0] if words[-1] == "head" else words[-1]
    kind = _KIND_OF.get(item)
    if kind is None:
        raise UnreadableQuestionError(f"an unknown entry: {text!r}")
    if kind_asked == "object":
        kind = "object"  # Everything is an object.
    return Entry(written=written, name=" ".join(words), count=read_number(number), kind=kind)


def _singular(word: str) -> str:
    if word in _KIND_OF or word in ("of", "head", "stalk"):
        return word
    if word in _PLURALS:
        return _PLURALS[word]
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


class ObjectCounting(PatternTeacher[Inventory]):
    """Adds the numbers of the things of one kind."""

    task = "bbh_object_counting"
    forms = tuple(_FORMS)
    names = _NAMES
    checking = (_CHECK_WORDS, _CHECK)
    exploring = (_TABLE_WORDS, _TABLE)
    slip = (_SLIP_WORDS, _SLIP)

    @override
    def parse(self, question: str) -> Inventory:
        found = match(r"I have (.+)\. How many (.+)s do I have\?", read_body(question))
        listed = re.split(r",? and |, ", found[1])
        entries = tuple(_entry(text, found[2]) for text in listed)
        if found[2] not in _KINDS or not any(e.kind == found[2] for e in entries):
            raise UnreadableQuestionError(f"nothing of the kind {found[2]!r}")
        return Inventory(text=found[1], entries=entries, kind=found[2])

    @override
    def pattern_of(self, data: Inventory, form: str) -> Pattern:
        return (_SUMS if data.uniform else _FORMS)[form]

    @override
    def values(self, data: Inventory, rng: random.Random) -> dict[str, object]:
        entries = data.entries
        wanted = data.wanted
        words = sorted(
            {e.partition(" ")[0] for e in re.split(r",? and |, ", data.text)} - {"a", "an"},
            key=read_number,
        ) or ["two"]
        others = [quote(e.name) for e in entries if e.kind != data.kind]
        return {
            "kind": data.kind,
            "kinds": data.kinds,
            "entries": len(entries),
            "table": wrap_items([f"{quote(e.name)}: {e.count}" for e in entries], "{", "}"),
            "pairs": wrap_items([f"({quote(e.name)}, {e.count})" for e in entries], "[", "]"),
            "chosen": wrap_items([quote(e.name) for e in wanted], "{", "}"),
            "chosen_list": wrap_items([quote(e.name) for e in wanted], "[", "]"),
            "written": wrap_items([quote(e.written) for e in wanted], "{", "}"),
            "others": wrap_items(others, "[", "]"),
            "labeled": wrap_items(
                [f"({quote(e.name)}, {e.count}, {quote(e.kind)})" for e in entries], "[", "]"
            ),
            "by_kind": wrap_items(
                [f"({quote(e.name)}, {quote(e.kind)}, {e.count})" for e in entries], "[", "]"
            ),
            "text": text_literal(fold(data.text, after=", ")),
            "words": ", ".join(f'"{word}": {read_number(word)}' for word in words),
        }

    @override
    def check(self, data: Inventory, answer: str, rng: random.Random) -> Step | None:
        if data.uniform:
            single = (_ONE_BY_ONE_WORDS, _ONE_BY_ONE)
            return self._fill(data, single, self.answer_values(data, answer), rng)
        return super().check(data, answer, rng)

    @override
    def small_case(self, data: Inventory, rng: random.Random) -> Step | None:
        if not data.uniform:
            return super().small_case(data, rng)
        if all(entry.count == 1 for entry in data.entries):
            return None
        return self._fill(data, (_SEVERAL_WORDS, _SEVERAL), {}, rng)

    @override
    def answer_values(self, data: Inventory, answer: str) -> dict[str, object]:
        return {"answer": answer}

    @override
    def first_attempt(self, data: Inventory, rng: random.Random) -> Step | None:
        if all(e.count == 1 for e in data.wanted):
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Inventory, rng: random.Random) -> tuple[str, str]:
        others = [e.name for e in data.entries if e.kind != data.kind]
        total = 0
        steps = []
        for entry in data.wanted:
            total += entry.count
            steps.append(f"{entry.written} {entry.count}, total {total}")
        opening = rng.choice(
            (
                f"I go through the {len(data.entries)} entries and add up the {data.kinds}.",
                f"Only the {data.kinds} count, each with its number.",
            )
        )
        left_out = f" Not {data.kinds}: {join_words(others)}." if others else ""
        return f"{opening}{left_out}\n" + "; ".join(steps) + ".", str(total)

    @override
    def wrong_answer(self, data: Inventory, answer: str, rng: random.Random) -> str:
        guess = str(len(data.wanted))
        return guess if guess != answer else str(int(answer) + 1)


TEACHERS: tuple[Teacher[Any], ...] = (ObjectCounting(),)
