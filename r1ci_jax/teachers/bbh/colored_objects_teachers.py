"""The teacher of reasoning_about_colored_objects."""

import dataclasses
import random
import re
from collections.abc import Callable
from typing import Any, Final, override

from r1ci_jax.teachers.bbh import colored_objects_scripts as scripts
from r1ci_jax.teachers.bbh.bbh_phrases import (
    NUMBER_WORDS,
    fold,
    match,
    read_body,
    read_number,
    read_options,
)
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    Pattern,
    PatternTeacher,
    list_literal,
    quote,
    text_literal,
    wrap_items,
)

_SCENE: Final = r"On the \w+, (?:there is|there are|I see|you see) (?:[^:,.]*: )?(.+?)\. (.+)"
_THINGS: Final = "(?:things|items|objects)"
_THING: Final = "(?:thing|item|object)"
_QUESTIONS: Final[dict[str, str]] = {
    "is": r"Is the (?P<thing>.+) (?P<asked>\w+)\?",
    "what": r"What color is the (?P<thing>.+)\?",
    "end": rf"What is the color of the (?P<side>left|right)-most {_THING}\?",
    "next": rf"What is the color of the {_THING} directly to the (?P<side>left|right) of the "
    r"(?P<reference>.+)\?",
    "furthest": rf"What is the color of the {_THING} furthest from the (?P<reference>.+)\?",
    "side": rf"How many non-(?P<asked>\w+) {_THINGS} do you see to the (?P<side>left|right) of the "
    r"(?P<reference>.+)\?",
    "neither": rf"How many {_THINGS} are neither (?P<asked>\w+) nor (?P<asked_too>\w+)\?",
    "remove color": rf"If I remove all the (?P<asked>\w+) {_THINGS} from the \w+, how many "
    r"(?P<things>.+) remain on it\?",
    "remove thing": rf"If I remove all the (?P<things>.+) from the \w+, how many (?P<asked>\w+) "
    rf"{_THINGS} remain on it\?",
}
_COUNTED: Final = frozenset(("neither", "remove thing", "remove color"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """The things that are seen, and the question about them."""

    text: str
    entries: tuple[tuple[int, str, str], ...]
    """Of every entry: how many, the color, the name in the singular."""
    kind: str
    parts: dict[str, str]
    options: dict[str, str]

    @property
    def row(self) -> list[tuple[str, str]]:
        """Colors and names from left to right."""
        return [(color, name) for _, color, name in self.entries]

    @property
    def place(self) -> int:
        """The place, from 0, of the thing that the question starts from."""
        reference = self.parts["reference"]
        color = _color(reference)
        wanted, column = (color, 0) if color else (reference, 1)
        return next(k for k, thing in enumerate(self.row) if thing[column] == wanted)

    @property
    def part(self) -> list[tuple[str, str]]:
        """What stands on the side of that thing that the question asks about."""
        left = self.parts["side"] == "left"
        return self.row[: self.place] if left else self.row[self.place + 1 :]

    @property
    def kept(self) -> list[tuple[int, str, str]]:
        """The entries that are counted."""
        parts = self.parts
        thing = _singular(parts.get("things", ""))
        keep: dict[str, Callable[[str, str], bool]] = {
            "neither": lambda c, _: c not in (parts["asked"], parts.get("asked_too")),
            "remove color": lambda c, name: c != parts["asked"] and name == thing,
            "remove thing": lambda c, name: c == parts["asked"] and name != thing,
        }
        return [entry for entry in self.entries if keep[self.kind](entry[1], entry[2])]


def _singular(name: str) -> str:
    if " of " in name:
        return re.sub(r"^(\w+?)s of ", r"\1 of ", name)
    return re.sub(r"leashes$", "leash", name).removesuffix("s")


class ColoredObjects(PatternTeacher[Scene]):
    """Answers nine kinds of questions about colored things."""

    task = "bbh_reasoning_about_colored_objects"
    forms = tuple(scripts.DATA)
    names = scripts.NAMES

    @override
    def parse(self, question: str) -> Scene:
        found = match(_SCENE, read_body(question))
        entries = []
        for entry in re.split(r", and |, | and ", found[1]):
            number, color, name = match(r"(\w+) (\w+) (.+)", entry).groups()
            count = read_number(number)
            entries.append((count, color, name if count == 1 else _singular(name)))
        for kind, pattern in _QUESTIONS.items():
            if (asked := re.fullmatch(pattern, found[2])) is not None:
                return Scene(
                    text=found[1],
                    entries=tuple(entries),
                    kind=kind,
                    parts=asked.groupdict(),
                    options=read_options(question),
                )
        raise UnreadableQuestionError(f"another kind of question: {found[2]!r}")

    @override
    def values(self, data: Scene, rng: random.Random) -> dict[str, object]:
        parts = dict(data.parts)
        if "things" in parts:
            parts["thing"] = _singular(parts["things"])
        side = parts.get("side", "left")
        if data.kind in _COUNTED:
            rows = [f"({n}, {quote(c)}, {quote(name)})" for n, c, name in data.entries]
        else:
            rows = [f"({quote(c)}, {quote(name)})" for _, c, name in data.entries]
        values: dict[str, object] = {
            "pairs": wrap_items(rows, "[", "]"),
            "colors": list_literal([color for _, color, _ in data.entries]),
            "all_names": list_literal([name for _, _, name in data.entries]),
            "counts": str([n for n, _, _ in data.entries]),
            "text": text_literal(fold(data.text, after=", ")),
            "size": len(data.entries),
            "end": "first" if side == "left" else "last",
            "end_index": 0 if side == "left" else -1,
            "further": "before it" if side == "left" else "after it",
        }
        return values | parts

    @override
    def pattern_of(self, data: Scene, form: str) -> Pattern:
        words, by_form = scripts.SCRIPTS[data.kind]
        header = scripts.DATA[form]
        counted = data.kind in _COUNTED
        by_color = _color(data.parts.get("reference", "")) is not None
        if form == "lists" and counted:
            header = "counts = $counts\n" + header
        if form == "lists" and (data.kind in ("end", "neither") or by_color):
            header = header.replace("names = $all_names\n", "")
        if form == "sentence" and not counted:
            header = re.sub(r"numbers = .*\n", "", header)
        return words, header + _place(data, by_form[form]).lstrip("\n")

    @override
    def answer(self, data: Scene, printed: str) -> str:
        text = printed.strip()
        if text.isdigit() and int(text) < len(NUMBER_WORDS):
            return NUMBER_WORDS[int(text)]
        return text

    @override
    def check(self, data: Scene, answer: str, rng: random.Random) -> Step | None:
        if data.kind not in _COUNTED or answer not in NUMBER_WORDS:
            return None
        words, template = scripts.COMPLEMENT
        template = template.replace("$other", scripts.OTHERS[data.kind])
        number = {"answer": NUMBER_WORDS.index(answer)}
        return self._fill(data, (words, template), number, rng)

    @override
    def small_case(self, data: Scene, rng: random.Random) -> Step | None:
        if data.kind in ("is", "what"):
            return None
        first = scripts.TOTALS if data.kind in _COUNTED else scripts.LISTING
        return self._fill(data, first, {}, rng)

    @override
    def first_attempt(self, data: Scene, rng: random.Random) -> Step | None:
        slip = _slip(data)
        if slip is None or slip == self.in_words(data, rng)[1]:
            return None
        words, template = scripts.SLIPS["counted" if data.kind in _COUNTED else data.kind]
        template = template.replace("$other", scripts.OTHERS.get(data.kind, ""))
        return self._fill(data, (words, _place(data, template)), {}, rng)

    @override
    def in_words(self, data: Scene, rng: random.Random) -> tuple[str, str]:
        if data.kind in _COUNTED:
            return self._count_in_words(data, rng)
        row = data.row
        listed = ", ".join(f"{k} {color} {name}" for k, (color, name) in enumerate(row, 1))
        opening = rng.choice(("From left to right:", "The things in their order:")) + f" {listed}."
        parts = data.parts
        if data.kind in ("is", "what"):
            color = next((c for c, name in row if name == parts["thing"]), "")
            told = f"The {parts['thing']} is {color}."
            if data.kind == "what":
                return told, color
            if color == parts["asked"]:
                return f"{told} That is the color in question.", "yes"
            return f"{told} It is not {parts['asked']}.", "no"
        if data.kind == "end":
            color = row[0 if parts["side"] == "left" else -1][0]
            return f"{opening} The {parts['side']}-most is {color}.", color
        place = data.place
        left = parts.get("side") == "left"
        opening += f" The {parts['reference']} is number {place + 1}."
        if data.kind == "next":
            color, name = row[place - 1 if left else place + 1]
            return f"{opening} Directly to the {parts['side']} is the {color} {name}.", color
        if data.kind == "furthest":
            k = max(range(len(row)), key=lambda k: abs(k - place))
            distance = abs(k - place)
            return f"{opening} Number {k + 1} is {distance} away, more than any other.", row[k][0]
        kept = [f"{c} {name}" for c, name in data.part if c != parts["asked"]]
        told = f"To its {parts['side']} and not {parts['asked']}: {', '.join(kept) or 'nothing'}."
        return f"{opening} {told} That makes {len(kept)}.", NUMBER_WORDS[len(kept)]

    def _count_in_words(self, data: Scene, rng: random.Random) -> tuple[str, str]:
        kept = data.kept
        total = sum(n for n, _, _ in kept)
        listed = ", ".join(f"{c} {name} {n}" for n, c, name in kept) or "none"
        opening = rng.choice(
            ("These entries count, with their numbers:", "What is asked for, entry by entry:")
        )
        sums = " + ".join(str(n) for n, _, _ in kept)
        added = f"{sums} = {total}." if len(kept) > 1 else f"That makes {total}."
        return f"{opening} {listed}. {added}", NUMBER_WORDS[total]

    @override
    def wrong_answer(self, data: Scene, answer: str, rng: random.Random) -> str | None:
        if answer in ("yes", "no"):
            return "no" if answer == "yes" else "yes"
        if answer in NUMBER_WORDS:
            others = [word for word in data.options.values() if word in NUMBER_WORDS]
            place = others.index(answer) if answer in others else 0
            return others[place + 1] if place + 1 < len(others) else others[place - 1]
        colors = [color for _, color, _ in data.entries]
        return next((color for color in colors if color != answer), None)


def _place(data: Scene, template: str) -> str:
    """Fill in how the script finds the thing that the question starts from."""
    reference = data.parts.get("reference", "")
    color = _color(reference)
    is_reference = f'$color == "{color}"' if color else f'$name == "{reference}"'
    index = f'colors.index("{color}")' if color else f'names.index("{reference}")'
    left = data.parts.get("side") == "left"
    return (
        template.replace("$is_reference", is_reference)
        .replace("$index_reference", index)
        .replace("$step", "- 1" if left else "+ 1")
        .replace("$slice", ":$place" if left else "$place + 1 :")
    )


def _slip(data: Scene) -> str | None:
    """Return what the first attempt answers; None where there is none."""
    if data.kind in _COUNTED:
        return NUMBER_WORDS[len(data.kept)]
    match data.kind:
        case "side":
            return NUMBER_WORDS[len(data.part)]
        case "furthest":
            return data.row[-1][0]
        case "next" if data.place + 1 < len(data.row):
            return data.row[data.place + 1][0]
        case _:
            return None


def _color(reference: str) -> str | None:
    """Return the color in `red item`; None where the thing is named."""
    found = re.fullmatch(rf"(\w+) {_THING}", reference)
    return found[1] if found is not None else None


TEACHERS: tuple[Teacher[Any], ...] = (ColoredObjects(),)
