"""Teachers of pooling over a grid of numbers, and of turned and mirrored matrices."""

import dataclasses
import random
import re
from fractions import Fraction
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
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

_FEW = 16
"""The most numbers that are worked out in words."""
_WIDE = 6
"""Wider grids of numbers are long to write down, so they are written once only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A grid of numbers, the window that slides over it, and what is taken of each place."""

    rows: tuple[tuple[int, ...], ...]
    size: int
    stride: int
    average: bool

    @property
    def starts(self) -> range:
        """Return the first rows (and columns) of the places of the window."""
        return range(0, len(self.rows) - self.size + 1, self.stride)

    def describe(self) -> str:
        """Return the pooling in words."""
        kind = "average" if self.average else "max"
        return f"{self.size} x {self.size} {kind} pooling with stride {self.stride}"


_SLICES = """
    $given
    $size, $stride = $numbers

    $out = []
    for top in range(0, len($grid) - $size + 1, $stride):
        for left in range(0, len($grid[0]) - $size + 1, $stride):
            values = [x for row in $grid[top : top + $size] for x in row[left : left + $size]]
            $out.append($taken)
    print(",".join(map(str, $out)))
"""
_VIEW = """
    import numpy as np

    $given
    $size, $stride = $numbers

    windows = np.lib.stride_tricks.sliding_window_view(np.array($grid), ($size, $size))
    $out = windows[::$stride, ::$stride].$method(axis=(2, 3))
    print(",".join($shown for value in $out.ravel().tolist()))
"""
_TWO_PASSES = """
    $given
    $size, $stride = $numbers


    def slide(line):
        # $Combine of neighboring values at each place of the window on one line
        return [$combine(line[i : i + $size]) for i in range(0, len(line) - $size + 1, $stride)]


    # A window is pooled along its rows first and then along its columns.
    by_row = [slide(row) for row in $grid]
    by_column = [slide(column) for column in zip(*by_row)]
    $out = [$finish for row in zip(*by_column) for value in row]
    print(",".join(map(str, $out)))
"""
_POOL_SCRIPTS = {
    "slices": _SLICES,
    "numpy_view": _VIEW,
    "two_passes": _TWO_PASSES,
}
_POOL_WORDS = {
    "slices": (
        "This is {what} on a {n} x {n} grid: cut out the window at each place and take the {kind}.",
        "I move the {k} x {k} window over the {n} x {n} grid in steps of {s} and note the {kind} "
        "of the slice at each place.",
    ),
    "numpy_view": (
        "numpy can show all {k} x {k} windows of the {n} x {n} grid at once; then {what} is one "
        "reduction over the last two axes.",
        "I use sliding_window_view for the {k} x {k} windows and keep every place that the stride "
        "{s} reaches.",
    ),
    "two_passes": (
        "{What} can be done in two passes, since the {kind} over a block comes from the rows of "
        "the block: first along the rows, then along the columns.",
        "The {kind} of a {k} x {k} block follows from one pass over the rows and one over the "
        "columns of the {n} x {n} grid.",
    ),
}


class Pooling(Teacher[Window]):
    """Pools a grid of numbers."""

    task = "pooling"
    forms = tuple(_POOL_SCRIPTS)

    @override
    def parse(self, question: str) -> Window:
        found = read(
            r"columns of integers:\n\n([-\d, \n]+)\n\nA window that covers (\d+) rows .*"
            r"to the right by (one|\d+) cells? .* take the (largest number|average) ",
            question,
        )
        rows = tuple(tuple(map(int, line.split(","))) for line in found[1].splitlines())
        require({len(row) for row in rows} == {len(rows)}, question)
        stride = 1 if found[3] == "one" else int(found[3])
        return Window(rows=rows, size=int(found[2]), stride=stride, average=found[4] == "average")

    def _parts(self, data: Window, rng: random.Random) -> dict[str, str]:
        names = pick(
            rng,
            grid=("grid", "matrix", "numbers"),
            size=("size", "k", "window"),
            stride=("stride", "step", "s"),
            out=("pooled_values", "result", "out"),
        )
        rounded = "round(sum(values) / len(values), 2)"
        return names | {
            "given": list_rows(names["grid"], [list(row) for row in data.rows]),
            "numbers": f"{data.size}, {data.stride}",
            "taken": rounded if data.average else "max(values)",
            "method": "mean" if data.average else "max",
            "shown": 'f"{value:.2f}"' if data.average else "str(value)",
            "combine": "sum" if data.average else "max",
            "Combine": "Sum" if data.average else "Maximum",
            "finish": f"round(value / {names['size']} ** 2, 2)" if data.average else "value",
        }

    @override
    def step(self, data: Window, form: str, rng: random.Random) -> Step:
        code = script(_POOL_SCRIPTS[form], **self._parts(data, rng))
        what = data.describe()
        texts = {
            "what": what,
            "What": what[0].upper() + what[1:],
            "kind": "average" if data.average else "maximum",
            "n": len(data.rows),
            "k": data.size,
            "s": data.stride,
        }
        return step(rng, [text.format(**texts) for text in _POOL_WORDS[form]], code)

    @override
    def check(self, data: Window, answer: str, rng: random.Random) -> Step | None:
        if len(data.rows) > _WIDE:
            return None
        if data.average:
            test = "abs(sum(cells) - value * len(cells)) <= 0.0051 * len(cells)"
        else:
            test = "value in cells and all(cell <= value for cell in cells)"
        code = script(
            """
            $given
            $size, $stride = $numbers
            $out = [$answer]

            corners = range(0, len($grid) - $size + 1, $stride)
            good = len($out) == len(corners) ** 2
            for index, value in enumerate($out):
                top, left = (corners[i] for i in divmod(index, len(corners)))
                cells = [$grid[top + r][left + c] for r in range($size) for c in range($size)]
                good = good and $test
            print(good)
            """,
            answer=answer.replace(",", ", "),
            test=test,
            **self._parts(data, rng),
        )
        ask = (
            "times the number of cells must be the sum of its window, up to rounding"
            if data.average
            else "must occur in its window, with nothing larger beside it"
        )
        return Step(words=f"Each value of the answer {ask}. I test them all.", code=code)

    @override
    def small_case(self, data: Window, rng: random.Random) -> Step | None:
        if len(data.rows) > _WIDE:
            return None
        code = script(
            """
            $given
            $size, $stride = $numbers

            corners = range(0, len($grid) - $size + 1, $stride)
            print("first rows and columns of the windows:", list(corners))
            for left in corners:
                values = [x for row in $grid[:$size] for x in row[left : left + $size]]
                print(values, $taken)
            """,
            **self._parts(data, rng),
        )
        words = (
            f"First the top row of places only: which windows does a stride of {data.stride} give?",
            f"I look at the {data.size} x {data.size} windows along the upper edge first.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Window, rng: random.Random) -> Step | None:
        if (len(data.rows) - data.size) % data.stride:
            return None
        # The last place of the window in each direction is forgotten.
        code = script(
            """
            $given
            $size, $stride = $numbers

            $out = []
            for top in range(0, len($grid) - $size, $stride):
                for left in range(0, len($grid) - $size, $stride):
                    lines = $grid[top : top + $size]
                    values = [x for row in lines for x in row[left : left + $size]]
                    $out.append($taken)
            print(*$out, sep=",")
            """,
            **self._parts(data, rng),
        )
        words = (
            f"I slide the {data.size} x {data.size} window over the grid and collect the values.",
            f"{data.describe().capitalize()}: two loops over the corner of the window.",
        )
        return step(rng, words, code)

    @override
    def in_words(self, data: Window, rng: random.Random) -> tuple[str, str] | None:
        if len(data.starts) ** 2 > _FEW or data.size > 2:
            return None
        lines: list[str] = []
        values: list[str] = []
        for top in data.starts:
            for left in data.starts:
                cells = [x for row in data.rows[top : top + 2] for x in row[left : left + 2]]
                value = f"{float(Fraction(sum(cells), 4)):.2f}" if data.average else f"{max(cells)}"
                shown = ", ".join(map(str, cells))
                working = f"sum {sum(cells)}, divided by 4: " if data.average else "largest "
                lines.append(f"Row {top}, column {left}: {shown}; {working}{value}.")
                values.append(value)
        opening = (
            f"For {data.describe()}, these are the four numbers of each window, by the row and "
            "column of its upper left cell, counted from 0:"
        )
        return "\n".join((opening, *lines)), ",".join(values)

    @override
    def wrong_answer(self, data: Window, answer: str, rng: random.Random) -> str | None:
        # Read by columns.
        values, n = answer.split(","), len(data.starts)
        turned = ",".join(values[r * n + c] for c in range(n) for r in range(n))
        return None if turned == answer else turned


_STEPS = {
    "90 degrees clockwise": "clockwise",
    "90 degrees anticlockwise": "anticlockwise",
    "by 180 degrees": "half",
    "left to right": "left_right",
    "top to bottom": "top_bottom",
    "Transpose": "transpose",
}
_LINES = {
    "lists": {
        "clockwise": "$m = [list(column)[::-1] for column in zip(*$m)]",
        "anticlockwise": "$m = [list(column) for column in zip(*$m)][::-1]",
        "half": "$m = [row[::-1] for row in $m[::-1]]",
        "left_right": "$m = [row[::-1] for row in $m]",
        "top_bottom": "$m = $m[::-1]",
        "transpose": "$m = [list(column) for column in zip(*$m)]",
    },
    "numpy": {
        "clockwise": "$m = np.rot90($m, k=-1)",
        "anticlockwise": "$m = np.rot90($m)",
        "half": "$m = np.rot90($m, k=2)",
        "left_right": "$m = np.fliplr($m)",
        "top_bottom": "$m = np.flipud($m)",
        "transpose": "$m = $m.T",
    },
}
_SOURCES = {
    "clockwise": ("w, h", "$m[h - 1 - c][r]"),
    "anticlockwise": ("w, h", "$m[c][w - 1 - r]"),
    "half": ("h, w", "$m[h - 1 - r][w - 1 - c]"),
    "left_right": ("h, w", "$m[r][w - 1 - c]"),
    "top_bottom": ("h, w", "$m[h - 1 - r][c]"),
    "transpose": ("w, h", "$m[c][r]"),
}
_COMMENTS = {
    "clockwise": "a quarter turn clockwise",
    "anticlockwise": "a quarter turn anticlockwise",
    "half": "half a turn",
    "left_right": "mirror left to right",
    "top_bottom": "mirror top to bottom",
    "transpose": "transpose",
}
_UNDONE = {"clockwise": "anticlockwise", "anticlockwise": "clockwise"}
_MATRIX_WORDS = {
    "lists": (
        "In lists, zip(*rows) gives the columns and [::-1] reverses; each of the wanted steps "
        "({steps}) is a combination of the two.",
        "The {h} x {w} matrix needs this: {steps}. With nested lists that takes slices and zip.",
    ),
    "numpy": (
        "numpy has a function for this ({steps}); I apply it to the {h} x {w} array of characters.",
        "I load the {h} x {w} matrix into a numpy array and do {steps}.",
    ),
    "indices": (
        "I work out where each entry of the result comes from, for {steps}, starting from {h} rows "
        "and {w} columns.",
        "For {steps} I write the index formula of the source cell; h and w are the height and "
        "width before the step.",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moves:
    """A matrix of characters and the steps to be done."""

    rows: tuple[tuple[str, ...], ...]
    steps: tuple[str, ...]

    def result(self) -> list[list[str]]:
        """Return the matrix after all steps."""
        rows = [list(row) for row in self.rows]
        for change in self.steps:
            rows = _transform(rows, change)
        return rows

    def describe(self) -> str:
        """Return the steps in words."""
        return ", then ".join(_COMMENTS[step] for step in self.steps)


class MatrixTransformation(Teacher[Moves]):
    """Turns and mirrors a matrix of characters."""

    task = "matrix_transformation"
    forms = tuple(_MATRIX_WORDS)

    @override
    def parse(self, question: str) -> Moves:
        found = read(r"between the entries:\n\n(.+?)\n\n(.+?)\n\nAnswer with all", question)
        rows = tuple(tuple(line.split()) for line in found[1].splitlines())
        phrases = re.findall("|".join(_STEPS), found[2])
        require(bool(phrases) and len(set(map(len, rows))) == 1, question)
        return Moves(rows=rows, steps=tuple(_STEPS[phrase] for phrase in phrases))

    def _given(self, data: Moves, name: str, form: str, rng: random.Random) -> str:
        split = "[line.split() for line in text.splitlines()]"
        given = f"{text_block('text', map(' '.join, data.rows))}\n{name} = {split}"
        if rng.random() < 0.5:
            given = list_rows(name, [f"list({quote(''.join(r))})" for r in data.rows])
        return given + (f"\n{name} = np.array({name})" if form == "numpy" else "")

    def _body(self, data: Moves, form: str) -> str:
        if form == "indices":
            parts: list[str] = []
            for step in data.steps:
                shape, source = _SOURCES[step]
                height, width = shape.split(", ")
                parts.append(
                    f"h, w = len($m), len($m[0])  # {_COMMENTS[step]}\n"
                    f"$m = [[{source} for c in range({width})] for r in range({height})]"
                )
            return "\n".join(parts)
        lines = _LINES[form]
        return "\n".join(f"{lines[step]}  # {_COMMENTS[step]}" for step in data.steps)

    @override
    def step(self, data: Moves, form: str, rng: random.Random) -> Step:
        name = rng.choice(("matrix", "grid", "table", "m"))
        load = "import numpy as np\n\n" if form == "numpy" else ""
        show = rng.choice(
            (
                'print(",".join(entry for row in $m for entry in row))',
                'print(*[entry for row in $m for entry in row], sep=",")',
            )
        )
        given = self._given(data, name, form, rng)
        code = script(f"{load}$given\n{self._body(data, form)}\n{show}", given=given, m=name)
        texts = {"steps": data.describe(), "h": len(data.rows), "w": len(data.rows[0])}
        return step(rng, [text.format(**texts) for text in _MATRIX_WORDS[form]], code)

    @override
    def check(self, data: Moves, answer: str, rng: random.Random) -> Step:
        entries = answer.split(",")
        quarter = sum(step in ("clockwise", "anticlockwise", "transpose") for step in data.steps)
        width = len(data.rows) if quarter % 2 else len(data.rows[0])
        undone = Moves(rows=data.rows, steps=tuple(_UNDONE.get(s, s) for s in data.steps[::-1]))
        code = script(
            f"""
            $given
            entries = $entries
            back = [entries[i : i + {width}] for i in range(0, len(entries), {width})]
            """,
            given=self._given(data, "matrix", "", rng),
            entries=list_literal(entries),
        )
        body = script(self._body(undone, rng.choice(("lists", "indices"))), m="back")
        words = (
            f"To verify, I undo the steps from the last to the first ({undone.describe()}); the "
            "matrix of the question has to come out.",
            "Going backwards must lead from my list to the given matrix. The steps backwards: "
            f"{undone.describe()}.",
        )
        return step(rng, words, f"{code}\n{body}\nprint(back == matrix)")

    @override
    def small_case(self, data: Moves, rng: random.Random) -> Step | None:
        if len(data.rows) * len(data.rows[0]) <= 6:  # it is its own corner
            return None
        corner = [f"list({quote(''.join(row[:2]))})" for row in data.rows[:3]]
        body = script(self._body(data, "lists"), m="corner")
        words = (
            f"I try {data.describe()} on the upper left corner of the matrix first ({len(corner)} "
            "rows, 2 columns), where I can see whether the direction is right.",
            f"The upper left corner alone shows quickly whether my code for {data.describe()} does "
            "what it should.",
        )
        code = f"corner = [{', '.join(corner)}]\n{body}\nfor row in corner:\n    print(*row)"
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Moves, rng: random.Random) -> Step | None:
        # Quarter turns go the wrong way round.
        if not any(step in _UNDONE for step in data.steps):
            return None
        wrong = Moves(rows=data.rows, steps=tuple(_UNDONE.get(s, s) for s in data.steps))
        if wrong.result() == data.result():
            return None
        body = "\n".join(_LINES["lists"][step] for step in wrong.steps)
        given = self._given(data, "matrix", "", rng)
        show = 'print(",".join(entry for row in $m for entry in row))'
        code = script(f"$given\n{body}\n{show}", given=given, m="matrix")
        return Step(words=f"With zip and reversed lists: {data.describe()}.", code=code)

    @override
    def in_words(self, data: Moves, rng: random.Random) -> tuple[str, str] | None:
        if len(data.steps) > 2 or len(data.rows) * len(data.rows[0]) > _FEW:
            return None
        rows = [list(row) for row in data.rows]
        lines: list[str] = []
        for change in data.steps:
            lines.append(_EXPLAINED[change])
            rows = _transform(rows, change)
            lines += [f"Row {number}: {' '.join(row)}" for number, row in enumerate(rows, 1)]
        opening = f"The matrix has {len(data.rows)} rows and {len(data.rows[0])} columns."
        return "\n".join((opening, *lines)), ",".join(entry for row in rows for entry in row)

    @override
    def wrong_answer(self, data: Moves, answer: str, rng: random.Random) -> str | None:
        # The last step is forgotten.
        rows = dataclasses.replace(data, steps=data.steps[:-1]).result()
        flat = ",".join(entry for row in rows for entry in row)
        return None if flat == answer else flat


_EXPLAINED = {
    "clockwise": "Clockwise, each column, read from bottom to top, becomes a row; the left first:",
    "anticlockwise": "Anticlockwise, the columns read downwards become rows; the right one first:",
    "half": "For half a turn I take the rows from the last to the first, each backwards:",
    "left_right": "Mirrored left to right, each row is read backwards:",
    "top_bottom": "Mirrored top to bottom, the rows come in reverse order:",
    "transpose": "Transposed, each column, read downwards, becomes a row:",
}


def _transform(rows: list[list[str]], step: str) -> list[list[str]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {
        "clockwise": [column[::-1] for column in columns],
        "anticlockwise": columns[::-1],
        "transpose": columns,
        "top_bottom": rows[::-1],
        "left_right": [row[::-1] for row in rows],
        "half": [row[::-1] for row in rows[::-1]],
    }[step]


TEACHERS: tuple[Teacher[Any], ...] = (Pooling(), MatrixTransformation())
