"""The teacher of geometric_shapes: the name of the shape that an SVG path draws."""

import dataclasses
import math
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body, read_options
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Pattern, PatternTeacher, count_noun, text_literal

_NAMES_OF_SIDES: Final = {
    1: "line",
    3: "triangle",
    5: "pentagon",
    6: "hexagon",
    7: "heptagon",
    8: "octagon",
}
_NAMES: Final = {
    "sides": ("sides", "segments", "edges"),
    "path": ("path", "d", "svg"),
    "position": ("position", "here", "pen", "current"),
}
_NUMBER_NAMES: Final = (
    '{1: "line", 3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}'
)

_READ: Final = """
import re

$path = $literal
$sides = set()
$position = None
for command, x, y in re.findall(r"([ML]) (-?[\\d.]+),(-?[\\d.]+)", $path):
    point = (float(x), float(y))
    if command == "L":
        $sides.add(frozenset([$position, point]))
    $position = point
"""

_POINTS: Final = """
import re

$path = $literal
corners = []
for x, y in re.findall(r"(-?[\\d.]+),(-?[\\d.]+)", $path):
    point = (float(x), float(y))
    if point not in corners:
        corners.append(point)
"""

_QUADRILATERAL: Final = """

def direction(a, b):
    return b[0] - a[0], b[1] - a[1]


def parallel(u, v):
    return abs(u[0] * v[1] - u[1] * v[0]) < 0.02 * math.hypot(*u) * math.hypot(*v)


vectors = [direction(corners[k], corners[(k + 1) % 4]) for k in range(4)]
lengths = [math.hypot(*v) for v in vectors]
pairs = [parallel(vectors[0], vectors[2]), parallel(vectors[1], vectors[3])]
right = abs(sum(a * b for a, b in zip(vectors[0], vectors[1]))) < 0.02 * lengths[0] * lengths[1]
if all(pairs) and right:
    print("rectangle")
elif any(pairs):
    print("trapezoid")
else:
    print("kite")
"""

_KITE: Final = """
a, b, c, e = (math.dist(corners[k], corners[(k + 1) % 4]) for k in range(4))


def same(s, t):
    return abs(s - t) < 0.05


# Neighbors of equal length: a kite. Equal opposite sides and diagonals: a rectangle.
if same(a, b) and same(c, e) or same(b, c) and same(e, a):
    print("kite")
elif same(a, c) and same(b, e) and same(math.dist(*corners[::2]), math.dist(*corners[1::2])):
    print("rectangle")
else:
    print("trapezoid")
"""

_SLOPES: Final = """
# The angle of each side, modulo 180 degrees, tells which sides are parallel.
angles = []
for k in range(4):
    (x1, y1), (x2, y2) = corners[k], corners[(k + 1) % 4]
    angles.append(math.degrees(math.atan2(y2 - y1, x2 - x1)) % 180)


def differ(s, t):
    return min(abs(s - t), 180 - abs(s - t)) > 1


open_pairs = differ(angles[0], angles[2]) + differ(angles[1], angles[3])
print({0: "rectangle", 1: "trapezoid", 2: "kite"}[open_pairs])
"""

_ARCS: Final[dict[str, str]] = {
    "count sides": """
import re

$path = $literal
lines = len(re.findall("L", $path))
arcs = len(re.findall("A", $path))
# Two radii and an arc bound a sector; arcs alone form the whole $round.
print("sector" if lines == 2 and arcs == 1 else "$round")
""",
    "corners": """
from collections import Counter

$path = $literal
commands = Counter(ch for ch in $path if ch.isalpha())
if commands["A"] and not commands["L"]:
    print("$round")
elif commands["A"] == 1 and commands["L"] == 2:
    print("sector")
""",
    "turns": """
$path = $literal
drawn = "".join(ch for ch in $path if ch in "LA")
# Around the outline, where it is begun does not matter.
shapes = {"AA": "$round", "LLA": "sector", "LAL": "sector", "ALL": "sector"}
print(shapes[drawn])
""",
}

_FORMS: Final[dict[str, str]] = {
    "count sides": _READ
    + """
name = $table
print(name[len($sides)])
""",
    "corners": _POINTS
    + """
# A closed polygon has as many corners as sides; two points make a line.
name = {2: "line", 3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
print(name[len(corners)])
""",
    "turns": _POINTS
    + """
n = len(corners)
turns = 0
for k in range(n):
    (x0, y0), (x1, y1), (x2, y2) = corners[k - 1], corners[k], corners[(k + 1) % n]
    cross = (x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1)
    turns += abs(cross) > 1e-9  # a straight passage is no corner
name = {0: "line", 3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
print(name[turns])
""",
}
_FOUR: Final = {
    "count sides": _QUADRILATERAL,
    "corners": _KITE,
    "turns": _SLOPES,
}

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "count sides": (
        "A path draws one straight side per L command; M only lifts the pen. I collect the "
        "different sides of this path of $commands commands and name the polygon.",
        "I follow the pen: M moves it, L draws. The number of distinct segments gives the name.",
    ),
    "corners": (
        "The distinct points of the path are the corners of the shape, since every M goes to where "
        "the pen already is. I count them.",
        "$commands commands, but points are repeated where the pen is set down again and where the "
        "outline closes. The distinct ones are the corners.",
    ),
    "turns": (
        "I walk around the outline and count the corners where the direction really changes, by "
        "the cross product of neighboring sides.",
        "A polygon is named after its corners. A cross product that is not zero tells that the "
        "outline turns at a point.",
    ),
}
_FOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "count sides": (
        "Four L commands: a quadrilateral. Parallel sides and right angles decide between "
        "rectangle, trapezoid and kite; vectors of the sides show both.",
        "With four sides I need more than their number: which opposite sides are parallel?",
    ),
    "corners": (
        "Four sides. I compare their lengths: neighbors in equal pairs make a kite, equal opposite "
        "sides and diagonals a rectangle.",
        "The quadrilateral's side lengths tell a kite from a rectangle; otherwise it is a "
        "trapezoid.",
    ),
    "turns": (
        "For the four sides I compute the angle of each: two pairs of parallels, one or none.",
        "The shape has four sides; how many pairs of opposite sides are parallel decides its name.",
    ),
}
_ARC_WORDS: Final = (
    "The path has arc commands (A, an elliptical arc). What matters is whether straight lines "
    "bound the shape as well.",
    "A is SVG's elliptical arc. Arcs alone form the whole $round; with two straight radii it is a "
    "sector.",
    "I count the drawing commands: L for straight lines and A for elliptical arcs.",
)

_CHECK: Final = (
    _READ
    + """
# In a polygon every corner belongs to exactly two sides; a line is a single side.
claimed = {"line": 1, "triangle": 3, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8}
corners = [point for side in $sides for point in side]
closed = all(corners.count(point) == 2 for point in corners) or len($sides) == 1
print(closed and len($sides) == claimed["$answer"])
"""
)
_CHECK_WORDS: Final = (
    "Is it really a closed outline? Each corner of a polygon must lie on two sides, and the number "
    "of sides must be that of the $answer.",
    "I verify that the sides close up and that their number suits a $answer.",
)

_LIST: Final = (
    _READ.replace("import re", "import math\nimport re")
    + """
lengths = [round(math.dist(*side), 2) for side in $sides]
print(len(lengths), "sides of length", lengths)
"""
)
_LIST_WORDS: Final = (
    "First the sides themselves, with their lengths.",
    "I look at the segments that the path draws.",
)

_SLIP: Final = """
import re

$path = $literal
points = re.findall(r"[ML] (-?[\\d.]+),(-?[\\d.]+)", $path)
name = $quad_table
print(name[len(points)])
"""
_SLIP_WORDS: Final = (
    "Every point of the path is a corner, so I count the points.",
    "I count the coordinates in the path and name the polygon.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Path:
    """The path of the SVG element, and the names to choose from."""

    text: str
    options: dict[str, str]

    @property
    def arcs(self) -> bool:
        """Whether the path has arcs."""
        return "A" in self.text

    @property
    def round(self) -> str:
        """The name of a closed outline of arcs (A, elliptical arcs), of those to choose from."""
        return "ellipse" if "ellipse" in self.options.values() else "circle"

    def sides(self) -> set[frozenset[tuple[str, str]]]:
        """Return the different straight sides."""
        sides, here = set(), ("", "")
        for command, x, y in re.findall(r"([ML]) (-?[\d.]+),(-?[\d.]+)", self.text):
            if command == "L":
                sides.add(frozenset([here, (x, y)]))
            here = (x, y)
        return sides


class GeometricShapes(PatternTeacher[Path]):
    """Names the shape."""

    task = "bbh_geometric_shapes"
    forms = tuple(_FORMS)
    names = _NAMES
    checking = (_CHECK_WORDS, _CHECK)
    exploring = (_LIST_WORDS, _LIST)
    slip = (_SLIP_WORDS, _SLIP)

    @override
    def parse(self, question: str) -> Path:
        found = match(
            r'This SVG path element <path d="([-MLA\d., ]+)"/> draws a', read_body(question)
        )
        path = Path(text=found[1], options=read_options(question))
        if not path.arcs and len(path.sides()) not in {4, *_NAMES_OF_SIDES}:
            raise UnreadableQuestionError("a polygon with an unknown number of sides")
        return path

    @override
    def values(self, data: Path, rng: random.Random) -> dict[str, object]:
        pieces = re.findall(r"(?:[MLA][^MLA]*){1,4}", data.text)
        return {
            "literal": text_literal(pieces),
            "commands": len(re.findall("[MLA]", data.text)),
            "round": data.round,
            "table": _NUMBER_NAMES,
            "quad_table": _NUMBER_NAMES.replace('1: "line"', '4: "kite"'),
        }

    @override
    def pattern_of(self, data: Path, form: str) -> Pattern:
        if data.arcs:
            return _ARC_WORDS, _ARCS[form]
        if len(data.sides()) == 4:
            template = _POINTS.replace("import re", "import math\nimport re") + _FOUR[form]
            return _FOUR_WORDS[form], template
        return _WORDS[form], _FORMS[form]

    @override
    def check(self, data: Path, answer: str, rng: random.Random) -> Step | None:
        if data.arcs or len(data.sides()) == 4:
            return None
        return super().check(data, answer, rng)

    @override
    def answer_values(self, data: Path, answer: str) -> dict[str, object]:
        return {"answer": answer}

    @override
    def small_case(self, data: Path, rng: random.Random) -> Step | None:
        if data.arcs:
            return None
        return super().small_case(data, rng)

    @override
    def first_attempt(self, data: Path, rng: random.Random) -> Step | None:
        if data.arcs:
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Path, rng: random.Random) -> tuple[str, str] | None:
        if data.arcs:
            lines, arcs = data.text.count("L"), data.text.count("A")
            told = count_noun(arcs, "elliptical arc")
            if not lines:
                return (
                    f"The path has no straight line (L). Its {told} (A) lead back to the start, so "
                    f"they are a whole {data.round}.",
                    data.round,
                )
            return (
                f"The path has {count_noun(lines, 'straight line')} (L) and {told} (A): two radii "
                "and the arc between them bound a sector.",
                "sector",
            )
        sides = len(data.sides())
        if sides == 4:
            return self._four_in_words(data)
        drawn = re.findall(r"L (\S+)", data.text)
        opening = rng.choice(
            ("Only the L commands draw.", "M lifts the pen and L draws a straight side.")
        )
        ends = "; ".join(f"side {k} to {point}" for k, point in enumerate(drawn, 1))
        start = match(r"M (\S+) .*", data.text)[1]
        name = _NAMES_OF_SIDES[sides]
        article = "an" if name == "octagon" else "a"
        shape = "a single segment" if sides == 1 else f"a closed outline of {sides} sides"
        return f"{opening} From {start}: {ends}. That is {shape}, {article} {name}.", name

    def _four_in_words(self, data: Path) -> tuple[str, str] | None:
        points = [
            (float(x), float(y)) for x, y in re.findall(r"L (-?[\d.]+),(-?[\d.]+)", data.text)
        ]
        lengths = [math.dist(points[k - 1], points[k]) for k in range(4)]
        told = ", ".join(f"{length:.2f}" for length in lengths)
        a, b, c, d = lengths
        if max(abs(a - b), abs(c - d)) > 0.05 and max(abs(b - c), abs(d - a)) > 0.05:
            return None
        return (
            f"The four sides have the lengths {told}: two pairs of equal neighbors, a kite.",
            "kite",
        )

    @override
    def wrong_answer(self, data: Path, answer: str, rng: random.Random) -> str:
        if data.arcs:
            return "triangle" if answer == "sector" else "sector"
        near = {4: "pentagon", 1: "triangle", 3: "sector", 5: "hexagon", 6: "heptagon"}
        return near.get(len(data.sides()), "hexagon")


TEACHERS: tuple[Teacher[Any], ...] = (GeometricShapes(),)
