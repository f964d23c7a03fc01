"""Complete a Latin square of letters whose minor diagonal contains one letter only."""

import dataclasses
import json
import random
import re
import string
from collections.abc import Iterator, Sequence
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

BLANK: Final = "_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    size: int
    blanks: int


_LEVELS: Final = {
    1: _Level(size=5, blanks=10),
    2: _Level(size=6, blanks=17),
    3: _Level(size=7, blanks=25),
    4: _Level(size=7, blanks=30),
    5: _Level(size=8, blanks=40),
}


class _Search:
    """A search that fills the blanks of one grid; sets of letters are bits."""

    def __init__(self, rows: Sequence[str], rng: random.Random | None) -> None:
        self._size = len(rows)
        everything = (1 << self._size) - 1
        self._rows = [everything] * self._size
        self._columns = [everything] * self._size
        self._diagonal = everything
        self._rng = rng
        self._cells = [[0] * self._size for _ in rows]
        self._sound = True
        for r, row in enumerate(rows):
            for c, letter in enumerate(row):
                if letter != BLANK:
                    bit = 1 << string.ascii_lowercase.index(letter)
                    self._sound = self._sound and bool(bit & self._free(r, c))
                    self._put(r, c, bit)

    def run(self) -> Iterator[list[str]]:
        """Yield all ways to fill the grid."""
        return self._fill() if self._sound else iter(())

    def _free(self, r: int, c: int) -> int:
        free = self._rows[r] & self._columns[c]
        return free & self._diagonal if r + c == self._size - 1 else free

    def _put(self, r: int, c: int, bit: int) -> None:
        self._cells[r][c] = bit
        self._rows[r] &= ~bit
        self._columns[c] &= ~bit
        if r + c == self._size - 1:
            self._diagonal = bit

    def _narrowest(self) -> tuple[int, int, int] | None:
        """Return the blank with the fewest letters left; None when nothing is blank."""
        best, fewest = None, self._size + 1
        for r, row in enumerate(self._cells):
            for c, cell in enumerate(row):
                if not cell:
                    free = self._free(r, c)
                    if free.bit_count() < fewest:
                        best, fewest = (r, c, free), free.bit_count()
                        if fewest <= 1:
                            return best
        return best

    def _fill(self) -> Iterator[list[str]]:
        spot = self._narrowest()
        if spot is None:
            letters = string.ascii_lowercase
            yield ["".join(letters[b.bit_length() - 1] for b in row) for row in self._cells]
            return
        r, c, free = spot
        bits = [1 << n for n in range(self._size) if free >> n & 1]
        if self._rng is not None:
            self._rng.shuffle(bits)
        diagonal = self._diagonal
        for bit in bits:
            self._put(r, c, bit)
            yield from self._fill()
            self._cells[r][c] = 0
            self._rows[r] |= bit
            self._columns[c] |= bit
            self._diagonal = diagonal


def solutions(rows: Sequence[str], rng: random.Random | None = None) -> Iterator[list[str]]:
    """Yield the grids that complete this one, in an order that the random numbers choose."""
    return _Search(rows, rng).run()


def _dug(full: Sequence[str], blanks: int, rng: random.Random) -> list[str] | None:
    """Blank so many cells and keep one solution; return None if this order does not allow it."""
    size = len(full)
    grid = [list(row) for row in full]
    cells = [(r, c) for r in range(size) for c in range(size)]
    rng.shuffle(cells)
    for tried, (r, c) in enumerate(cells):
        if blanks > len(cells) - tried:
            return None
        grid[r][c] = BLANK
        found = solutions(["".join(row) for row in grid])
        next(found)
        if next(found, None) is None:
            blanks -= 1
            if not blanks:
                return ["".join(row) for row in grid]
        else:
            grid[r][c] = full[r][c]
    return None


def _question(grid: Sequence[str]) -> str:
    size = len(grid)
    last = string.ascii_lowercase[size - 1]
    rows = "\n".join(",".join(row) for row in grid)
    return (
        f"Below is a grid of {size} rows and {size} columns. Some cells hold a letter from a to "
        f"{last}, the others are blank and shown as {BLANK}. Write a letter from a to {last} into "
        "each blank cell so that\n"
        "- every row holds each letter exactly once,\n"
        "- every column holds each letter exactly once,\n"
        "- all cells of the minor diagonal, which runs from the top right corner to the bottom "
        "left one, hold the same letter.\n"
        "The letters that are given must stay.\n\n"
        f"{rows}\n\n"
        f"Answer with the complete grid: {size} lines from the top row to the bottom row, each of "
        f"{size} letters parted by commas and nothing else. A complete grid of 2 rows and 2 "
        "columns would be written as\nb,a\na,b"
    )


def _read(text: str) -> list[list[str]] | None:
    if len(text) > answers.MAX_ANSWER_CHARS:
        return None
    rows = [[cell.strip() for cell in row.split(",")] for row in text.strip().split("\n")]
    single = all(len(cell) == 1 for row in rows for cell in row)
    return rows if single else None


def _fault(given: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return the first rule that the filled grid breaks."""
    size = len(given)
    if len(rows) != size or any(len(row) != size for row in rows):
        return f"the grid has not {size} rows of {size} letters"
    letters = list(string.ascii_lowercase[:size])
    for n, row in enumerate(rows, start=1):
        if sorted(row) != letters:
            return f"row {n} does not hold each letter once"
    for n, column in enumerate(zip(*rows, strict=True), start=1):
        if sorted(column) != letters:
            return f"column {n} does not hold each letter once"
    if len({rows[n][size - 1 - n] for n in range(size)}) > 1:
        return "the minor diagonal holds several letters"
    for n, (before, after) in enumerate(zip(given, rows, strict=True), start=1):
        if any(a not in (BLANK, b) for a, b in zip(before, after, strict=True)):
            return f"a given letter of row {n} was changed"
    return None


class LetterLogicDiagram(SymbenchTask):
    """Complete a Latin square."""

    name = "letter_logic_diagram"
    kind = "reasoning"
    answer_format = "the complete grid: one line a row, letters parted by commas"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        while True:
            full = next(solutions([BLANK * level.size] * level.size, rng))
            grid = _dug(full, level.blanks, rng)
            if grid is not None:
                break
        return Puzzle(
            question=_question(grid),
            answer="\n".join(",".join(row) for row in full),
            metadata={"grid": grid},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        rows = _read(answer_text)
        if rows is None:
            return wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a grid of letters parted by commas"
            )
        fault = _fault(json.loads(example.metadata)["grid"], rows)
        return right_verdict("every rule holds") if fault is None else wrong_verdict(fault)

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        shown = re.search(r"empty cells blank\):\n\n((?:[a-g,]+\n)+)", question)
        if shown is None:
            raise self.malformed(number, "no grid in the question")
        grid = ["".join(cell or BLANK for cell in row.split(",")) for row in shown[1].split()]
        if len(grid) != 7 or any(len(row) != 7 for row in grid):
            raise self.malformed(number, "the grid has not 7 rows of 7 cells")
        stored = read_field(solution)
        if not isinstance(stored, list) or not all(isinstance(row, list) for row in stored):
            raise self.malformed(number, "no grid in the solution")
        gold = "\n".join(",".join(map(str, row)) for row in stored)
        return self.item(number, question, {"grid": grid}, gold)
