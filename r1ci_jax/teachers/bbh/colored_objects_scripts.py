"""Phrases and scripts of the teacher of reasoning_about_colored_objects, by kind of question."""

from typing import Final

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

# Of each kind of question: the phrases, then the scripts for pairs, for lists and for the sentence.
SCRIPTS: Final[dict[str, tuple[tuple[str, ...], dict[str, str]]]] = {
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
    "remove thing": (
        (
            "Without the $things, only the other $asked things remain; I add up their numbers.",
            "What remains is everything but the $things. Of that I count what is $asked.",
        ),
        {
            "tuples": """
remaining = [entry for entry in $row if entry[2] != "$thing"]
print(sum($n for $n, $color, $name in remaining if $color == "$asked"))
""",
            "lists": """
total = 0
for $n, $color, $name in zip(counts, colors, names):
    if $name != "$thing" and $color == "$asked":
        total += $n
print(total)
""",
            "sentence": """
removed = {"$thing", "$things"}
print(sum(numbers[number] for number, $color, $name in entries
          if $color == "$asked" and $name not in removed))
""",
        },
    ),
    "remove color": (
        (
            "When everything $asked is gone, the $things of the other colors remain.",
            "I count the $things that are not $asked.",
        ),
        {
            "tuples": """
remaining = [entry for entry in $row if entry[1] != "$asked"]
print(sum($n for $n, $color, $name in remaining if $name == "$thing"))
""",
            "lists": """
total = 0
for $n, $color, $name in zip(counts, colors, names):
    if $color != "$asked" and $name == "$thing":
        total += $n
print(total)
""",
            "sentence": """
wanted = {"$thing", "$things"}
print(sum(numbers[number] for number, $color, $name in entries
          if $color != "$asked" and $name in wanted))
""",
        },
    ),
}

LIST_WORDS: Final = (
    "First the row with its places from left to right.",
    "I number the $size things as they stand.",
)
LIST: Final = """
for $place, ($color, $name) in enumerate($pairs):
    print($place, $color, $name)
"""

TABLE_WORDS: Final = (
    "First how many things there are of each color.",
    "I total the colors before I answer.",
)
TABLE: Final = """
from collections import Counter

totals = Counter()
for $n, $color, $name in $pairs:
    totals[$color] += $n
print(dict(totals))
"""
