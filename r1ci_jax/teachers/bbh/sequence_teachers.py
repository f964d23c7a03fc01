"""Teachers of dyck_languages and word_sorting."""

import dataclasses
import random
from typing import Any, Final, override

from r1ci_jax.teachers.bbh import sequence_scripts as scripts
from r1ci_jax.teachers.bbh.bbh_phrases import fold, match, read_body
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import PatternTeacher, list_literal, text_literal

_PARTNER: Final = {"(": ")", "[": "]", "{": "}", "<": ">"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brackets:
    """The brackets that are given."""

    given: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """The words to sort, in the order of the question."""

    words: tuple[str, ...]


def open_brackets(given: tuple[str, ...]) -> list[str]:
    """Return the brackets that are still open, in order."""
    stack: list[str] = []
    for bracket in given:
        if bracket in _PARTNER:
            stack.append(bracket)
        elif stack:
            stack.pop()
    return stack


class DyckLanguages(PatternTeacher[Brackets]):
    """Closes the brackets that are still open."""

    task = "bbh_dyck_languages"
    forms = tuple(scripts.DYCK)
    names = scripts.NAMES
    patterns = scripts.DYCK
    checking = (scripts.DYCK_CHECK_WORDS, scripts.DYCK_CHECK)
    exploring = (scripts.DYCK_DEPTH_WORDS, scripts.DYCK_DEPTH)
    slip = (scripts.DYCK_SLIP_WORDS, scripts.DYCK_SLIP)

    @override
    def parse(self, question: str) -> Brackets:
        found = match(
            r"Complete the rest of the sequence, making sure that the parentheses are closed "
            r"properly\. Input: ([\[\](){}<> ]+)",
            read_body(question),
        )
        return Brackets(given=tuple(found[1].split()))

    @override
    def values(self, data: Brackets, rng: random.Random) -> dict[str, object]:
        given = text_literal(fold(" ".join(data.given), after=" "))
        return {"given": given, "count": len(data.given)}

    @override
    def answer_values(self, data: Brackets, answer: str) -> dict[str, object]:
        return {"answer": answer}

    @override
    def first_attempt(self, data: Brackets, rng: random.Random) -> Step | None:
        still = open_brackets(data.given)
        if still == still[::-1]:
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Brackets, rng: random.Random) -> tuple[str, str] | None:
        if len(data.given) > 24:
            return None
        stack: list[str] = []
        lines = []
        for bracket in data.given:
            if bracket in _PARTNER:
                stack.append(bracket)
                lines.append(f"{bracket} opens; open: {' '.join(stack)}")
            else:
                stack.pop()
                lines.append(f"{bracket} closes; open: {' '.join(stack) or 'none'}")
        answer = " ".join(_PARTNER[bracket] for bracket in reversed(stack))
        opening = rng.choice(
            (
                "I follow the brackets from left to right and keep those that are still open.",
                "Reading left to right, with the list of open brackets after each one:",
            )
        )
        closing = (
            f"Open at the end: {' '.join(stack)}. They are closed from the last one to the first."
        )
        return "\n".join([opening, *lines, closing]), answer

    @override
    def wrong_answer(self, data: Brackets, answer: str, rng: random.Random) -> str:
        reversed_order = answer.split()[::-1]
        if reversed_order != answer.split():
            return " ".join(reversed_order)
        return f"{answer} {answer.split()[0]}"


class WordSorting(PatternTeacher[Words]):
    """Sorts words alphabetically."""

    task = "bbh_word_sorting"
    forms = tuple(scripts.SORTING)
    names = scripts.NAMES
    patterns = scripts.SORTING
    checking = (scripts.SORT_CHECK_WORDS, scripts.SORT_CHECK)
    exploring = (scripts.SORT_GROUPS_WORDS, scripts.SORT_GROUPS)
    slip = (scripts.SORT_SLIP_WORDS, scripts.SORT_SLIP)

    @override
    def parse(self, question: str) -> Words:
        found = match(r"Sort the following words alphabetically: List: (.+)", read_body(question))
        return Words(words=tuple(found[1].split()))

    @override
    def values(self, data: Words, rng: random.Random) -> dict[str, object]:
        given = data.words
        return {
            "given": list_literal(given),
            "count": len(given),
            "first": given[0],
            "last": given[-1],
        }

    @override
    def answer_values(self, data: Words, answer: str) -> dict[str, object]:
        return {"answer": list_literal(answer.split())}

    @override
    def first_attempt(self, data: Words, rng: random.Random) -> Step | None:
        if sorted(data.words, key=lambda word: word[0]) == sorted(data.words):
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Words, rng: random.Random) -> tuple[str, str] | None:
        if len(data.words) > 10:
            return None
        groups: dict[str, list[str]] = {}
        for word in data.words:
            groups.setdefault(word[0], []).append(word)
        lines = []
        for letter in sorted(groups):
            here = sorted(groups[letter])
            if len(here) == 1:
                lines.append(f"{letter}: {here[0]}")
            else:
                lines.append(f"{letter}: {', '.join(groups[letter])}; in order {', '.join(here)}")
        opening = rng.choice(
            (
                f"I group the {len(data.words)} words by their first letter and order each group "
                "by the later letters.",
                f"First letters decide most of the {len(data.words)} words; where they agree, the "
                "next letter does.",
            )
        )
        if len(groups) == len(data.words):
            opening = f"The {len(data.words)} words begin with different letters, which decide."
        return "\n".join([opening, *lines]), " ".join(sorted(data.words))

    @override
    def wrong_answer(self, data: Words, answer: str, rng: random.Random) -> str | None:
        words = answer.split()
        places = [n for n in range(len(words) - 1) if words[n] != words[n + 1]]
        if not places:
            return None
        n = rng.choice(places)
        words[n], words[n + 1] = words[n + 1], words[n]
        return " ".join(words)


TEACHERS: tuple[Teacher[Any], ...] = (DyckLanguages(), WordSorting())
