"""Published BIG-Bench-Hard answers that are wrong by the question's own numbers, found by rules."""

import math
import re
from typing import Final

_STEP = re.compile(r"([ML]) (-?[0-9.]+),(-?[0-9.]+)")
_PATH = re.compile(r'<path d="([^"]*)"')
_RIGHT_ANGLE_ERROR: Final = 1.0
"""Degrees by which rounded coordinates may change an angle; the published ones change it by 0.4."""

_DATES: Final = (
    (
        r"2015 is coming in 36 hours\..*",
        r".*",
        "36 hours before 2015 it is 12/30/2014, and the answers take another day",
    ),
    (
        r"In the US, Thanksgiving .* Today is the US Thanksgiving of 2001\..*",
        r"../../2002",
        "Thanksgiving of 2001 is 11/22/2001, and the answers take 11/22/2002",
    ),
    (
        r"Jane and John married on Jan 2, 1958\. It is their 5-year anniversary today\..*",
        r"../../19(?:60|61)",
        "5 years after 01/02/1958 it is 01/02/1963, and the answers take 01/02/1961",
    ),
    (
        r"Jane is celebrating the last day of Jan 2012\. What is the date one week from today .*",
        r"02/06/2012",
        "a week after 01/31/2012 it is 02/07/2012, and its answer is 02/06/2012",
    ),
)
"""Of questions of date_understanding: their text, the published date, and why it is wrong."""

Point = tuple[float, float]


def flaw(file: str, question: str, answer: str) -> str | None:
    """Return the reason why the published answer of an item is not used, or None.

    An answer that is true but not the closest one is used: the circles of geometric_shapes, all
    of which are published as ellipses, are ellipses.

    Args:
        file: The name of the published file, without its extension.
        question: The question with its options.
        answer: The text of the option that is published as right.
    """
    match file:
        case "geometric_shapes" if answer != "rectangle" and _is_rectangle(question):
            return "its shape has four right angles, and its answer is not rectangle"
        case "date_understanding":
            for text, date, reason in _DATES:
                if re.fullmatch(text, question, re.DOTALL) and re.fullmatch(date, answer):
                    return reason
    return None


def _is_rectangle(question: str) -> bool:
    """Return True if the path is closed and has four corners, each of 90 degrees."""
    path = _PATH.search(question)
    sides: list[tuple[Point, Point]] = []
    position: Point = (0.0, 0.0)
    for command, x, y in _STEP.findall(path[1] if path else ""):
        target = (float(x), float(y))
        if command == "L":
            sides.append((position, target))
        position = target
    corners = [start for start, _ in sides]
    ends = [end for _, end in sides]
    if len(corners) != 4 or ends != [*corners[1:], corners[0]]:
        return False
    return all(
        abs(_angle(corners[n - 1], corners[n], corners[(n + 1) % 4]) - 90) <= _RIGHT_ANGLE_ERROR
        for n in range(4)
    )


def _angle(before: Point, corner: Point, after: Point) -> float:
    first = math.atan2(before[1] - corner[1], before[0] - corner[0])
    second = math.atan2(after[1] - corner[1], after[0] - corner[0])
    turn = abs(math.degrees(first - second))
    return min(turn, 360 - turn)
