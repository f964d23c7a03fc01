"""Count a letter in a long made-up word and name its positions."""

import dataclasses
import json
import random
import re
import string
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench.symbench_task import (
    ReleasedItem,
    SymbenchTask,
    read_field,
    right_verdict,
    wrong_verdict,
)

RELEASED_DEFECTS: Final[dict[str, int]] = {}

MAX_ANSWER_CHARS: Final = 4_000
"""Four times the length of two hundred positions in a word of 800 letters."""

_FORM = re.compile(r"Count:\s*([0-9]{1,4})\s*,\s*Positions:\s*\[([0-9,\s]*)\]")
_LISTED = re.compile(r"[0-9]{1,4}(?:\s*,\s*[0-9]{1,4})*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    lengths: tuple[int, int]
    counts: tuple[int, int]


_LEVELS: Final = {
    1: _Level(lengths=(6, 10), counts=(2, 3)),
    2: _Level(lengths=(12, 20), counts=(2, 5)),
    3: _Level(lengths=(25, 40), counts=(3, 7)),
    4: _Level(lengths=(50, 80), counts=(4, 12)),
    5: _Level(lengths=(100, 160), counts=(6, 20)),
}


def positions_of(letter: str, word: str) -> list[int]:
    """Return the positions of the letter, counted from 1."""
    return [place for place, found in enumerate(word, start=1) if found == letter]


def _gold(letter: str, word: str) -> str:
    positions = positions_of(letter, word)
    return f"Count: {len(positions)}, Positions: {positions}"


def _question(letter: str, word: str) -> str:
    return (
        f'How often does the letter "{letter}" occur in the word below, and at which positions?\n\n'
        f"{word}\n\n"
        "Positions are counted from 1, so the first letter of the word is at position 1. Name "
        "every position once; their order does not matter. Answer in exactly this form (here for "
        'the letter "n" in "banana"):\n'
        "Count: 2, Positions: [3, 5]"
    )


def _read(text: str) -> tuple[int, list[int]] | None:
    """Parse the count and the positions, or return None where the text has another form."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    form = _FORM.fullmatch(text.strip())
    if form is None:
        return None
    listed = form[2].strip()
    if listed and _LISTED.fullmatch(listed) is None:
        return None
    # The text is not split and read by int(), which refuses some white space that \s accepts.
    return int(form[1]), [int(place) for place in re.findall(r"[0-9]+", listed)]


class Letters(SymbenchTask):
    """Count a letter and name its positions."""

    name = "letters"
    kind = "execution"
    answer_format = "`Count: n, Positions: [p1, p2, ...]`, positions from 1, in any order"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        letter = rng.choice(string.ascii_lowercase)
        # The count is sampled evenly: the letters of a random word would occur once or twice.
        count = rng.randint(*level.counts)
        others = string.ascii_lowercase.replace(letter, "")
        letters = [letter] * count + rng.choices(others, k=rng.randint(*level.lengths) - count)
        rng.shuffle(letters)
        word = "".join(letters)
        return Puzzle(
            question=_question(letter, word),
            answer=_gold(letter, word),
            metadata={"letter": letter, "word": word},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        question = json.loads(example.metadata)
        expected = positions_of(question["letter"], question["word"])
        answer = _read(answer_text)
        if answer is None:
            return wrong_verdict(
                f"{answers.format_answer(answer_text)} is not of the form Count: n, Positions: []"
            )
        count, positions = answer
        if count != len(expected):
            return wrong_verdict(f"the count is {len(expected)}, not {count}")
        if sorted(positions) != expected:
            return wrong_verdict("the positions are not those of the letter")
        return right_verdict(f"{count} positions, all right")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        # The release stores words, not questions: a folder per length, a file per letter.
        word = read_field(solution, "word")
        letter = read_field(solution, "letter")
        if not isinstance(word, str) or not isinstance(letter, str) or len(letter) != 1:
            raise self.malformed(number, "it needs a word and a letter")
        return self.item(
            number,
            question or _question(letter, word),
            {"letter": letter, "word": word},
            _gold(letter, word),
        )
