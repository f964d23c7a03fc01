"""Rotate, mirror and transpose a matrix of characters."""

import dataclasses
import json
import random
import re
import string
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

type Matrix = list[list[str]]

RELEASED_DEFECTS: Final[dict[str, int]] = {}

_TURNS: Final = {
    "clockwise": "Turn the matrix 90 degrees clockwise.",
    "anticlockwise": "Turn the matrix 90 degrees anticlockwise.",
    "half": "Turn the matrix by 180 degrees.",
}
_STEPS: Final = _TURNS | {
    "left_right": "Mirror the matrix left to right: the first column becomes the last column.",
    "top_bottom": "Mirror the matrix top to bottom: the first row becomes the last row.",
    "transpose": "Transpose the matrix: its first row becomes its first column, and so on.",
}
# Characters of the answer's format (comma, brackets, quotes, angles) are no entries.
_CHARACTERS: Final = (
    string.ascii_uppercase,
    string.digits,
    string.ascii_uppercase + string.digits,
    "!#$%&*+=?@^",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    sides: tuple[int, int]
    steps: int
    choice: tuple[str, ...]


_LEVELS: Final = {
    1: _Level(sides=(2, 3), steps=1, choice=("clockwise",)),
    2: _Level(sides=(3, 4), steps=1, choice=tuple(_TURNS)),
    3: _Level(sides=(4, 5), steps=2, choice=tuple(_STEPS)),
    4: _Level(sides=(5, 6), steps=3, choice=tuple(_STEPS)),
    5: _Level(sides=(6, 7), steps=4, choice=tuple(_STEPS)),
}


def transform(matrix: Matrix, step: str) -> Matrix:
    """Return the matrix after one step."""
    columns = [list(column) for column in zip(*matrix, strict=True)]
    match step:
        case "transpose":
            return columns
        case "clockwise":
            return [column[::-1] for column in columns]
        case "anticlockwise":
            return columns[::-1]
        case "half":
            return [row[::-1] for row in matrix[::-1]]
        case "left_right":
            return [row[::-1] for row in matrix]
        case "top_bottom":
            return matrix[::-1]
    raise AssertionError(step)


class MatrixTransformation(symbench_task.SymbenchTask):
    """Write down the matrix that some steps make of another."""

    name = "matrix_transformation"
    kind = "execution"
    answer_format = "the entries row by row, parted by commas"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        rows, columns = (rng.randint(*level.sides) for _ in range(2))
        characters = rng.choice(_CHARACTERS)
        while True:
            matrix = [[rng.choice(characters) for _ in range(columns)] for _ in range(rows)]
            steps = [rng.choice(level.choice) for _ in range(level.steps)]
            result = matrix
            for step in steps:
                result = transform(result, step)
            if _flat(result) != _flat(matrix):  # Copying the entries is no answer.
                break
        return Puzzle(
            question=_question(matrix, steps),
            answer=",".join(_flat(result)),
            metadata={"entries": _flat(result)},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        expected = json.loads(example.metadata)["entries"]
        parts = answers.split_parts(answer_text)
        if parts is None:
            return symbench_task.wrong_verdict("the answer is too long")
        found = list(map(answers.strip_quotes, parts))
        if len(found) != len(expected):
            return symbench_task.wrong_verdict(f"{len(found)} entries, not {len(expected)}")
        for place, (entry, right) in enumerate(zip(found, expected, strict=True), start=1):
            if entry != right:
                return symbench_task.wrong_verdict(
                    f"entry {place} is {answers.format_answer(entry)}, not {right!r}"
                )
        return symbench_task.right_verdict(f"all {len(expected)} entries are right")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        body = re.search(r"matrix is\s*\n(.+?)\.\s*\nWhat is the result", question, re.DOTALL)
        if body is None or "90 degrees clockwise" not in question:
            raise self.malformed(number, "no matrix to turn in the question")
        matrix = [line.split() for line in body[1].splitlines()]
        if len({len(row) for row in matrix}) != 1:
            raise self.malformed(number, "rows of different lengths")
        gold = symbench_task.read_field(solution, "formatted_solution")
        if not isinstance(gold, str):
            raise self.malformed(number, "no formatted_solution")
        return self.item(number, question, {"entries": _flat(transform(matrix, "clockwise"))}, gold)


def _flat(matrix: Matrix) -> list[str]:
    return [entry for row in matrix for entry in row]


def _question(matrix: Matrix, steps: list[str]) -> str:
    shown = "\n".join(" ".join(row) for row in matrix)
    texts = [_STEPS[step] for step in steps]
    if len(texts) == 1:
        task = texts[0]
    else:
        listed = "\n".join(f"{place}. {text}" for place, text in enumerate(texts, start=1))
        task = f"Carry out these steps one after another, each on the result so far:\n{listed}"
    return (
        "This is a matrix of single characters. Each line is a row, with blanks between the "
        f"entries:\n\n{shown}\n\n{task}\n\nAnswer with all entries of the resulting matrix as one "
        "flat list, row by row from the top and each row from left to right, with a comma between "
        "entries. A result with the rows X Y Z and 1 2 3 would be written X,Y,Z,1,2,3."
    )
