"""The teacher of logical_deduction_seven_objects: the order that clues determine."""

import dataclasses
import itertools
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body, read_options
from r1ci_jax.teachers.bbh.logic import deduction_scripts as scripts
from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    PatternTeacher,
    count_noun,
    join_words,
    list_literal,
    quote,
    wrap_items,
)

_ORDINALS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6}
# Of each scene: the word of the last place, the place counted from the low end and from the high.
_ENDS: Final = {
    "left": ("leftmost", "rightmost", "from the left", "from the right"),
    "golf": ("finished first", "finished last", "", "-to-last"),
    "age": ("newest", "oldest", "-newest", "-oldest"),
    "price": ("cheapest", "most expensive", "-cheapest", "-most expensive"),
}
_DIRECTIONS: Final = {
    "left": "from left to right",
    "golf": "from first to last",
    "age": "from newest to oldest",
    "price": "from cheapest to most expensive",
}
_BEFORE: Final = ("to the left of", "finished above", "newer than", "less expensive than")
_AFTER: Final = ("to the right of", "finished below", "older than", "more expensive than")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clues:
    """The objects, which come before which, and which have a known place (from 1)."""

    scene: str
    items: tuple[str, ...]
    before: tuple[tuple[str, str], ...]
    fixed: dict[str, int]
    place: int
    """The place that is asked about."""
    place_text: str
    options: dict[str, str]

    @property
    def direction(self) -> str:
        """How the places are counted."""
        return _DIRECTIONS[self.scene]

    def orders(self) -> list[tuple[str, ...]]:
        """Return all orders that fit the clues."""
        return [
            order
            for order in itertools.permutations(self.items)
            if all(order.index(a) < order.index(b) for a, b in self.before)
            and all(order[k - 1] == item for item, k in self.fixed.items())
        ]


def _scene(text: str) -> str:
    for scene, word in (("golf", "golfers"), ("age", "vehicles"), ("price", "fruits")):
        if word in text:
            return scene
    return "left"


def _place(text: str, scene: str, size: int) -> int:
    """Return the place that `the third from the right` and its like name."""
    low, high, from_low, from_high = _ENDS[scene]
    ordinal = re.search(r"\b(second|third|fourth|fifth|sixth)\b", text)
    if ordinal is None:
        if text.endswith(low):
            return 1
        if text.endswith(high):
            return size
        raise UnreadableQuestionError(f"no place in {text!r}")
    number = _ORDINALS[ordinal[1]]
    if text.endswith(from_high):
        return size + 1 - number
    if text.endswith(from_low):
        return number
    raise UnreadableQuestionError(f"no place in {text!r}")


def _find_items(text: str, items: tuple[str, ...]) -> list[str]:
    pattern = "|".join(re.escape(item) for item in sorted(items, key=len, reverse=True))
    return re.findall(rf"\b(?:{pattern})\b", text)


def _conditions(data: Clues, table: str) -> list[str]:
    """Write the clues as comparisons of the places in a dictionary."""
    lines = [f"{table}[{quote(a)}] == {k}" for a, k in data.fixed.items()]
    return lines + [f"{table}[{quote(a)}] < {table}[{quote(b)}]" for a, b in data.before]


class LogicalDeduction(PatternTeacher[Clues]):
    """Finds the order of seven objects."""

    task = "bbh_logical_deduction_seven_objects"
    forms = tuple(scripts.FORMS)
    names = scripts.NAMES
    patterns = scripts.FORMS
    checking = (scripts.CHECK_WORDS, scripts.CHECK)
    exploring = (scripts.COUNT_WORDS, scripts.COUNT)
    slip = (scripts.SLIP_WORDS, scripts.SLIP)

    @override
    def parse(self, question: str) -> Clues:
        found = match(
            r"The following paragraphs .+ within each paragraph\. (.+?): (.+?)\. (.+)",
            read_body(question),
        )
        scene = _scene(found[1])
        items = tuple(
            re.sub(r"^(?:and )?(?:an? |the )?", "", item) for item in found[2].split(", ")
        )
        before: list[tuple[str, str]] = []
        fixed: dict[str, int] = {}
        for sentence in re.findall(r"[^.]+", found[3]):
            named = _find_items(sentence, items)
            if len(named) == 2 and any(phrase in sentence for phrase in _BEFORE):
                before.append((named[0], named[1]))
            elif len(named) == 2 and any(phrase in sentence for phrase in _AFTER):
                before.append((named[1], named[0]))
            elif len(named) == 1:
                fixed[named[0]] = _place(sentence.strip(), scene, len(items))
            elif sentence.strip():
                raise UnreadableQuestionError(f"an unknown clue: {sentence!r}")
        options = read_options(question)
        held = {letter: _find_items(text, items)[0] for letter, text in options.items()}
        text = options["A"]
        return Clues(
            scene=scene,
            items=items,
            before=tuple(before),
            fixed=fixed,
            place=_place(text, scene, len(items)),
            place_text=re.sub(r"^.*?\b(is|are|finished) (?:the )?", "", text),
            options=held,
        )

    @override
    def values(self, data: Clues, rng: random.Random) -> dict[str, object]:
        table = rng.choice(("place", "rank", "pos"))
        conditions = _conditions(data, table)
        rng.shuffle(conditions)
        return {
            "items": list_literal(data.items),
            "before": wrap_items([f"({quote(a)}, {quote(b)})" for a, b in data.before], "[", "]"),
            "fixed": wrap_items([f"{quote(a)}: {k}" for a, k in data.fixed.items()], "{", "}"),
            "place": data.place,
            "index": data.place - 1,
            "size": len(data.items),
            "direction": data.direction,
            "place_text": data.place_text,
            "orderings": count_noun(len(data.before), "comparison"),
            "placings": count_noun(len(data.fixed), "stated place"),
            "table": table,
            "conditions": "\n        and ".join(conditions),
            "clues": "\n".join(f"    lambda {table}: {line}," for line in conditions),
        }

    @override
    def answer(self, data: Clues, printed: str) -> str:
        item = printed.strip()
        letters = [letter for letter, held in data.options.items() if held == item]
        return f"({letters[0]})" if letters else item

    @override
    def answer_values(self, data: Clues, answer: str) -> dict[str, object]:
        item = data.options.get(answer.strip("()"), answer)
        return {"claimed": quote(item), "answer": item}

    @override
    def in_words(self, data: Clues, rng: random.Random) -> tuple[str, str] | None:
        """Place the objects one by one, where each step leaves a single possibility."""
        size = len(data.items)
        free = {item: set(range(1, size + 1)) for item in data.items}
        for item, k in data.fixed.items():
            free[item] = {k}
        lines = [f"{item}: place {k}, as stated." for item, k in data.fixed.items()]
        placed = dict(data.fixed)
        while len(placed) < size:
            _narrow(free, data.before)
            taken = set(placed.values())
            still = [k for k in range(1, size + 1) if k not in taken]
            found = _next_placed(free, placed, data.before)
            if found is None:
                return None
            item, certain = found
            if certain:
                lines.append(f"{item}: {_reason(item, data.before, still, min(free[item]))}.")
            else:
                lines.append(f"{item}: place {min(free[item])}, where nothing else can stand.")
            placed[item] = min(free[item])
        order = sorted(data.items, key=lambda item: min(free[item]))
        opening = rng.choice(
            (
                f"I number the places 1 to {size} {data.direction} and fill them one by one.",
                f"Places 1 to {size}, {data.direction}; each clue shrinks what is possible.",
            )
        )
        last = (
            f"{data.direction.capitalize()}: {', '.join(order)}. The question is about place "
            f"{data.place}: {order[data.place - 1]}."
        )
        return "\n".join([opening, *lines, last]), self.answer(data, order[data.place - 1])

    @override
    def wrong_answer(self, data: Clues, answer: str, rng: random.Random) -> str:
        letters = [f"({letter})" for letter in data.options if letter != answer.strip("()")]
        return rng.choice(letters)


def _narrow(free: dict[str, set[int]], before: tuple[tuple[str, str], ...]) -> None:
    """Remove the places that a clue or another object's certain place excludes."""
    changed = True
    while changed:
        sizes = [len(places) for places in free.values()]
        for a, b in before:
            free[a] = {k for k in free[a] if k < max(free[b])}
            free[b] = {k for k in free[b] if k > min(free[a])}
        for item, places in free.items():
            if len(places) == 1:
                for other in free:
                    if other != item:
                        free[other] -= places
        changed = sizes != [len(places) for places in free.values()]


def _reason(item: str, before: tuple[tuple[str, str], ...], still: list[int], k: int) -> str:
    """Say why an object stands in place k, of the places that are still open."""
    if len(still) == 1:
        return f"place {k}, the last that is open"
    earlier = [a for a, b in before if b == item]
    later = [b for a, b in before if a == item]
    sides = [
        f"{word} {join_words(others)}"
        for word, others in (("after", earlier), ("before", later))
        if others
    ]
    if not sides:
        return f"place {k}, which the clues on the others leave"
    places = join_words(still)
    return f"it comes {' and '.join(sides)}; of the open places {places} only {k} leaves room"


def _next_placed(
    free: dict[str, set[int]], placed: dict[str, int], before: tuple[tuple[str, str], ...]
) -> tuple[str, bool] | None:
    """Choose the next object to place; False if it is only what alone can stand in its place."""
    compared = {item for pair in before for item in pair}
    done = [item for item in free if item not in placed and len(free[item]) == 1]
    if done:
        return max(done, key=lambda item: item in compared), True
    found = _only_candidate(free, set(placed))
    if found is None:
        return None
    item, k = found
    free[item] = {k}
    return item, False


def _only_candidate(free: dict[str, set[int]], placed: set[str]) -> tuple[str, int] | None:
    """Return an object that alone can stand in a place."""
    for k in range(1, len(free) + 1):
        able = [item for item, places in free.items() if k in places]
        if len(able) == 1 and able[0] not in placed:
            return able[0], k
    return None


TEACHERS: tuple[Teacher[Any], ...] = (LogicalDeduction(),)
