"""Deduce a password of digits and letters from guesses and their feedback."""

import functools
import itertools
import json
import random
import re
import string
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""Golds of the released sample that break the stated rules: there are none."""


class Feedback(NamedTuple):
    """The feedback on the digits, or on the letters, of one guess."""

    placed: int
    """Number of signs that the password has in the same position."""
    misplaced: int
    """Number of signs that the password has in another position."""
    absent: int
    """Number of signs that the password lacks."""
    remark: int | None
    """1: every absent sign comes after all signs of the password; -1: before all; 0: neither.
    The value is None where the puzzle makes no remarks."""


class _Shape(NamedTuple):
    digits: int
    letters: int
    alphabet: int
    """The number of letters that may occur, from A on."""
    remarks: bool


_SHAPE = {
    1: _Shape(2, 2, 8, True),
    2: _Shape(2, 2, 26, True),
    3: _Shape(3, 2, 26, True),
    4: _Shape(3, 2, 26, False),
    5: _Shape(4, 3, 16, False),
}

_QUESTION = """\
A lock opens with a password of {digits} digits (0 to 9) followed by {letters} letters (A to \
{last}). Its digits are all different, and so are its letters.

Some passwords were tried. For each, the digits and the letters are judged separately: "placed" \
counts those that the password has in the same place, "misplaced" those that it has in another \
place, "absent" those that it does not have at all.{remarks}

{guesses}

Which password fits all of this? There is exactly one. Answer with the password as one word, \
digits first, such as {sample}."""

_REMARKS = """ A remark follows where all absent digits of a try are greater than every digit of \
the password ("too large") or all are smaller than every one ("too small"); for letters likewise, \
where all absent letters come after every letter of the password in the alphabet ("too late") or \
all come before every one ("too early"). Where there are absent digits or letters and no remark, \
neither is the case."""

_REMARK_WORDS = {("digits", 1): "too large", ("digits", -1): "too small"} | {
    ("letters", 1): "too late",
    ("letters", -1): "too early",
}

_RELEASED_GUESS = re.compile(r"Guess: (\d\d[A-Z]{2}), Feedback: (.*)\.")
_RELEASED_REMARKS = {"too large": 1, "too late": 1, "too small": -1, "too early": -1}


def feedback(guess: str, secret: str, remarks: bool) -> Feedback:
    """Compute the feedback on the digits (or the letters) of a guess."""
    placed = sum(map(str.__eq__, guess, secret))
    absent = [sign for sign in guess if sign not in secret]
    remark = None
    if remarks:
        after = bool(absent) and min(absent) > max(secret)
        before = bool(absent) and max(absent) < min(secret)
        remark = after - before
    return Feedback(placed, len(guess) - placed - len(absent), len(absent), remark)


class Cryptanalysis(symbench_task.SymbenchTask):
    """Find the one password that fits the feedback of all guesses."""

    name = "cryptanalysis"
    kind = "reasoning"
    answer_format = "the password: digits, then letters, as one word"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        shape = _SHAPE[difficulty]
        sample = string.digits[-shape.digits :] + "DBFC"[: shape.letters]
        secret = sample
        while secret == sample:
            secret = rng.choice(_words(string.digits, shape.digits)) + rng.choice(
                _words(string.ascii_uppercase[: shape.alphabet], shape.letters)
            )
        response = [
            (guess, *_give_feedback(guess, secret, shape)) for guess in _guesses(rng, shape, secret)
        ]
        question = _QUESTION.format(
            digits=shape.digits,
            letters=shape.letters,
            last=string.ascii_uppercase[shape.alphabet - 1],
            remarks=_REMARKS if shape.remarks else "",
            guesses="\n".join(_line(guess, *parts) for guess, *parts in response),
            sample=sample,
        )
        return Puzzle(
            question=question,
            answer=secret,
            metadata={"digits": shape.digits, "alphabet": shape.alphabet, "guesses": response},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        given = json.loads(example.metadata)
        digits, length = given["digits"], len(given["guesses"][0][0])
        word = answer_text.strip() if len(answer_text) <= answers.MAX_ANSWER_CHARS else ""
        last = string.ascii_uppercase[given["alphabet"] - 1]
        if re.fullmatch(f"[0-9]{{{digits}}}[A-{last}]{{{length - digits}}}", word) is None:
            form = f"{digits} digits and {length - digits} letters up to {last}"
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not {form}"
            )
        if len(set(word)) != length:
            return symbench_task.wrong_verdict("a digit or letter is repeated")
        for guess, *response in given["guesses"]:
            for part, expected in zip((slice(digits), slice(digits, None)), response, strict=True):
                if feedback(guess[part], word[part], expected[3] is not None) != tuple(expected):
                    return symbench_task.wrong_verdict(f"does not fit the feedback of {guess}")
        return symbench_task.right_verdict("fits the feedback of all guesses")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        found = _RELEASED_GUESS.findall(question)
        if not found:
            raise self.malformed(number, "the question has no guesses")
        response = [
            [guess, _released_feedback(text, "number"), _released_feedback(text, "letter")]
            for guess, text in found
        ]
        signs = symbench_task.read_field(solution, "answer")
        if not isinstance(signs, list):
            raise self.malformed(number, "the solution is not a list of signs")
        metadata = {"digits": 2, "alphabet": 26, "guesses": response}
        return self.item(number, question, metadata, "".join(map(str, signs)))


@functools.cache
def _words(signs: str, length: int) -> tuple[str, ...]:
    """Return all words of distinct signs."""
    return tuple(map("".join, itertools.permutations(signs, length)))


def _parts(word: str, digits: int) -> tuple[str, str]:
    """Return the digits and the letters of a word."""
    return word[:digits], word[digits:]


def _give_feedback(guess: str, secret: str, shape: _Shape) -> list[Feedback]:
    """Return the feedback on digits and letters."""
    pairs = zip(_parts(guess, shape.digits), _parts(secret, shape.digits), strict=True)
    return [feedback(tried, hidden, shape.remarks) for tried, hidden in pairs]


def _guesses(rng: random.Random, shape: _Shape, secret: str) -> list[str]:
    """Choose guesses whose feedback leaves only the secret, none of them unnecessary."""
    words = (
        _words(string.digits, shape.digits),
        _words(string.ascii_uppercase[: shape.alphabet], shape.letters),
    )
    tried: list[list[str]] = []
    for choices, hidden in zip(words, _parts(secret, shape.digits), strict=True):
        guesses, left = [], choices
        while len(left) > 1:
            # A guess that fits so far is most informative; others make the puzzle less sequential.
            guess = rng.choice(left if rng.random() < 0.6 else choices)
            if guess != hidden and guess not in guesses:
                guesses.append(guess)
                left = _fitting(left, [guess], hidden, shape.remarks)
        for guess in tuple(guesses):
            others = [other for other in guesses if other != guess]
            if len(_fitting(choices, others, hidden, shape.remarks)) == 1:
                guesses = others
        tried.append(guesses)
    # The shorter list is filled up: every guess contains digits and letters.
    for guesses, choices, hidden in zip(tried, words, _parts(secret, shape.digits), strict=True):
        while len(guesses) < max(map(len, tried)):
            guess = rng.choice(choices)
            if guess != hidden and guess not in guesses:
                guesses.append(guess)
        rng.shuffle(guesses)
    return list(map("".join, zip(*tried, strict=True)))


def _fitting(
    words: Sequence[str], guesses: Sequence[str], hidden: str, remarks: bool
) -> Sequence[str]:
    """Return the words that would get the same feedback as the hidden one."""
    for guess in guesses:
        response, signs = feedback(guess, hidden, remarks), frozenset(guess)
        shared = len(guess) - response.absent
        words = [
            word
            for word in words
            # Most words fail the first, faster test.
            if len(signs.intersection(word)) == shared
            and feedback(guess, word, remarks) == response
        ]
    return words


def _line(guess: str, digits: Feedback, letters: Feedback) -> str:
    parts = []
    for name, response in (("digits", digits), ("letters", letters)):
        remark = f" ({_REMARK_WORDS[name, response.remark]})" if response.remark else ""
        counts = (
            f"{response.placed} placed, {response.misplaced} misplaced, {response.absent} absent"
        )
        parts.append(f"{name} {counts}{remark}")
    return f"{guess}: {'; '.join(parts)}"


def _released_feedback(text: str, kind: str) -> Feedback:
    """Parse `one number is correct but in the wrong position; ...`."""
    placed = misplaced = absent = remark = 0
    for phrase in text.split("; "):
        if kind not in phrase:
            continue
        count = 2 if phrase.startswith("both") else 1
        if "incorrect" in phrase:
            absent += count
            response = [sign for words, sign in _RELEASED_REMARKS.items() if words in phrase]
            remark = response[0] if response else 0
        elif "wrong position" in phrase:
            misplaced += count
        else:
            placed += count
    return Feedback(placed, misplaced, absent, remark)
