"""Phrases and scripts of the teacher of reasoning_about_colored_objects, by kind of question."""

from typing import Final

from r1ci_jax.teachers.template_teacher import Pattern

NAMES: Final = {
    "row": ("row", "things", "objects", "line"),
    "color": ("color", "shade", "c"),
    "name": ("name", "thing", "what"),
    "n": ("n", "count", "number"),
    "place": ("place", "index", "position", "i"),
}

DATA: Final[dict[str, str]] = {
    "tuples": "$row = $pairs\n",
    "lists": "colors = $colors\nnames = $all_names\n",
    "sentence": """import re

sentence = $text
numbers = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
entries = re.findall(r"(\\w+) (\\w+) ([^,]+?)(?:, and |, | and |$$)", sentence)
""",
}


Kind = tuple[tuple[str, ...], dict[str, str]]
"""The phrases for a kind of question, and the script of each form."""


def _removal(words: tuple[str, ...], *, stays: str, left: str, singular: str, plural: str) -> Kind:
    """Return the kind that counts what remains, from the conditions on what is counted."""
    return words, {
        "tuples": f"""
remaining = [entry for entry in $row if {stays}]
print(sum($n for $n, $color, $name in remaining if {left}))
""",
        "lists": f"""
total = 0
for $n, $color, $name in zip(counts, colors, names):
    if {singular}:
        total += $n
print(total)
""",
        "sentence": f"""
total = 0
for number, $color, $name in entries:
    if {plural}:
        total += numbers[number]
print(total)
""",
    }


SCRIPTS: Final[dict[str, Kind]] = {
    "is": (
        (
            "I look up the color of the $thing and compare it with $asked.",
            "Only the $thing matters: is it $asked or not?",
        ),
        {
            "tuples": """
for $color, $name in $row:
    if $name == "$thing":
        print("yes" if $color == "$asked" else "no")
""",
            "lists": """
found = colors[names.index("$thing")]
print("yes" if found == "$asked" else "no")
""",
            "sentence": """
color_of = {name: color for _, color, name in entries}
print("yes" if color_of["$thing"] == "$asked" else "no")
""",
        },
    ),
    "what": (
        (
            "The color of the $thing can be read off the list of $size things.",
            "I look for the $thing and print its color.",
        ),
        {
            "tuples": """
color_of = {$name: $color for $color, $name in $row}
print(color_of["$thing"])
""",
            "lists": """
print(colors[names.index("$thing")])
""",
            "sentence": """
for _, $color, $name in entries:
    if $name == "$thing":
        print($color)
""",
        },
    ),
    "end": (
        (
            "The $size things stand in the order of the sentence from left to right, so the "
            "$side-most one is the $end of the list.",
            "The list runs from left to right; I take its $end element.",
        ),
        {
            "tuples": """
$color, $name = $row[$end_index]
print($color)
""",
            "lists": """
print(colors[$end_index])
""",
            "sentence": """
_, $color, $name = entries[$end_index]
print($color)
""",
        },
    ),
    "next": (
        (
            "I find the $reference in the row of $size and look at its neighbor to the $side.",
            "The row is given from left to right: directly to the $side of the $reference means "
            "one place $further.",
        ),
        {
            "tuples": """
for $place, ($color, $name) in enumerate($row):
    if $is_reference:
        print($row[$place $step][0])
""",
            "lists": """
$place = $index_reference
print(colors[$place $step])
""",
            "sentence": """
$row = [($color, $name) for _, $color, $name in entries]
$place = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
print($row[$place $step][0])
""",
        },
    ),
    "furthest": (
        (
            "The thing furthest from the $reference is the one whose index differs most from its "
            "index in the row of $size.",
            "Distance in a row is the difference of the indices; I take the largest one from the "
            "$reference.",
        ),
        {
            "tuples": """
start = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
$place = max(range(len($row)), key=lambda k: abs(k - start))
print($row[$place][0])
""",
            "lists": """
start = $index_reference
distances = [abs(k - start) for k in range(len(colors))]
print(colors[distances.index(max(distances))])
""",
            "sentence": """
$row = [($color, $name) for _, $color, $name in entries]
start = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
# The furthest one stands at one of the two ends.
print($row[-1][0] if len($row) - 1 - start > start else $row[0][0])
""",
        },
    ),
    "side": (
        (
            "Of the $size things I take those to the $side of the $reference and count the ones "
            "that are not $asked.",
            "I cut the row at the $reference, keep the part to its $side, and count what is not "
            "$asked.",
        ),
        {
            "tuples": """
$place = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
print(sum($color != "$asked" for $color, $name in $row[$slice]))
""",
            "lists": """
$place = $index_reference
part = colors[$slice]
print(len(part) - part.count("$asked"))
""",
            "sentence": """
$row = [($color, $name) for _, $color, $name in entries]
$place = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
print(len([$color for $color, $name in $row[$slice] if $color != "$asked"]))
""",
        },
    ),
    "neither": (
        (
            "I add up the numbers of all things whose color is neither $asked nor $asked_too.",
            "Everything counts except what is $asked or $asked_too.",
        ),
        {
            "tuples": """
print(sum($n for $n, $color, $name in $row if $color not in ("$asked", "$asked_too")))
""",
            "lists": """
total = 0
for $n, $color in zip(counts, colors):
    if $color != "$asked" and $color != "$asked_too":
        total += $n
print(total)
""",
            "sentence": """
total = 0
for number, $color, $name in entries:
    if $color not in {"$asked", "$asked_too"}:
        total += numbers[number]
print(total)
""",
        },
    ),
    "remove thing": _removal(
        (
            "Without the $things, only the other $asked things remain; I add up their numbers.",
            "What remains is everything but the $things. Of that I count what is $asked.",
        ),
        stays='entry[2] != "$thing"',
        left='$color == "$asked"',
        singular='$color == "$asked" and $name != "$thing"',
        plural='$color == "$asked" and $name not in ("$thing", "$things")',
    ),
    "remove color": _removal(
        (
            "When everything $asked is gone, the $things of the other colors remain.",
            "I count the $things that are not $asked.",
        ),
        stays='entry[1] != "$asked"',
        left='$name == "$thing"',
        singular='$color != "$asked" and $name == "$thing"',
        plural='$color != "$asked" and $name in ("$thing", "$things")',
    ),
}

LISTING: Final[Pattern] = (
    (
        "First the row with its places from left to right.",
        "I number the $size things as they stand.",
    ),
    """
for $place, ($color, $name) in enumerate($pairs):
    print($place, $color, $name)
""",
)
TOTALS: Final[Pattern] = (
    (
        "First how many things there are of each color.",
        "I total the colors before I answer.",
    ),
    """
from collections import Counter

totals = Counter()
for $n, $color, $name in $pairs:
    totals[$color] += $n
print(dict(totals))
""",
)

OTHERS: Final = {
    "neither": '$color in ("$asked", "$asked_too")',
    "remove thing": '$color != "$asked" or $name == "$thing"',
    "remove color": '$color == "$asked" or $name != "$thing"',
}
"""The conditions on what is not counted."""
COMPLEMENT: Final[Pattern] = (
    (
        "From the other side: all things less those that do not count must be $answer.",
        "I take away what does not count from the whole; $answer must be left.",
    ),
    """
$row = $pairs
everything = sum($n for $n, $color, $name in $row)
others = sum($n for $n, $color, $name in $row if $other)
print(everything - others == $answer)
""",
)

_SLIP_COUNT = (
    "I count the entries that the question is about.",
    "Of the $size entries I count those that are meant.",
)
SLIPS: Final[dict[str, Pattern]] = {
    "next": (
        (
            "I find the $reference and take the color of its neighbor in the row.",
            "The neighbor of the $reference is one place further in the row of $size.",
        ),
        """
$row = $pairs
$place = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
print($row[$place + 1][0])
""",
    ),
    "furthest": (
        (
            "The thing at the end of the row of $size is the furthest one.",
            "Furthest from the $reference is the last thing.",
        ),
        """
$row = $pairs
print($row[-1][0])
""",
    ),
    "side": (
        (
            "I count what stands to the $side of the $reference.",
            "The row of $size is cut at the $reference; I count the part to its $side.",
        ),
        """
$row = $pairs
$place = next(k for k, ($color, $name) in enumerate($row) if $is_reference)
print(len($row[$slice]))
""",
    ),
    "counted": (
        _SLIP_COUNT,
        """
$row = $pairs
print(len([$name for $n, $color, $name in $row if not ($other)]))
""",
    ),
}
