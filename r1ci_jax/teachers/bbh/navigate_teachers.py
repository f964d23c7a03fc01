"""The teacher of navigate: whether a walk ends where it began."""

import dataclasses
import random
import re
from collections.abc import Mapping
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import fold, match, read_body
from r1ci_jax.teachers.bbh.yes_no_teacher import YesNoTeacher
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Pattern, quote, wrap_items

_TURNS: Final = {"left": 1, "around": 2, "right": 3}
_SIDES: Final = {"forward": 0, "left": 1, "backward": 2, "right": 3}
_NAMES: Final = {
    "x y": ("x y", "east north", "across ahead"),
    "moves": ("moves", "walk", "steps", "instructions"),
    "position": ("position", "place", "here", "location"),
    "heading": ("heading", "facing", "direction"),
    "count": ("n", "count", "paces"),
}

_WALK: Final = """
$moves = $rows
turn = {"left": 1j, "around": -1, "right": -1j}
side = {"forward": 1, "left": 1j, "backward": -1, "right": -1j}
$position, $heading = 0, 1j
for action, where, $count in $moves:
    if action == "turn":
        $heading *= turn[where]
    else:
        $position += $count * $heading * side[where]"""

_FORMS: Final[dict[str, Pattern]] = {
    "complex numbers": (
        (
            "Positions are complex numbers here: a left turn multiplies the heading by 1j, and the "
            "walk of $number_of instructions closes if the sum of all steps is 0.",
            "In the complex plane, turning left is multiplication by 1j. I add up the $paces paces "
            "and compare with the start.",
        ),
        _WALK
        + """
print("Yes" if $position == 0 else "No")
""",
    ),
    "grid": (
        (
            "I walk on a grid with four compass directions and compare the last square with the "
            "first. There are $number_of instructions.",
            "A simulation on integer coordinates: the heading is 0 to 3 clockwise, and a step to a "
            "side is a step in a shifted direction.",
        ),
        """
# Directions clockwise, starting with the one that I face.
offsets = [(0, 1), (1, 0), (0, -1), (-1, 0)]
clockwise = {"forward": 0, "right": 1, "backward": 2, "around": 2, "left": 3}
$x = $y = $heading = 0
for action, where, $count in $rows:
    if action == "turn":
        $heading = ($heading + clockwise[where]) % 4
    else:
        dx, dy = offsets[($heading + clockwise[where]) % 4]
        $x += $count * dx
        $y += $count * dy
print("Yes" if ($x, $y) == (0, 0) else "No")
""",
    ),
    "read the sentences": (
        (
            "I let the script read the instructions as they are written and track position and "
            "heading.",
            "The sentences have a fixed form, so regular expressions can parse them; then it is "
            "vector addition of the $paces paces.",
        ),
        """
import re

text = \"\"\"$text\"\"\"
$x, $y = 0, 0
dx, dy = 0, 1
for turn, $count, side in re.findall(r"Turn (\\w+)|Take (\\d+) steps?(?: (\\w+))?", text):
    if turn == "left":
        dx, dy = -dy, dx
    elif turn == "right":
        dx, dy = dy, -dx
    elif turn == "around":
        dx, dy = -dx, -dy
    else:
        ways = {"backward": (-dx, -dy), "left": (-dy, dx), "right": (dy, -dx)}
        to_x, to_y = ways.get(side, (dx, dy))  # forward where no side is named
        $x += int($count) * to_x
        $y += int($count) * to_y
print("Yes" if $x == $y == 0 else "No")
""",
    ),
    "balance": (
        (
            "I return only if the paces in opposite directions cancel. So I add up how far I go in "
            "each of the four directions.",
            "Totals for each of the four directions suffice: front against back, left against "
            "right.",
        ),
        """
from collections import Counter

totals = Counter()
quarter = {"forward": 0, "left": 1, "backward": 2, "around": 2, "right": 3}
$heading = 0  # quarter turns to the left
for action, where, $count in $rows:
    if action == "turn":
        $heading += quarter[where]
    else:
        totals[($heading + quarter[where]) % 4] += $count
print("Yes" if totals[0] == totals[2] and totals[1] == totals[3] else "No")
""",
    ),
}

_CHECK_WORDS: Final = (
    "I walk the instructions backwards from the start: whoever returns in one direction returns in "
    "the other as well.",
    "The reversed walk must agree with the answer $answer.",
)
_CHECK: Final = """
claimed = $claimed
$moves = $rows
$position, $heading = 0, 1
turn = {"left": 1j, "around": -1, "right": -1j}
side = {"forward": 1, "left": 1j, "backward": -1, "right": -1j}
for action, where, $count in reversed($moves):
    if action == "turn":
        $heading /= turn[where]
    else:
        $position -= $count * $heading * side[where]
print(($position == 0) == claimed)
"""

_TRAIL_WORDS: Final = (
    "First the places that the walk comes through.",
    "I print the position after each of the $number_of instructions.",
)
_TRAIL: Final = (
    _WALK
    + """
    print(action, where, "->", (int($position.real), int($position.imag)))
"""
)

_LINE_WORDS: Final = (
    "The paces along one line: forward counts as plus, backward as minus, turning around changes "
    "the sign.",
    "I keep a single signed distance over the $number_of instructions.",
)
_LINE: Final = """
distance, sign = 0, 1
for action, where, $count in $rows:
    if where == "around":
        sign = -sign
    elif action == "step":
        distance += -sign * $count if where in ("backward", "right") else sign * $count
print("Yes" if distance == 0 else "No")
"""

_QUARTERS_WORDS: Final = (
    "Left and right turns change the heading by a quarter; I add up the $paces paces as vectors.",
    "With complex numbers a turn is a factor 1j or -1j, and the $number_of instructions are a sum.",
)
_QUARTERS: Final = """
turn = {"left": 1j, "right": -1j}
side = {"forward": 1, "left": 1j, "backward": -1, "right": -1j}
$position, $heading = 0, 1j
for action, where, $count in $rows:
    if action == "turn":
        $heading *= turn.get(where, 1)
    else:
        $position += $count * $heading * side[where]
print("Yes" if $position == 0 else "No")
"""

_FACING_WORDS: Final = (
    "I am back if position and heading are those of the beginning.",
    "The walk is closed if it ends where it began, facing the same way, after $paces paces.",
)
_FACING: Final = (
    _WALK
    + """
print("Yes" if ($position, $heading) == (0, 1j) else "No")
"""
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk:
    """The instructions: (`turn` or `step`, the direction, the number of steps)."""

    text: str
    moves: tuple[tuple[str, str, int], ...]

    def position(self) -> tuple[int, int]:
        """Return how far to the right of the start and before it the walk ends."""
        return self.trail()[-1]

    def trail(self, turns: Mapping[str, int] = _TURNS) -> list[tuple[int, int]]:
        """Return the position after every instruction; turns are in quarters to the left."""
        place, heading, places = 0j, 1j, [(0, 0)]
        for action, where, count in self.moves:
            if action == "turn":
                heading *= 1j ** turns[where]
            else:
                place += count * heading * 1j ** _SIDES[where]
            places.append((round(place.real), round(place.imag)))
        return places

    def is_turned(self) -> bool:
        """Return True if the walk ends facing another way than it began."""
        return sum(_TURNS[where] for action, where, _ in self.moves if action == "turn") % 4 != 0

    def is_off_line(self) -> bool:
        """Return True if the signed paces along a line do not add up to 0."""
        distance, sign = 0, 1
        for action, where, count in self.moves:
            if where == "around":
                sign = -sign
            elif action == "step":
                distance += sign * (-count if where in ("backward", "right") else count)
        return distance != 0


class Navigate(YesNoTeacher[Walk]):
    """Follows the instructions."""

    task = "bbh_navigate"
    forms = tuple(_FORMS)
    names = _NAMES
    patterns = _FORMS
    checking = (_CHECK_WORDS, _CHECK)
    exploring = (_TRAIL_WORDS, _TRAIL)

    @override
    def parse(self, question: str) -> Walk:
        found = match(
            r"If you follow these instructions, do you return to the starting point\? (.+)",
            read_body(question),
        )
        moves: list[tuple[str, str, int]] = []
        for sentence in re.split(r"(?<=\.) ", found[1]):
            if sentence == "Always face forward.":
                continue
            turn = re.fullmatch(r"Turn (left|right|around)\.", sentence)
            step = re.fullmatch(r"Take (\d+) steps?(?: (forward|backward|left|right))?\.", sentence)
            if turn is not None:
                moves.append(("turn", turn[1], 0))
            elif step is not None:
                moves.append(("step", step[2] or "forward", int(step[1])))
            else:
                raise UnreadableQuestionError(f"an unknown instruction: {sentence!r}")
        return Walk(text=found[1], moves=tuple(moves))

    @override
    def values(self, data: Walk, rng: random.Random) -> dict[str, object]:
        rows = [f"({quote(a)}, {quote(b)}, {n})" for a, b, n in data.moves]
        return {
            "rows": wrap_items(rows, "[", "]"),
            "text": "\n".join(line.strip() for line in fold(data.text, after=". ")),
            "number_of": len(data.moves),
            "paces": sum(n for _, _, n in data.moves),
        }

    @override
    def first_attempt(self, data: Walk, rng: random.Random) -> Step | None:
        home = data.position() == (0, 0)
        quarters = data.trail({**_TURNS, "around": 0})[-1] == (0, 0)
        slips: list[Pattern] = []
        if quarters != home:
            slips.append((_QUARTERS_WORDS, _QUARTERS))
        if home and data.is_turned():
            slips.append((_FACING_WORDS, _FACING))
        if data.is_off_line() == home:
            slips.append((_LINE_WORDS, _LINE))
        return self._fill(data, rng.choice(slips), {}, rng) if slips else None

    @override
    def in_words(self, data: Walk, rng: random.Random) -> tuple[str, str]:
        lines = []
        heading = 0
        compass = ("north", "west", "south", "east")
        for (action, where, count), place in zip(data.moves, data.trail()[1:], strict=True):
            if action == "turn":
                heading = (heading + _TURNS[where]) % 4
                lines.append(f"Turn {where}: now I face {compass[heading]}.")
            else:
                way = compass[(heading + _SIDES[where]) % 4]
                lines.append(f"{count} {way}: I am at {place}.")
        opening = rng.choice(
            (
                "I start at (0, 0) and face north; the first coordinate grows to the east.",
                "Let north be where I look at first, and (east, north) my position from (0, 0).",
            )
        )
        home = data.position() == (0, 0)
        last = f"The end is {data.position()}, " + (
            "the start." if home else "which is not the start."
        )
        return "\n".join([opening, *lines, last]), "Yes" if home else "No"


TEACHERS: tuple[Teacher[Any], ...] = (Navigate(),)
