"""Published BIG-Bench-Hard answers that are wrong by the question's own numbers, found by rules."""

import math
import re
from typing import Final

_STEP = re.compile(r"([ML]) (-?[0-9.]+),(-?[0-9.]+)")
_PATH = re.compile(r'<path d="([^"]*)"')
_RIGHT_ANGLE_ERROR: Final = 1.0
"""Degrees by which rounded coordinates may change an angle; the published ones change it by 0.4."""

Point = tuple[float, float]


def flaw(file: str, question: str, answer: str) -> str | None:
    """Return the reason why the published answer of an item is not used, or None.

    Args:
        file: The name of the published file, without its extension.
        question: The question with its options.
        answer: The text of the option that is published as right.
    """
    match file:
        case "geometric_shapes" if answer != "rectangle" and _is_rectangle(question):
            return "its shape has four right angles, and its answer is not rectangle"
        case "date_understanding" if question.startswith("2015 is coming in 36 hours."):
            return "36 hours before 2015 it is 12/30/2014, and the answers take another day"
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
