"""Teacher of chains of operations on a matrix."""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, override

from r1ci_jax.teachers.reasoning_gym.matrices.matrix_scripts import (
    matrix_literal,
    size_of,
)
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Matrix, read, read_matrix, script, sentence, step


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
        given, commented = matrix_literal(data.rows, name, rng), rng.random() < 0.5
        code = _chain(data, form, name, given, commented=commented)
        if len(code.splitlines()) > _MOST_LINES:
            form = "one_line_each"
            code = _chain(data, form, name, given, commented=False)
        count, size = len(data.instructions), size_of(data.rows)
        opening = rng.choice(
            (
                f"The {size} matrix goes through {count} operations in order.",
                f"{count} operations change the {size} matrix one after the other.",
                f"In the given order I apply {count} operations to the {size} matrix.",
            )
        )
        method = rng.choice(_OPERATION_WORDS[form])
        used = {_operation(each)[0] for each in data.instructions}
        hints = [hint for key, hint in _HINTS.items() if key in used]
        return step(rng, (sentence(opening, method, *hints[:1]),), code)

    @override
    def first_attempt(self, data: Operations, rng: random.Random) -> Step | None:
        swapped = {"hmirror": "vmirror", "vmirror": "hmirror"}
        right = wrong = data.rows
        lines = [matrix_literal(data.rows, "m", rng)]
        for kind, arguments in map(_operation, data.instructions):
            mistaken = swapped.get(kind, kind)
            right, wrong = _apply(right, kind, arguments), _apply(wrong, mistaken, arguments)
            lines += _statement(_LISTS, mistaken, "m", arguments)
        if right == wrong:
            return None
        lines.append("for row in m:\n    print(*row)")
        words = (
            "Every operation is a line with slices; a horizontal mirror swaps left and right.",
            f"I write the {len(data.instructions)} operations as list expressions, mirroring "
            "horizontally by reversing each row.",
        )
        return step(rng, words, "\n".join(lines))

    @override
    def small_case(self, data: Operations, rng: random.Random) -> Step | None:
        corner = [list(row[:3]) for row in data.rows[:2]]
        kinds = sorted({_operation(each)[0] for each in data.instructions} & _SHAPES.keys())
        if not kinds:
            return None
        name = rng.choice(("corner", "part", "m"))
        lines = [f"{name} = {corner}"]
        lines += [
            f'print("{_SHAPES[kind]}:", {_line(_LISTS[kind][5:], name, ())})' for kind in kinds
        ]
        words = (
            "Directions are easy to mix up, so I first look at the turns and mirrors of this "
            "question on the top left corner of the matrix.",
            "Two short rows of the matrix show whether my formulas mirror the right way.",
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
_MOST_LINES = 40
_LISTS = {
    "rotate90": "$m = [list(r) for r in zip(*$m[::-1])]",
    "rotate180": "$m = [row[::-1] for row in $m[::-1]]",
    "rotate270": "$m = [list(r) for r in zip(*$m)][::-1]",
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
    "rotate90": "$m = np.rot90($m, -1)",
    "rotate180": "$m = np.rot90($m, 2)",
    "rotate270": "$m = np.rot90($m)",
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


def _chain(data: Operations, form: str, name: str, given: str, *, commented: bool) -> str:
    """Write the script of a form."""
    lines = [given]
    if form == "numpy":
        lines = ["import numpy as np", "", given, f"{name} = np.array({name})"]
    kinds: dict[str, list[str]] = {}
    calls: list[str] = []
    for each in data.instructions:
        kind, arguments = _operation(each)
        if form == "functions":
            if kind != "identity":
                kinds[kind] = _function(kind)
                calls.append(f"{name} = {kind}({', '.join([name, *map(str, arguments)])})")
            continue
        told = f"{each[0].lower()}{each[1:]}"
        table = _NUMPY if form == "numpy" else _LISTS
        if found := _statement(table, kind, name, arguments):
            calls += [f"{line}  # {told}" if commented else line for line in found]
        elif commented:
            calls.append(f"# {told.partition(', ')[0]}: no change")
    for body in kinds.values():
        lines += ["", "", *body]
    lines += ["", "", *calls] if kinds else calls
    return "\n".join([*lines, f"for row in {name}:\n    print(*row)"])


def _statement(
    table: Mapping[str, str], kind: str, name: str, arguments: Sequence[int]
) -> list[str]:
    """Return the line that does an operation, or none where it changes nothing."""
    if kind == "rotate":
        kind, arguments = f"rotate{arguments[0] % 360}", ()
    return [_line(table[kind], name, arguments)] if kind in table else []


def _apply(rows: Matrix, kind: str, arguments: Sequence[int]) -> Matrix:
    """Return the matrix after an operation."""
    match kind, arguments:
        case "rotate", (degrees,):
            for _ in range(degrees // 90 % 4):
                rows = tuple(zip(*rows[::-1], strict=True))
        case "hmirror", _:
            return rows[::-1]
        case "vmirror", _:
            return tuple(row[::-1] for row in rows)
        case "transpose", _:
            return tuple(zip(*rows, strict=True))
        case "antitranspose", _:
            return tuple(row[::-1] for row in zip(*rows, strict=True))[::-1]
        case "replace", (old, new):
            return tuple(tuple(new if x == old else x for x in row) for row in rows)
        case "zero_multiples", (k,):
            return tuple(tuple(0 if x % k == 0 else x for x in row) for row in rows)
        case "crop", (top, bottom, left, right):
            return tuple(row[left - 1 : right] for row in rows[top - 1 : bottom])
        case "drop_rows", (n,):
            return tuple(row for i, row in enumerate(rows, 1) if i % n)
        case "drop_columns", (n,):
            return tuple(tuple(x for j, x in enumerate(row, 1) if j % n) for row in rows)
        case _:
            pass
    return rows


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


TEACHERS: tuple[Teacher[Any], ...] = (ManipulateMatrix(),)
