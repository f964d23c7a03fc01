"""Teachers of the three tracking_shuffled_objects tasks: who has what after the swaps."""

import dataclasses
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh import tracking_scripts as scripts
from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body, read_options
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    PatternTeacher,
    dict_literal,
    join_words,
    list_literal,
    quote,
    wrap_items,
)

_HOLDS: Final = re.compile(
    r"([A-Z]\w+) (?:gets|is dancing with|is playing|has(?: a| the)?) (.+?)(?=, (?:and )?[A-Z]\w+ "
    r"(?:gets|is|has) |$)"
)
_SWAP: Final = re.compile(
    r"(?:First|Then|Finally), (\w+) and (\w+) (?:swap|switch|trade) (?:their )?(\w+)\."
)
_ASKED: Final = re.compile(
    r"At the end of the \w+, (\w+) (?:has(?: the)?|is dancing with|is playing)\s*$"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shuffle:
    """Who has what at first, who swaps with whom, and who is asked about."""

    start: dict[str, str]
    swaps: tuple[tuple[str, str], ...]
    subject: str
    options: dict[str, str]
    noun: str
    """What is swapped, as the question calls it: `books`, `positions`."""

    def states(self, swaps: tuple[tuple[str, str], ...] | None = None) -> list[dict[str, str]]:
        """Return who has what before the first swap and after each."""
        states = [dict(self.start)]
        for a, b in self.swaps if swaps is None else swaps:
            now = dict(states[-1])
            now[a], now[b] = now[b], now[a]
            states.append(now)
        return states

    def option(self, held: str) -> str:
        """Return the letter of the option, with brackets."""
        keys = {text.casefold(): letter for letter, text in self.options.items()}
        return f"({keys[held.casefold()]})"


def read_shuffle(question: str) -> Shuffle:
    """Read the start, the swaps and the person that is asked about."""
    body, options = read_body(question), read_options(question)
    found = match(r".+?: (.+?)\.\n(.+)", body)
    swaps = _SWAP.findall(found[2])
    asked = _ASKED.search(body)
    bare = {text.casefold() for text in options.values()}
    start = {}
    for name, held in _HOLDS.findall(found[1]):
        text = re.sub(r"^(?:a|an|the) ", "", held)
        start[name] = held if held.casefold() in bare else text
    if not swaps or asked is None or {held.casefold() for held in start.values()} != bare:
        raise UnreadableQuestionError("the swaps are told in another form")
    canonical = {text.casefold(): text for text in options.values()}
    return Shuffle(
        start={name: canonical[held.casefold()] for name, held in start.items()},
        swaps=tuple((a, b) for a, b, _ in swaps),
        subject=asked[1],
        options=options,
        noun=swaps[0][2],
    )


class Tracking(PatternTeacher[Shuffle]):
    """Follows the swaps."""

    forms = tuple(scripts.FORMS)
    names = scripts.NAMES
    patterns = scripts.FORMS
    checking = (scripts.CHECK_WORDS, scripts.CHECK)
    exploring = (scripts.LOG_WORDS, scripts.LOG)
    slip = (scripts.SLIP_WORDS, scripts.SLIP)

    @override
    def parse(self, question: str) -> Shuffle:
        return read_shuffle(question)

    @override
    def values(self, data: Shuffle, rng: random.Random) -> dict[str, object]:
        pairs = [f"({quote(a)}, {quote(b)})" for a, b in data.swaps]
        return {
            "start": dict_literal(data.start),
            "swaps": wrap_items(pairs, "[", "]"),
            "people": list_literal(list(data.start)),
            "held": list_literal(list(data.start.values())),
            "options": dict_literal({text: letter for letter, text in data.options.items()}),
            "asked": data.subject,
            "count": len(data.swaps),
            "size": len(data.start),
            "noun": data.noun,
        }

    @override
    def answer(self, data: Shuffle, printed: str) -> str:
        return f"({printed.strip()})" if len(printed.strip()) == 1 else printed.strip()

    @override
    def answer_values(self, data: Shuffle, answer: str) -> dict[str, object]:
        held = data.options.get(answer.strip("()"), answer)
        return {"claimed": quote(held), "claim": held, "letter": answer}

    @override
    def first_attempt(self, data: Shuffle, rng: random.Random) -> Step | None:
        if data.states()[-1][data.subject] == self._overwritten(data)[data.subject]:
            return None
        return super().first_attempt(data, rng)

    def _overwritten(self, data: Shuffle) -> dict[str, str]:
        now = dict(data.start)
        for a, b in data.swaps:
            now[a] = now[b]
            now[b] = now[a]
        return now

    @override
    def in_words(self, data: Shuffle, rng: random.Random) -> tuple[str, str]:
        states = data.states()
        lines = []
        for (a, b), now in zip(data.swaps, states[1:], strict=True):
            lines.append(f"{a} and {b} swap. {a}: {now[a]}, {b}: {now[b]}.")
        start = join_words([f"{held} ({name})" for name, held in data.start.items()])
        opening = rng.choice(
            (
                f"At the start: {start}. Only two people change with each of the "
                f"{len(data.swaps)} swaps.",
                f"I start from {start} and write down the two changes of each of the "
                f"{len(data.swaps)} swaps.",
            )
        )
        held = states[-1][data.subject]
        last = f"At the end, {data.subject}: {held}, which is option {data.option(held)}."
        return "\n".join([opening, *lines, last]), data.option(held)

    @override
    def wrong_answer(self, data: Shuffle, answer: str, rng: random.Random) -> str | None:
        guesses = [data.start[data.subject], data.states()[-2][data.subject], *data.start.values()]
        letters = [data.option(held) for held in guesses]
        return next(letter for letter in letters if letter.strip("()") != answer.strip("()"))


class TrackingThree(Tracking):
    """Three people."""

    task = "bbh_tracking_shuffled_objects_three_objects"


class TrackingFive(Tracking):
    """Five people."""

    task = "bbh_tracking_shuffled_objects_five_objects"


class TrackingSeven(Tracking):
    """Seven people."""

    task = "bbh_tracking_shuffled_objects_seven_objects"


TEACHERS: tuple[Teacher[Any], ...] = (TrackingThree(), TrackingFive(), TrackingSeven())
