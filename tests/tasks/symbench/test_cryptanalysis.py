"""Cryptanalysis: the one password that fits, against trying all of them from the text."""

import itertools
import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench.cryptanalysis import (
    RELEASED_DEFECTS,
    Cryptanalysis,
    Feedback,
    feedback,
)

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = Cryptanalysis()


@pytest.fixture(scope="module")
def examples(drawn: Drawn) -> list[Example]:
    return [example for level in TASK.difficulties for example in drawn(TASK, level, 20)]


def gold(example: Example) -> str:
    text = TASK.gold(example)
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("guess", "secret", "expected"),
    [
        ("38", "53", (0, 1, 1, 1)),
        ("10", "53", (0, 0, 2, -1)),
        ("19", "53", (0, 0, 2, 0)),
        ("54", "53", (1, 0, 1, 0)),  # 4 is between 3 and 5
        ("35", "53", (0, 2, 0, 0)),
        ("53", "53", (2, 0, 0, 0)),
        ("TA", "FA", (1, 0, 1, 1)),
        ("GY", "HZ", (0, 0, 2, 0)),  # Y is not before H
        ("EF", "FA", (0, 1, 1, 0)),
        ("ABC", "CAZ", (0, 2, 1, 0)),
    ],
)
def test_feedback(guess: str, secret: str, expected: tuple[int, ...]) -> None:
    assert feedback(guess, secret, True) == expected
    assert feedback(guess, secret, False) == (*expected[:3], None)


PART = re.compile(r"(\d) placed, (\d) misplaced, (\d) absent(?: \(too (\w+)\))?")


def passwords(question: str) -> list[str]:
    """All passwords that fit the question's text, digits and letters tried apart."""
    shape = re.search(r"of (\d) digits .*? by (\d) letters \(A to ([A-Z])\)", question)
    lines = re.findall(r"^(\d+)([A-Z]+): digits (.*); letters (.*)$", question, re.MULTILINE)
    assert shape and lines
    remarks, letters = "A remark follows" in question, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    letters = letters[: letters.index(shape[3]) + 1]

    def fits(word: tuple[str, ...], guess: str, text: str) -> bool:
        match = PART.fullmatch(text)
        assert match is not None
        hits = [i for i, sign in enumerate(guess) if word[i] == sign]
        common = set(word) & set(guess)
        counts = (len(hits), len(common) - len(hits), len(guess) - len(common))
        if counts != tuple(map(int, match.group(1, 2, 3))):
            return False
        if not remarks:
            return match[4] is None
        strange = sorted(set(guess) - common)
        word = tuple(sorted(word))
        above = bool(strange) and strange[0] > word[-1]
        below = bool(strange) and strange[-1] < word[0]
        return (above, below) == (match[4] in ("large", "late"), match[4] in ("small", "early"))

    digits = [
        word
        for word in itertools.permutations("0123456789", int(shape[1]))
        if all(fits(word, line[0], line[2]) for line in lines)
    ]
    ends = [
        word
        for word in itertools.permutations(letters, int(shape[2]))
        if all(fits(word, line[1], line[3]) for line in lines)
    ]
    return ["".join(head + tail) for head in digits for tail in ends]


def test_exactly_one_password_fits(examples: list[Example]) -> None:
    for example in examples[::2]:
        assert passwords(example.question) == [gold(example)]


def test_of_all_passwords_only_the_gold_scores(examples: list[Example]) -> None:
    example = examples[0]
    words = itertools.product(
        itertools.permutations("0123456789", 2), itertools.permutations("ABCDEFGH", 2)
    )
    right = [w for one, two in words if TASK.score(example, w := "".join(one + two)).correct]
    assert right == [gold(example)]


def test_no_guess_is_needless(examples: list[Example]) -> None:
    for example in examples[:20]:
        lines = re.findall(r"^\d+[A-Z]+: .*\n", example.question, re.MULTILINE)
        for line in lines if len(lines) > 1 else ():
            assert len(passwords(example.question.replace(line, ""))) > 1


def test_near_misses_are_wrong(examples: list[Example]) -> None:
    for example in examples:
        text = gold(example)
        forms = (f'"{text}', " ".join(text), json.dumps(list(text)), text.lower(), text[::-1])
        near = (text[1:], f"{text}A", text[0] + text[0] + text[2:])
        tried = [line.split(":")[0] for line in example.question.splitlines() if ": digits" in line]
        assert tried and not any(TASK.score(example, t).correct for t in (*forms, *near, *tried))


def test_released_sample(shared_data: pathlib.Path) -> None:
    """Every gold fits, and of all passwords no other one does."""
    scored, unique = 0, 0
    lines = (shared_data / "symbench" / "cryptanalysis.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        found = TASK.parse_released(number, row["question"], row["solution"])
        assert found.gold is not None
        scored += TASK.score(found.example, found.gold).correct
        # Digits and letters are judged apart, so it is enough to change one of the two.
        heads = map("".join, itertools.permutations("0123456789", 2))
        tails = map("".join, itertools.permutations("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 2))
        tried = [head + found.gold[2:] for head in heads] + [found.gold[:2] + t for t in tails]
        right = {text for text in tried if TASK.score(found.example, text).correct}
        unique += right == {found.gold}
    assert (len(lines), scored, unique, sum(RELEASED_DEFECTS.values())) == (50, 50, 50, 0)


def test_released_feedback_is_read() -> None:
    question = (
        "1. Guess: 38TA, Feedback: one number is correct but in the wrong position; one number is "
        "incorrect and too large; one letter is correct and in the correct position; one letter is "
        "incorrect and incorrect.\n"
        "2. Guess: 10GY, Feedback: both numbers are incorrect and too small; both letters are "
        "incorrect and too late in the alphabet.\n"
        "3. Guess: 35EF, Feedback: both numbers are correct but in the wrong positions; both "
        "letters are incorrect and too early in the alphabet.\n"
        "4. Guess: 53AA, Feedback: both numbers are correct and in the correct positions; both "
        "letters are incorrect.\n"
    )
    found = TASK.parse_released(1, question, {"answer": ["5", "3", "F", "A"]})
    assert found.gold == "53FA"
    told = [row[1:] for row in json.loads(found.example.metadata)["guesses"]]
    assert [[Feedback(*part) for part in row] for row in told] == [
        [(0, 1, 1, 1), (1, 0, 1, 0)],
        [(0, 0, 2, -1), (0, 0, 2, 1)],
        [(0, 2, 0, 0), (0, 0, 2, -1)],
        [(2, 0, 0, 0), (0, 0, 2, 0)],
    ]
    for broken in (("Hello", {"answer": []}), (question, None), (question, {"answer": "53FA"})):
        with pytest.raises(UserError, match="released item 4 of cryptanalysis"):
            TASK.parse_released(4, *broken)
