"""Corrections of entries that `reasoning-gym` makes wrongly; what has no one answer is refused.

The child program that generates questions imports this file alone, so it imports nothing of ours.
The counts are of 500 questions over all levels, or as said (docs/LOG.md). Tests find the golds
again from the text of the questions.
"""

import ast
import datetime
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final

Entry = dict[str, Any]
"""What the package makes: `question`, `answer`, `metadata`."""
Data = Any
"""The package's data set."""

_DATED_TIME = re.compile(r"(\d{4}-\d\d-\d\d) \(\w+\) (\d\d:\d\d:\d\d) ([+-]\d{4})")


def _correct_duration(entry: Entry, data: Data) -> Entry | None:
    """Compute a duration exactly; the package cuts milliseconds as floats.

    It also drops the time of day after a weekday in brackets. A time after midnight, or another
    zone, can make the end come first: such a question has no answer.
    """
    del data
    metadata = entry["metadata"]
    dated = _DATED_TIME.findall(entry["question"])
    texts = map("{}T{}{}".format, *zip(*dated, strict=True)) if dated else ()
    start, end = map(
        datetime.datetime.fromisoformat, texts or (metadata["start_time"], metadata["end_time"])
    )
    if end < start:
        return None
    span, form = end - start, metadata["expected_format"]
    if span.days and "D days" not in form:
        return None
    parts = {
        "D": str(span.days),
        "HH": f"{span.seconds // 3600:02d}",
        "MM": f"{span.seconds // 60 % 60:02d}",
        "SS": f"{span.seconds % 60:02d}",
        "mmm": f"{span.microseconds // 1000:03d}",
    }
    return entry | {"answer": re.sub(r"\b(?:D|HH|MM|SS|mmm)\b", lambda m: parts[m[0]], form)}


def _correct_relation(entry: Entry, data: Data) -> Entry | None:
    """Name what the first person is to the second; the package names the reverse for two kinds."""
    woman = entry["metadata"]["person1"] in data.config.female_names
    right = {
        "niece": ("nephew", "niece"),
        "mother-in-law": ("son-in-law", "daughter-in-law"),
    }
    right |= {"nephew": right["niece"], "father-in-law": right["mother-in-law"]}
    answer = entry["answer"]
    return entry | {"answer": right[answer][woman] if answer in right else answer}


def _refuse_colleagues(entry: Entry, data: Data) -> Entry | None:
    """Refuse colleagues, whose answer forgets one circle, and brothers of somebody else."""
    del data
    woman = entry["question"].partition(" has ")[0]
    brothers = re.search(r"sisters does (\w+)'s brother have", entry["question"])
    known = brothers is None or brothers[1] == woman
    return entry if known and entry["metadata"]["task_type"] != "colleagues" else None


def _refuse_two_years(entry: Entry, data: Data) -> Entry | None:
    """Refuse business days over the end of the year: the question gives both dates one year."""
    del data
    metadata = entry["metadata"]
    years = {metadata[key][:4] for key in ("start_date", "end_date") if key in metadata}
    return entry if metadata["task"] != "count_business_days" or len(years) == 1 else None


def _refuse_two_readings(entry: Entry, data: Data) -> Entry | None:
    """Refuse letters that are another word of the same text too, as those of "form" and "from"."""
    words = {word.casefold() for word in data.words}
    for word in map(str.casefold, entry["metadata"]["original_words"]):
        if any(
            sorted(other) == sorted(word) for other in words - {word} if len(other) == len(word)
        ):
            return None
    return entry


_OPERATORS: Final[dict[type, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _exact_value(tree: ast.expr) -> Fraction:
    match tree:
        case ast.Constant(value=int() as value):
            return Fraction(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_exact_value(operand)
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)](_exact_value(left), _exact_value(right))
    raise ValueError(ast.dump(tree))


def _refuse_fractions(entry: Entry, data: Data) -> Entry | None:
    """Refuse what is no whole number, which the package rounds down at every division (11)."""
    del data
    tree = ast.parse(entry["metadata"]["expression"].strip(), mode="eval").body
    try:
        return entry if _exact_value(tree) == int(entry["answer"]) else None
    except ZeroDivisionError:  # rounded down it is not
        return None


_TRUNCATED: Final = (
    "groups of students will need to leave",
    "pen pal with",
    "can decorate",
    "orbits the sun",
    "vending machines",
    "favorite walking trail",
    "half as many tubes",
    "eat in one month",
)


def _refuse_truncated_golds(entry: Entry, data: Data) -> Entry | None:
    """Refuse eight of 85 stories, whose golds are cut to whole numbers or negative (46 of 2,000).

    One of them takes a month of 30 days for known.
    """
    del data
    return None if any(words in entry["question"] for words in _TRUNCATED) else entry


def _correct_variable(entry: Entry, data: Data) -> Entry:
    """Name the variable of the integrand, which half of the questions write as X beside dx."""
    del data
    return entry | {
        "question": entry["question"].replace(" dx", f" d{entry['metadata']['variable']}")
    }


def _correct_rounding(entry: Entry, data: Data) -> Entry:
    """Leave out that halves are rounded down, which the golds are not."""
    del data
    odd = " (rounding down when the 5th decimal place is 5 or greater)"
    return entry | {"question": entry["question"].replace(odd, "")}


def _refuse_solved_cubes(entry: Entry, data: Data) -> Entry | None:
    """Refuse a cube that is solved already."""
    del data
    return entry if entry["metadata"]["example_correct_answer"].strip() else None


_UNREADABLE: Final = {"b_m__200", "home_pak", "runic", "smisome1", "stencil2", "test1"}


def _refuse_unreadable_fonts(entry: Entry, data: Data) -> Entry | None:
    """Refuse fonts that draw nothing, or the same, for several letters."""
    del data
    return None if entry["metadata"]["font"] in _UNREADABLE else entry


def _refuse_variation_selectors(entry: Entry, data: Data) -> Entry | None:
    """Refuse emoji that end in a variation selector, which decodes to one more character."""
    del data
    return None if "\ufe0f" in entry["metadata"]["emoji"] else entry


_GRID_VALUES: Final[tuple[Callable[[int, int], int], ...]] = (
    lambda x, y: x + y,
    lambda x, y: abs(x - y),
    lambda x, y: x * y,
    lambda x, y: x**y,
)


def _refuse_two_grids(entry: Entry, data: Data) -> Entry | None:
    """Refuse holes that another rule of the same kind fills otherwise (3)."""
    shown = entry["question"].rpartition("\n\n")[2].splitlines()
    cells = [(x, y, mark) for y, row in enumerate(shown) for x, mark in enumerate(row)]
    holes = [(x, y) for x, y, mark in cells if mark == "\u2754"]
    known = [(x, y, mark == "\u2705") for x, y, mark in cells if mark != "\u2754"]
    found = set[tuple[bool, ...]]()
    for value in _GRID_VALUES:
        for divisor in range(1, data.config.max_divisor + 1):
            hit = {value(x, y) % divisor for x, y, is_hit in known if is_hit}
            missed = {value(x, y) % divisor for x, y, is_hit in known if not is_hit}
            if len(hit) == 1 and not hit & missed:
                found.add(tuple(value(x, y) % divisor in hit for x, y in holes))
    return entry if len(found) == 1 else None


_MOST_STEPS: Final = 4000
"""Rectangles that the search for another number of them may try."""


def _refuse_two_counts(entry: Entry, data: Data) -> Entry | None:
    """Refuse a picture that another number of rectangles draws too, or where that is open (50)."""
    del data
    depth = [
        [" #\u2588".index(mark) for mark in row] for row in entry["metadata"]["puzzle"].splitlines()
    ]
    steps = 0

    def counts(drawn: int) -> Iterator[int]:
        """Yield how many rectangles draw what is left; the first cell left is a top left corner."""
        nonlocal steps
        corner = next(((y, x) for y, row in enumerate(depth) for x, n in enumerate(row) if n), None)
        if corner is None:
            yield drawn
            return
        for border in _rectangles(depth, *corner):
            steps += 1
            if steps > _MOST_STEPS:
                return
            for y, x in border:
                depth[y][x] -= 1
            yield from counts(drawn + 1)
            for y, x in border:
                depth[y][x] += 1

    found = set[int]()
    for count in counts(0):
        found.add(count)
        if len(found) > 1:
            break
    return entry if found == {int(entry["answer"])} and steps <= _MOST_STEPS else None


def _rectangles(depth: list[list[int]], top: int, left: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the borders of the rectangles at a corner, at least three cells wide and high."""
    row = depth[top]
    right = left
    while right + 1 < len(row) and row[right + 1]:
        right += 1
        if right < left + 2:
            continue
        bottom = top
        while bottom + 1 < len(depth) and depth[bottom + 1][left] and depth[bottom + 1][right]:
            bottom += 1
            if bottom < top + 2 or not all(depth[bottom][left : right + 1]):
                continue
            sides = [(y, x) for y in range(top + 1, bottom) for x in (left, right)]
            yield sides + [(y, x) for y in (top, bottom) for x in range(left, right + 1)]


CORRECTIONS: Final[dict[str, Callable[[Entry, Data], Entry | None]]] = {
    "time_intervals": _correct_duration,
    "family_relationships": _correct_relation,
    "aiw": _refuse_colleagues,
    "calendar_arithmetic": _refuse_two_years,
    "letter_jumble": _refuse_two_readings,
    "basic_arithmetic": _refuse_fractions,
    "gsm_symbolic": _refuse_truncated_golds,
    "simple_integration": _correct_variable,
    "polynomial_equations": _correct_rounding,
    "rubiks_cube": _refuse_solved_cubes,
    "figlet_font": _refuse_unreadable_fonts,
    "emoji_mystery": _refuse_variation_selectors,
    "modulo_grid": _refuse_two_grids,
    "rectangle_count": _refuse_two_counts,
}
"""By data set: the function that makes the right entry of the package's, or None to refuse it."""
