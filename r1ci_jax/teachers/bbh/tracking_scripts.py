"""Phrases and scripts of the teachers of the tracking_shuffled_objects tasks."""

from typing import Final

NAMES: Final = {
    "has": ("has", "holds", "now", "state"),
    "moves": ("swaps", "trades", "exchanges"),
    "a b": ("a b", "first second", "one other", "left right"),
    "letter_of": ("letter_of", "options", "letters"),
}

FORMS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "dictionary": (
        (
            "A dictionary tells who has what; each of the $count swaps exchanges two of its "
            "values. At the end I look up $asked.",
            "I simulate the $count swaps among $size people directly and then look up the option "
            "of what $asked has.",
            "The order of the swaps matters, so I replay all $count of them on a table of who has "
            "what.",
        ),
        """
$has = $start
$moves = $swaps
for $a, $b in $moves:
    $has[$a], $has[$b] = $has[$b], $has[$a]

$letter_of = $options
print($letter_of[$has["$asked"]])
""",
    ),
    "trace one backwards": (
        (
            "Only $asked matters. Going through the $count swaps backwards tells with whom the "
            "thing that $asked has at the end started.",
            "I trace what $asked ends up with back in time: at each swap, last one first, it came "
            "from the partner.",
        ),
        """
start = $start
$moves = $swaps
owner = "$asked"
for $a, $b in reversed($moves):
    if owner == $a:
        owner = $b
    elif owner == $b:
        owner = $a

$letter_of = $options
print($letter_of[start[owner]])
""",
    ),
    "permutation": (
        (
            "The swaps compose to a permutation of the $size people. I keep the indices of the "
            "starting $noun and swap those.",
            "With indices 0 to n - 1 for the $size people, each swap is a transposition; applying "
            "all $count to the identity tells where everything went.",
        ),
        """
people = $people
held = $held
source = list(range(len(people)))  # source[i]: whose item person i has now
for $a, $b in $swaps:
    i, j = people.index($a), people.index($b)
    source[i], source[j] = source[j], source[i]

final = held[source[people.index("$asked")]]
$letter_of = $options
print($letter_of[final])
""",
    ),
    "owners": (
        (
            "I turn it round and record for every one of the $size starting items who owns it; a "
            "swap renames the two owners.",
            "Instead of people I follow the items: each of the $count swaps exchanges the owners "
            "of two items. The one owned by $asked at the end is asked for.",
        ),
        """
start = $start
owner_of = {item: person for person, item in start.items()}
for $a, $b in $swaps:
    rename = {$a: $b, $b: $a}
    owner_of = {item: rename.get(who, who) for item, who in owner_of.items()}

$letter_of = $options
for item, who in owner_of.items():
    if who == "$asked":
        print($letter_of[item])
""",
    ),
}

CHECK_WORDS: Final = (
    "I follow the item of option $letter from the person who started with it; if the option is "
    "right, $asked has it at the end.",
    "To verify $letter I send the item forward from its first owner; it must arrive at $asked.",
)
CHECK: Final = """
start = $start
claimed = $claimed
where = next(person for person, item in start.items() if item == claimed)
for $a, $b in $swaps:
    if where in ($a, $b):
        where = $b if where == $a else $a
print(where == "$asked")
"""

LOG_WORDS: Final = (
    "First a list of what changes at each of the $count swaps.",
    "I print what $asked has after each swap.",
)
LOG: Final = """
$has = $start
for $a, $b in $swaps:
    $has[$a], $has[$b] = $has[$b], $has[$a]
    print($a, "and", $b, "->", "$asked has", $has["$asked"])
"""

SLIP_WORDS: Final = (
    "I go through the $count swaps and assign each person what the other one has.",
    "A dictionary of the $noun; at each swap the two people take over from each other.",
)
SLIP: Final = """
$has = $start
for $a, $b in $swaps:
    $has[$a] = $has[$b]
    $has[$b] = $has[$a]

$letter_of = $options
print($letter_of[$has["$asked"]])
"""
