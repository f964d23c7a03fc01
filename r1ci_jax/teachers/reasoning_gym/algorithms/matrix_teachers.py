"""Teachers of rearranged matrices: rotation, spiral order and chains of operations."""

import dataclasses
import random
import re
from collections.abc import Sequence
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    Matrix,
    matrix_literal,
    pick,
    read,
    read_matrix,
    script,
    sentence,
    step,
)

_GRIDS = ("matrix", "grid", "table", "m")
_RESULTS = ("rotated", "result", "turned", "out")
_PRINT_ROWS = "for row in {name}:\n    print(*row)"


def _size(rows: Matrix) -> str:
    return f"{len(rows)} x {len(rows[0])}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """A matrix and the angle, clockwise in degrees."""

    rows: Matrix
    degrees: int


class RotateMatrix(Teacher[Rotation]):
    """Turns a matrix clockwise."""

    task = "rg_rotate_matrix"
    forms = ("quarter_turns", "index_formula", "numpy_rot90", "cases")

    @override
    def parse(self, question: str) -> Rotation:
        found = read(r"Rotate the matrix below by (\d+) degrees clockwise:\n([\d \n]+)", question)
        return Rotation(rows=read_matrix(found[2]), degrees=int(found[1]))

    @override
    def step(self, data: Rotation, form: str, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, out=_RESULTS, angle=("degrees", "angle"))
        given = matrix_literal(data.rows, names["grid"], rng)
        show = rng.choice(
            (
                _PRINT_ROWS.format(name="$out"),
                'print("\\n".join(" ".join(map(str, row)) for row in $out))',
            )
        )
        code = script(
            f"$given\n$angle = $degrees\n{_ROTATIONS[form]}\n{show}",
            given=given,
            degrees=data.degrees,
            **names,
        )
        turns = data.degrees // 90
        rest = {0: "which leaves it as it is", 1: "one quarter", 2: "half a turn"}.get(
            turns % 4, "three quarters of a turn"
        )
        opening = rng.choice(
            (
                f"{data.degrees} degrees clockwise are {turns} quarter turns, in effect {rest}.",
                f"Full turns of 360 degrees change nothing, so {data.degrees} mod 360 matters.",
                f"I have to rotate a {_size(data.rows)} matrix by {data.degrees} degrees.",
            )
        )
        return step(rng, (sentence(opening, _ROTATION_WORDS[form]),), code)

    @override
    def check(self, data: Rotation, answer: str, rng: random.Random) -> Step:
        before, after = pick(rng, a=("before", "given"), b=("after", "answer")).values()
        code = script(
            """
            $one
            $two
            n = len($before)
            same = len($after) == n and all(len(row) == n for row in $after)
            for _ in range($degrees // 90 % 4):
                # Undo one clockwise quarter turn: turn back counterclockwise.
                $after = [list(row) for row in zip(*$after)][::-1]
            print(same and $after == $before)
            """,
            one=matrix_literal(data.rows, before, rng),
            two=matrix_literal(read_matrix(answer), after, rng),
            before=before,
            after=after,
            degrees=data.degrees,
        )
        words = (
            f"Turning the result back by {data.degrees} degrees must give the matrix of the "
            "question; I test that.",
            "To be sure of the direction, I undo the rotation counterclockwise and compare.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Rotation, rng: random.Random) -> Step | None:
        if data.degrees % 180 == 0:
            return None
        names = pick(rng, grid=_GRIDS, out=_RESULTS)
        code = script(
            """
            import numpy as np

            $given
            $out = np.rot90(np.array($grid), k=$degrees // 90)
            for row in $out:
                print(*row)
            """,
            given=matrix_literal(data.rows, names["grid"], rng),
            degrees=data.degrees,
            **names,
        )
        words = (
            f"numpy's rot90 does quarter turns, so {data.degrees} degrees are one call.",
            f"{data.degrees // 90} quarter turns: np.rot90 with k does them at once.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Rotation, answer: str, rng: random.Random) -> str | None:
        rows = [row.split() for row in answer.splitlines()][::-1]
        text = "\n".join(" ".join(reversed(row)) for row in rows)
        return None if text == answer else text


_ROTATIONS = {
    "quarter_turns": """$out = $grid
for _ in range($angle // 90 % 4):
    # A clockwise quarter turn: the columns, read from the bottom up, become rows.
    $out = [list(row) for row in zip(*$out[::-1])]""",
    "index_formula": """n = len($grid)
$out = [row[:] for row in $grid]
for _ in range($angle % 360 // 90):
    nxt = [[0] * n for _ in range(n)]
    for r in range(n):
        for c in range(n):
            nxt[c][n - 1 - r] = $out[r][c]
    $out = nxt""",
    "numpy_rot90": """import numpy as np

# rot90 turns counterclockwise, so a negative k turns clockwise.
$out = np.rot90(np.array($grid), k=-($angle // 90)).tolist()""",
    "cases": """$angle %= 360
if $angle == 0:
    $out = $grid
elif $angle == 90:
    $out = [list(column)[::-1] for column in zip(*$grid)]
elif $angle == 180:
    $out = [row[::-1] for row in $grid[::-1]]
else:
    $out = [list(column) for column in zip(*$grid)][::-1]""",
}
_ROTATION_WORDS = {
    "quarter_turns": "A quarter turn is a reversal of the rows and a transposition; I repeat it.",
    "index_formula": "In each quarter turn the cell (r, c) moves to (c, n-1-r).",
    "numpy_rot90": "numpy's rot90 does it, with a negative k because it turns the other way.",
    "cases": "Each of the four possible remainders has a one-line formula.",
}


class SpiralMatrix(Teacher[Matrix]):
    """Lists the elements of a matrix in spiral order."""

    task = "rg_spiral_matrix"
    forms = ("four_bounds", "peel_and_turn", "walk_and_turn")

    @override
    def parse(self, question: str) -> Matrix:
        return read_matrix(read(r"elements in spiral order\?\n([\d \n]+)", question)[1])

    @override
    def step(self, data: Matrix, form: str, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, out=("order", "spiral", "result", "path"))
        code = script(
            "$given\n" + _SPIRALS[form] + "\nprint(*$out)",
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        size = _size(data)
        opening = rng.choice(
            (
                f"All {len(data) * len(data[0])} elements of the {size} matrix are read clockwise "
                "from the outside inwards.",
                f"The spiral through the {size} matrix starts at the top-left {data[0][0]} and "
                "goes right, down, left and up.",
                f"I need the clockwise spiral of a {size} matrix.",
            )
        )
        return step(rng, (sentence(opening, _SPIRAL_WORDS[form]),), code)

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, out=("order", "spiral", "result", "path"))
        code = script(
            """
            $given
            $out = []
            while $grid:
                $out += $grid.pop(0)
                $grid = [list(row) for row in zip(*$grid[::-1])]
            print(*$out)
            """,
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        words = (
            f"I take the top row of the {_size(data)} matrix away, turn the rest, and go on so.",
            "Removing the top row and rotating what remains walks along the spiral.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Matrix, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, ring=("ring", "frame", "outer"))
        code = script(
            """
            $given
            $ring = $grid[0] + [row[-1] for row in $grid[1:-1]]
            $ring += $grid[-1][::-1] + [row[0] for row in $grid[-2:0:-1]]
            print("outer frame:", *$ring)
            print(len($ring), "of", len($grid) * len($grid[0]), "elements")
            """,
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        words = (
            "First only the outer frame, clockwise, to see that the corners are taken once.",
            f"I begin with the outermost of the frames of this {_size(data)} matrix.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str | None:
        rows = " ".join(
            " ".join(map(str, row if r % 2 == 0 else row[::-1])) for r, row in enumerate(data)
        )
        return None if rows == answer else rows


_SPIRALS = {
    "four_bounds": """$out = []
top, bottom, left, right = 0, len($grid) - 1, 0, len($grid[0]) - 1
while top <= bottom and left <= right:
    $out += $grid[top][left:right + 1]
    $out += [$grid[r][right] for r in range(top + 1, bottom + 1)]
    if top < bottom and left < right:
        $out += [$grid[bottom][c] for c in range(right - 1, left - 1, -1)]
        $out += [$grid[r][left] for r in range(bottom - 1, top, -1)]
    top, bottom, left, right = top + 1, bottom - 1, left + 1, right - 1""",
    "peel_and_turn": """$out = []
while $grid:
    $out += $grid[0]
    # What is left, turned counterclockwise, has the next side of the spiral on top.
    $grid = [list(row) for row in zip(*$grid[1:])][::-1]""",
    "walk_and_turn": """rows, cols = len($grid), len($grid[0])
$out, seen = [], set()
r, c, dr, dc = 0, 0, 0, 1
for _ in range(rows * cols):
    $out.append($grid[r][c])
    seen.add((r, c))
    nr, nc = r + dr, c + dc
    if not (0 <= nr < rows and 0 <= nc < cols) or (nr, nc) in seen:
        dr, dc = dc, -dr  # turn right
    r, c = r + dr, c + dc""",
}
_SPIRAL_WORDS = {
    "four_bounds": "I keep four bounds that move inwards after every round.",
    "peel_and_turn": "I take the top row off and turn the rest counterclockwise, to the end.",
    "walk_and_turn": "I walk cell by cell and turn right at the border or at a visited cell.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
    """A matrix and the instructions, in order, without their dashes."""

    rows: Matrix
    instructions: tuple[str, ...]


class ManipulateMatrix(Teacher[Operations]):
    """Applies a chain of operations to a matrix."""

    task = "rg_manipulate_matrix"
    forms = ("one_line_each", "numpy", "functions")

    @override
    def parse(self, question: str) -> Operations:
        found = read(
            r"For the following matrix:\n([\d \n]+?)\n\nPerform the following series of operations "
            r"in order:\n(.*?)(?:\n\n|$)",
            question,
        )
        steps = tuple(line.removeprefix("- ") for line in found[2].splitlines())
        for each in steps:
            _operation(each)
        return Operations(rows=read_matrix(found[1]), instructions=steps)

    @override
    def step(self, data: Operations, form: str, rng: random.Random) -> Step:
        name = rng.choice(("m", "matrix", "grid", "a"))
        lines = [matrix_literal(data.rows, name, rng)]
        if form == "numpy":
            lines = ["import numpy as np", "", *lines, f"{name} = np.array({name})"]
        commented = rng.random() < 0.5
        kinds: dict[str, list[str]] = {}
        calls: list[str] = []
        for each in data.instructions:
            kind, arguments = _operation(each)
            values = ", ".join(map(str, arguments))
            if kind == "identity":
                if form != "functions":
                    calls.append("# identity: no change")
                continue
            if form == "functions":
                kinds[kind] = _function(kind)
                calls.append(f"{name} = {kind}({name}{', ' if values else ''}{values})")
                continue
            note = f"  # {each[0].lower()}{each[1:]}" if commented else ""
            table = _NUMPY if form == "numpy" else _LISTS
            line = _line(table[kind], name, arguments)
            calls.append(f"{line}{note}")
        for body in kinds.values():
            lines += ["", "", *body]
        lines += ["", "", *calls] if kinds else calls
        lines.append(f"for row in {name}:\n    print(*row)")
        count = len(data.instructions)
        opening = rng.choice(
            (
                f"The {_size(data.rows)} matrix goes through {count} operations in order.",
                f"{count} operations change the {_size(data.rows)} matrix one after the other.",
                f"In the given order I apply {count} operations to the {_size(data.rows)} matrix.",
            )
        )
        method = rng.choice(_OPERATION_WORDS[form])
        used = {_operation(each)[0] for each in data.instructions}
        hints = [hint for key, hint in _HINTS.items() if key in used]
        return step(rng, (sentence(opening, method, *hints[:1]),), "\n".join(lines))

    @override
    def first_attempt(self, data: Operations, rng: random.Random) -> Step | None:
        swapped = {"hmirror": "vmirror", "vmirror": "hmirror"}
        kinds = [_operation(each)[0] for each in data.instructions]
        if not set(kinds) & set(swapped):
            return None
        lines = [matrix_literal(data.rows, "m", rng)]
        for each in data.instructions:
            kind, arguments = _operation(each)
            if kind != "identity":
                line = _LISTS[swapped.get(kind, kind)]
                lines.append(_line(line, "m", arguments))
        lines.append("for row in m:\n    print(*row)")
        words = (
            "Every operation is a line with slices; a horizontal mirror swaps left and right.",
            f"I write the {len(kinds)} operations as list expressions, mirroring horizontally by "
            "reversing each row.",
        )
        return step(rng, words, "\n".join(lines))

    @override
    def small_case(self, data: Operations, rng: random.Random) -> Step | None:
        sample = "[[1, 2, 3], [4, 5, 6]]"
        kinds = sorted({_operation(each)[0] for each in data.instructions} & _SHAPES.keys())
        if not kinds:
            return None
        lines = [f"m = {sample}"]
        lines += [
            f'print("{_SHAPES[kind]}:", {_LISTS[kind][5:].replace("$m", "m")})' for kind in kinds
        ]
        words = (
            "Directions are easy to mix up, so I first look at the turns and mirrors of this "
            "question on a small matrix.",
            "A 2 x 3 sample shows whether my formulas turn and mirror the right way.",
        )
        return step(rng, words, "\n".join(lines))


_PATTERNS = {
    "identity": r"Identity transformation, i\.e\. no change",
    "rotate": r"Rotate the matrix (\d+) degrees",
    "hmirror": r"Horizontally mirror the matrix",
    "vmirror": r"Vertically mirror the matrix",
    "transpose": r"Mirror the matrix along the diagonal",
    "antitranspose": r"Mirror the matrix along the counterdiagonal",
    "replace": r"Map each occurrence of (\d+) to (\d+)",
    "zero_multiples": r"Set all elements divisible by (\d+) to zero",
    "crop": r"Crop the matrix to rows (\d+)-(\d+) and columns (\d+)-(\d+) \(1-indexed\)",
    "drop_rows": r"Remove every (\d+)-\w+ row \(1-indexed\)",
    "drop_columns": r"Remove every (\d+)-\w+ column \(1-indexed\)",
}
_LISTS = {
    "rotate": "for _ in range($a // 90 % 4): $m = [list(r) for r in zip(*$m[::-1])]",
    "hmirror": "$m = $m[::-1]",
    "vmirror": "$m = [row[::-1] for row in $m]",
    "transpose": "$m = [list(r) for r in zip(*$m)]",
    "antitranspose": "$m = [list(r)[::-1] for r in zip(*$m)][::-1]",
    "replace": "$m = [[$b if x == $a else x for x in row] for row in $m]",
    "zero_multiples": "$m = [[0 if x % $a == 0 else x for x in row] for row in $m]",
    "crop": "$m = [row[$c0:$d] for row in $m[$a0:$b]]",
    "drop_rows": "$m = [row for i, row in enumerate($m, 1) if i % $a]",
    "drop_columns": "$m = [[x for j, x in enumerate(row, 1) if j % $a] for row in $m]",
}
_NUMPY = {
    "rotate": "$m = np.rot90($m, -($a // 90))",
    "hmirror": "$m = np.flipud($m)",
    "vmirror": "$m = np.fliplr($m)",
    "transpose": "$m = $m.T",
    "antitranspose": "$m = np.rot90($m, 2).T",
    "replace": "$m = np.where($m == $a, $b, $m)",
    "zero_multiples": "$m = np.where($m % $a == 0, 0, $m)",
    "crop": "$m = $m[$a0:$b, $c0:$d]",
    "drop_rows": "$m = $m[np.arange(1, $m.shape[0] + 1) % $a != 0]",
    "drop_columns": "$m = $m[:, np.arange(1, $m.shape[1] + 1) % $a != 0]",
}
_SHAPES = {
    "hmirror": "mirrored horizontally (top and bottom swapped)",
    "vmirror": "mirrored vertically (left and right swapped)",
    "transpose": "along the diagonal",
    "antitranspose": "along the counterdiagonal",
}
_SIGNATURES: dict[str, str] = {
    "rotate": "degrees",
    "replace": "old, new",
    "zero_multiples": "k",
    "crop": "top, bottom, left, right",
    "drop_rows": "n",
    "drop_columns": "n",
}
_OPERATION_WORDS = {
    "one_line_each": (
        "With lists of rows each of them is one line.",
        "Each operation becomes one expression with slices and zip.",
    ),
    "numpy": (
        "numpy has slices, flips and masks for all of them.",
        "On an array each is a single call.",
    ),
    "functions": (
        "I write one small function for each kind of operation and call them in turn.",
        "A function per kind keeps the chain readable.",
    ),
}

_HINTS = {
    "antitranspose": "The counterdiagonal mirror is a transposition after half a turn.",
    "hmirror": "A horizontal mirror swaps top and bottom, it reverses the order of the rows.",
    "rotate": "Rotations are clockwise.",
}


def _operation(instruction: str) -> tuple[str, tuple[int, ...]]:
    for kind, pattern in _PATTERNS.items():
        if found := re.fullmatch(pattern, instruction):
            return kind, tuple(map(int, found.groups()))
    raise UnreadableQuestionError(instruction)


def _line(template: str, name: str, arguments: Sequence[int | str]) -> str:
    values: dict[str, object] = {}
    for letter, value in zip("abcd", arguments, strict=False):
        values |= {letter: value}
        values |= {f"{letter}0": value - 1 if isinstance(value, int) else f"{value} - 1"}
    return script(template, m=name, **values)


def _function(kind: str) -> list[str]:
    parameters = _SIGNATURES.get(kind, "")
    names = [each.strip() for each in parameters.split(",")]
    head = f"def {kind}(m{', ' if parameters else ''}{parameters}):"
    if kind == "rotate":
        turn = "        m = [list(row) for row in zip(*m[::-1])]"
        return [head, "    for _ in range(degrees // 90 % 4):", turn, "    return m"]
    body = _line(_LISTS[kind], "m", names)
    return [head, f"    return {body.removeprefix('m = ')}"]


TEACHERS: tuple[Teacher[Any], ...] = (RotateMatrix(), SpiralMatrix(), ManipulateMatrix())
