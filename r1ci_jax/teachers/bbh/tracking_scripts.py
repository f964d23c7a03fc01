"""Phrases and scripts of the teachers of the tracking_shuffled_objects tasks."""

from typing import Final

from r1ci_jax.teachers.template_teacher import Pattern

NAMES: Final = {
    "has": ("has", "holds", "now", "state"),
    "moves": ("swaps", "trades", "exchanges"),
    "a b": ("a b", "first second", "one other", "left right"),
    "letter_of": ("letter_of", "options", "letters"),
}

FORMS: Final[dict[str, Pattern]] = {
    "dictionary": (
        (
            "A dictionary tells who has what; each of the $count swaps exchanges two of its "
            "values. At the end I look up $asked.",
            "I simulate the $count swaps among the $size people and then look up which option "
            "$asked has at the end.",
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
            "I turn it round and record for each of the $size $noun who has it; a swap "
            "exchanges two of these names.",
            "Instead of the people I follow the $noun: each of the $count swaps exchanges the "
            "names of two people. What $asked has at the end is asked for.",
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
    "Option $letter is $claim. I follow it from the person who started with it; if the option is "
    "right, it arrives at $asked.",
    "To verify $letter I follow $claim forward from where it starts; it must arrive at $asked.",
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
    "First what the two people of each of the $count swaps have after it.",
    "I print the table line by line: after each swap, what its two people have now.",
)
LOG: Final = """
$has = $start
for $a, $b in $swaps:
    $has[$a], $has[$b] = $has[$b], $has[$a]
    print(f"{$a}: {$has[$a]}, {$b}: {$has[$b]}")
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
