"""Teachers of lights that buttons switch, and of the square of equal characters in a grid."""

import dataclasses
import random
import re
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
    join_words,
    list_literal,
    list_rows,
    pick,
    quote,
    read,
    require,
    script,
    step,
    text_block,
)

Cell = tuple[int, int]

_LARGE = 5
"""Larger panels are long to write down, so they are written once only."""
_TALL = 13
"""So are taller grids of letters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """The lights of a panel, the wiring of its buttons and the presses."""

    rows: tuple[str, ...]
    buttons: dict[str, tuple[Cell, ...]]
    """The cells of each button, row and column from 1."""
    presses: tuple[str, ...]


_SIMULATE = """
    $given
    $wires

    $cells = [[int(light) for light in row] for row in $rows]
    for $name in $presses:
        for row, column in $buttons[$name]:
            $cells[row - 1][column - 1] ^= 1  # positions are counted from 1
    print(",".join(str(light) for row in $cells for light in row))
"""
_PARITY = """
    from collections import Counter

    $given
    $wires

    # Two presses of one button cancel out, so only odd counts matter.
    $cells = [list(map(int, row)) for row in $rows]
    for $name, count in Counter($presses).items():
        if count % 2 == 1:
            for row, column in $buttons[$name]:
                $cells[row - 1][column - 1] = 1 - $cells[row - 1][column - 1]
    print(*[light for row in $cells for light in row], sep=",")
"""
_TOGGLES = """
    $given
    $wires

    # The set of lights that end up switched: symmetric difference over all presses.
    switched = set()
    for $name in $presses:
        switched ^= set($buttons[$name])
    $cells = []
    for r, row in enumerate($rows, start=1):
        for c, light in enumerate(row, start=1):
            $cells.append(int(light) ^ ((r, c) in switched))
    print(",".join(map(str, $cells)))
"""
_PANEL_SCRIPTS = {
    "simulation": _SIMULATE,
    "parity": _PARITY,
    "symmetric_difference": _TOGGLES,
}
_PANEL_WORDS = {
    "simulation": (
        "I follow the presses one by one on the {n} x {n} panel and flip each wired light.",
        "With {p} presses the direct way is a simulation: flip every light of the pressed button.",
    ),
    "parity": (
        "Switching a light twice leaves it as it was, so for each button only the parity of its "
        "presses in {order} counts.",
        "The order of {p} presses does not matter, because flips commute. I count the presses of "
        "each button and apply those with an odd count.",
    ),
    "symmetric_difference": (
        "A light changes in the end if an odd number of the {p} presses reaches it; that is the "
        "symmetric difference of the buttons' sets.",
        "Treat each button as a set of cells. Combining the {p} presses with the symmetric "
        "difference gives the lights that change overall.",
    ),
}


class LightPuzzles(Teacher[Panel]):
    """Follows the lights of a panel."""

    task = "light_puzzles"
    forms = tuple(_PANEL_SCRIPTS)

    @override
    def parse(self, question: str) -> Panel:
        rows = read(r"At first the lights are:\n([01\n]+)\n\n", question)[1].split()
        wired = re.findall(r"^Button ([A-Z]): (.+)$", question, re.MULTILINE)
        presses = read(r"pressed in this order: ([A-Z, ]+)\.", question)[1].split(", ")
        buttons = {
            name: tuple((int(r), int(c)) for r, c in re.findall(r"\((\d+), (\d+)\)", cells))
            for name, cells in wired
        }
        require(set(presses) <= set(buttons), question)
        return Panel(rows=tuple(rows), buttons=buttons, presses=tuple(presses))

    def _parts(self, data: Panel, rng: random.Random) -> dict[str, str]:
        names = pick(
            rng,
            rows=("start", "rows", "panel"),
            buttons=("buttons", "wiring", "wired"),
            presses=("presses", "order", "sequence"),
            cells=("lights", "grid", "state"),
            name=("button", "name", "b"),
        )
        lines = "".join(f'    "{name}": {list(cells)},\n' for name, cells in data.buttons.items())
        order = rng.choice((f'"{"".join(data.presses)}"', list_literal(data.presses)))
        return names | {
            "given": f"{names['rows']} = {list_literal(data.rows)}",
            "wires": f"{names['buttons']} = {{\n{lines}}}\n{names['presses']} = {order}",
        }

    @override
    def step(self, data: Panel, form: str, rng: random.Random) -> Step:
        code = script(_PANEL_SCRIPTS[form], **self._parts(data, rng))
        size, count = len(data.rows), len(data.presses)
        order = ", ".join(data.presses)
        words = [text.format(n=size, p=count, order=order) for text in _PANEL_WORDS[form]]
        return step(rng, words, code)

    @override
    def check(self, data: Panel, answer: str, rng: random.Random) -> Step | None:
        if len(data.rows) > _LARGE:
            return None
        code = script(
            """
            $given
            $wires
            final = [$answer]

            # Pressing the same buttons once more, from the last to the first, restores the panel.
            size = len($rows)
            for $name in reversed($presses):
                for row, column in $buttons[$name]:
                    place = (row - 1) * size + column - 1
                    final[place] = 1 - final[place]
            print(final == [int(light) for row in $rows for light in row])
            """,
            answer=answer.replace(",", ", "),
            **self._parts(data, rng),
        )
        words = (
            f"Pressing the {len(data.presses)} buttons once more, backwards, must lead from my "
            "answer to the lights at the start.",
            "I undo the presses on the result: the first panel has to come back.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Panel, rng: random.Random) -> Step | None:
        if len(data.rows) > _LARGE:
            return None
        code = script(
            """
            $given
            $wires

            $cells = [list(map(int, row)) for row in $rows]
            for $name in $presses[:2]:
                for row, column in $buttons[$name]:
                    $cells[row - 1][column - 1] ^= 1
                print("after", $name)
                for row in $cells:
                    print("".join(map(str, row)))
            """,
            **self._parts(data, rng),
        )
        words = (
            f"First I look at the panel after the presses {' and '.join(data.presses[:2])} only, "
            "to see that rows and columns are read the right way round.",
            "Before all presses I test the switching with the first two of them.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Panel, rng: random.Random) -> Step:
        # The positions are taken as if they were counted from 0.
        code = script(
            """
            $given
            $wires

            $cells = [[int(light) for light in row] for row in $rows]
            for $name in $presses:
                for row, column in $buttons[$name]:
                    $cells[row][column] ^= 1
            print(",".join(str(light) for row in $cells for light in row))
            """,
            **self._parts(data, rng),
        )
        words = (
            f"I simulate the presses {', '.join(data.presses)} and flip each wired light.",
            "Each press flips the lights in the button's list; I apply them in order.",
        )
        return step(rng, words, code)

    @override
    def in_words(self, data: Panel, rng: random.Random) -> tuple[str, str] | None:
        odd = [name for name in data.buttons if data.presses.count(name) % 2]
        if len(data.rows) > 4 or not odd:
            return None
        order = ", ".join(data.presses)
        opening = f"The presses {order} are of different buttons, so each counts."
        if len(odd) < len(data.presses):
            remain = f"{join_words(odd)} {'remains' if len(odd) == 1 else 'remain'}"
            opening = f"Of the presses {order}, two of the same button cancel out, so {remain}."
        switched: set[Cell] = set()
        for name in odd:
            switched ^= set(data.buttons[name])
        lines: list[str] = []
        result: list[str] = []
        for r, row in enumerate(data.rows, start=1):
            columns = [c for c in range(1, len(row) + 1) if (r, c) in switched]
            after = [str(int(x) ^ ((r, c) in switched)) for c, x in enumerate(row, start=1)]
            which = f"column{'s' * (len(columns) > 1)} {', '.join(map(str, columns))}"
            flips = f"flip {which}" if columns else "no flip"
            lines.append(f"Row {r}: {row}, {flips}, gives {''.join(after)}.")
            result += after
        middle = rng.choice(
            (
                "A light changes if an odd number of these buttons reaches it. Row by row:",
                "Lights wired to both stay as they are, those wired to one of them change:",
            )
            if len(odd) == 2
            else ("I flip, row by row, the lights reached an odd number of times:",)
        )
        return "\n".join((f"{opening} {middle}", *lines)), ",".join(result)

    @override
    def wrong_answer(self, data: Panel, answer: str, rng: random.Random) -> str:
        # The last press is forgotten.
        lights = answer.split(",")
        for row, column in data.buttons[data.presses[-1]]:
            place = (row - 1) * len(data.rows) + column - 1
            lights[place] = "10"[int(lights[place])]
        return ",".join(lights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterGrid:
    """A grid of characters and the shortest side of the square."""

    rows: tuple[str, ...]
    """Characters without blanks."""
    side: int


_LARGEST_FIRST = """
    $given
    height, width = len($grid), len($grid[0])


    def filled(top, left, side):
        block = {$grid[r][c] for r in range(top, top + side) for c in range(left, left + side)}
        return len(block) == 1


    def find():
        for side in range(min(height, width), $less, -1):  # the largest square first
            for top in range(height - side + 1):
                for left in range(width - side + 1):
                    if filled(top, left, side):
                        return top + side - 1, left + side - 1


    $row, $column = find()
    print(f"{$row},{$column}")
"""
_DYNAMIC = """
    $given
    height, width = len($grid), len($grid[0])

    # size[r][c]: side of the largest filled square whose bottom right corner is (r, c)
    size = [[1] * width for _ in range(height)]
    best = (0, None, None)
    for r in range(height):
        for c in range(width):
            if r and c and $grid[r][c] == $grid[r - 1][c] == $grid[r][c - 1] == $grid[r - 1][c - 1]:
                size[r][c] = 1 + min(size[r - 1][c], size[r][c - 1], size[r - 1][c - 1])
            best = max(best, (size[r][c], r, c), key=lambda found: found[0])
    side, $row, $column = best
    assert side >= $side
    print($row, $column, sep=",")
"""
_SUMS = """
    import numpy as np

    $given
    table = np.array([list(line) for line in $grid])
    best = (0, 0, 0)
    for char in np.unique(table):
        # Sums over rectangles: a square is filled if its sum is the number of its cells.
        total = np.pad((table == char).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        for side in range($side, min(table.shape) + 1):
            count = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
            hits = np.argwhere(count + total[:-side, :-side] == side * side)
            for top, left in hits:
                best = max(best, (side, int(top), int(left)))
    side, $row, $column = best
    print(f"{$row + side - 1},{$column + side - 1}")
"""
_SQUARE_SCRIPTS = {
    "largest_first": _LARGEST_FIRST,
    "dynamic_programming": _DYNAMIC,
    "summed_area": _SUMS,
}
_SQUARE_WORDS = {
    "largest_first": (
        "I try all squares of the {h} x {w} grid from the largest side downwards; the first filled "
        "one is the square, and no smaller one inside it gets in the way.",
        "With {h} rows and {w} columns every square can be tested, the largest sides first.",
    ),
    "dynamic_programming": (
        "This is the maximal square problem: the largest filled square ending in a cell follows "
        "from its upper, left and diagonal neighbors.",
        "I compute for each of the {h} x {w} cells the side of the largest one-character square "
        "that ends there. The cell with the largest side is the bottom right corner.",
    ),
    "summed_area": (
        "For each character, prefix sums over the {h} x {w} grid tell at once whether a square is "
        "full of it. I keep the largest full square.",
        "A summed-area table per character counts the cells of any square in constant time, so I "
        "look for counts equal to side squared.",
    ),
}


class PatternRecognition(Teacher[LetterGrid]):
    """Finds the filled square of a grid."""

    task = "pattern_recognition"
    forms = tuple(_SQUARE_SCRIPTS)

    @override
    def parse(self, question: str) -> LetterGrid:
        found = read(
            r"between the characters:\n\n(.+?)\n\nSomewhere .* at least (\d+) by", question
        )
        rows = tuple(line.replace(" ", "") for line in found[1].splitlines())
        require(len(set(map(len, rows))) == 1, question)
        return LetterGrid(rows=rows, side=int(found[2]))

    def _given(self, data: LetterGrid, name: str, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return list_rows(name, map(quote, data.rows))
        lines = [" ".join(row) for row in data.rows]
        return f"{text_block('text', lines)}\n{name} = [line.split() for line in text.splitlines()]"

    @override
    def step(self, data: LetterGrid, form: str, rng: random.Random) -> Step:
        names = pick(
            rng,
            grid=("grid", "rows", "cells"),
            row=("row", "y", "last_row"),
            column=("column", "col", "x"),
        )
        given = self._given(data, names["grid"], rng)
        code = script(
            _SQUARE_SCRIPTS[form], given=given, side=data.side, less=data.side - 1, **names
        )
        size = {"h": len(data.rows), "w": len(data.rows[0])}
        return step(rng, [text.format(**size) for text in _SQUARE_WORDS[form]], code)

    @override
    def check(self, data: LetterGrid, answer: str, rng: random.Random) -> Step | None:
        if len(data.rows) > _TALL:
            return None
        row, column = answer.split(",")
        names = pick(rng, grid=("grid", "rows"), row=("row", "y"), column=("column", "x"))
        code = script(
            """
            $given


            def ends_at(bottom, right, side):
                top, left = bottom - side + 1, right - side + 1
                if min(top, left) < 0 or bottom >= len($grid) or right >= len($grid[0]):
                    return False
                block = [line[left : right + 1] for line in $grid[top : bottom + 1]]
                return len({char for line in block for char in line}) == 1


            $row, $column = $values
            sides = [side for side in range($side, len($grid) + 1) if ends_at($row, $column, side)]
            print("sides of squares that end there:", sides)
            # It must not lie in a larger square that ends further to the right or below.
            around = [($row + 1, $column), ($row, $column + 1), ($row + 1, $column + 1)]
            inner = any(ends_at(r, c, side + 1) for side in sides for r, c in around)
            print(bool(sides) and not inner)
            """,
            given=self._given(data, names["grid"], rng),
            values=f"{row}, {column}",
            side=data.side,
            **names,
        )
        words = (
            f"I check that a square of side {data.side} or more really ends at row {row}, column "
            f"{column}, and that it does not go on to the right and below.",
            f"Does the block that ends at ({row}, {column}) hold one character only, with a side "
            f"of at least {data.side}? I test it directly.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: LetterGrid, rng: random.Random) -> Step | None:
        if len(data.rows) > _TALL:
            return None
        code = script(
            """
            import re

            $given

            # Rows that hold $side or more equal characters side by side, with their columns
            for r, line in enumerate(grid):
                for run in re.finditer(r"(.)\\1{$less,}", "".join(line)):
                    print(f"row {r}: {run.group()} from column {run.start()}")
            """,
            given=self._given(data, "grid", rng),
            side=data.side,
            less=data.side - 1,
        )
        words = (
            f"First I list where {data.side} equal characters stand side by side in a row; the "
            "square must show up as such pieces in consecutive rows.",
            f"To get an overview, I look for runs of {data.side} equal characters in the rows.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: LetterGrid, rng: random.Random) -> Step:
        # It prints the top left corner.
        code = script(
            """
            $given


            def filled(top, left, side):
                lines = [line[left : left + side] for line in grid[top : top + side]]
                return len({char for line in lines for char in line}) == 1


            places = [
                (r, c)
                for r in range(len(grid) - $less)
                for c in range(len(grid[0]) - $less)
                if filled(r, c, $side)
            ]
            print(*places[0], sep=",")
            """,
            given=self._given(data, "grid", rng),
            side=data.side,
            less=data.side - 1,
        )
        words = (
            f"I slide a {data.side} x {data.side} window over the grid and look for one character.",
            f"I search for a {data.side} x {data.side} block whose cells are all equal.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: LetterGrid, answer: str, rng: random.Random) -> str:
        # Counted from 1.
        row, column = map(int, answer.split(","))
        return f"{row + 1},{column + 1}"


TEACHERS: tuple[Teacher[Any], ...] = (LightPuzzles(), PatternRecognition())
