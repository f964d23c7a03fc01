"""Phrases and scripts of the teacher of logical_deduction_seven_objects."""

from typing import Final

from r1ci_jax.teachers.template_teacher import Pattern

NAMES: Final = {
    "order": ("order", "arrangement", "row", "lineup"),
    "pairs": ("before", "comparisons", "pairs", "earlier_later"),
    "known": ("fixed", "known", "given_place", "certain"),
    "item": ("item", "x", "candidate"),
}

FORMS: Final[dict[str, Pattern]] = {
    "permutations": (
        (
            "Seven objects have only 5040 orders, so I test all of them. Places are numbered "
            "$direction; place $place is asked for.",
            "I number the places 1 to $size $direction and search all permutations for the one "
            "that meets the $orderings and $placings.",
            "Brute force is enough: every permutation gives each object a place, and the clues are "
            "comparisons of places.",
        ),
        """
from itertools import permutations

items = $items
for $order in permutations(items):
    $table = {$item: k for k, $item in enumerate($order, 1)}
    if (
        $conditions
    ):
        print($order[$index])
""",
    ),
    "backtracking": (
        (
            "I fill the places $direction one after another; an object may come next only if all "
            "that must precede it are already there.",
            "Backtracking over the $size places prunes early: stated places and the $orderings "
            "comparisons are tested with every object that is placed.",
        ),
        """
items = $items
# The first of each pair comes before the second.
$pairs = $before
# Places from 1, $direction.
$known = $fixed


def fill($order):
    if len($order) == len(items):
        return $order
    for $item in items:
        if $item in $order or $known.get($item, len($order) + 1) != len($order) + 1:
            continue
        if all(a in $order for a, b in $pairs if b == $item):
            found = fill([*$order, $item])
            if found:
                return found
    return None


print(fill([])[$index])
""",
    ),
    "insertion": (
        (
            "I insert the objects one by one everywhere the $orderings permit, and "
            "keep the complete orders with the stated places.",
            "Growing partial orders: each new object is put in all positions that no comparison "
            "forbids. The $placings decide at the end.",
        ),
        """
# The first of each pair comes before the second.
$pairs = $before
# Places from 1, $direction.
$known = $fixed


def fits($order):
    return all(
        $order.index(a) < $order.index(b)
        for a, b in $pairs
        if a in $order and b in $order
    )


orders = [[]]
for $item in $items:
    longer = [o[:k] + [$item] + o[k:] for o in orders for k in range(len(o) + 1)]
    orders = [$order for $order in longer if fits($order)]
for $order in orders:
    if all($order[k - 1] == $item for $item, k in $known.items()):
        print($order[$index])
""",
    ),
    "clue functions": (
        (
            "Each clue becomes a small function of the places, which run $direction. The one order "
            "that satisfies all of them answers the question.",
            "I write the $orderings and $placings as a list of tests and "
            "filter the permutations with it.",
        ),
        """
from itertools import permutations

items = $items
clues = [
$clues
]
solutions = []
for numbers in permutations(range(1, len(items) + 1)):
    $table = dict(zip(items, numbers))
    if all(clue($table) for clue in clues):
        solutions.append($table)
assert len(solutions) == 1
print(next($item for $item, k in solutions[0].items() if k == $place))
""",
    ),
}

CHECK_WORDS: Final = (
    "If the answer is forced, every order that fits the clues has $answer in place $place, and at "
    "least one fits.",
    "I look for a counterexample: an order that meets the clues with something other than $answer "
    "in place $place.",
)
CHECK: Final = """
from itertools import permutations

claimed = $claimed
$pairs = $before
$known = $fixed
items = $items
fitting = [
    $order for $order in permutations(items)
    if all($order.index(a) < $order.index(b) for a, b in $pairs)
    and all($order[k - 1] == $item for $item, k in $known.items())
]
print(bool(fitting) and all($order[$index] == claimed for $order in fitting))
"""

COUNT_WORDS: Final = (
    "First how many of the 5040 orders each clue leaves.",
    "I apply the clues one at a time and count the orders that survive.",
)
COUNT: Final = """
from itertools import permutations

items = $items
$pairs = $before
$known = $fixed
orders = list(permutations(items))
for $item, k in $known.items():
    orders = [$order for $order in orders if $order[k - 1] == $item]
    print($item, "in place", k, "leaves", len(orders))
for a, b in $pairs:
    orders = [o for o in orders if o.index(a) < o.index(b)]
    print(a, "before", b, "leaves", len(orders))
"""

SLIP_WORDS: Final = (
    "I search the orders $direction and print what stands in place $place.",
    "I generate all orders of the $size objects, keep the one that fits, and index it with $place.",
)
SLIP: Final = """
from itertools import permutations

items = $items
$pairs = $before
$known = $fixed
for $order in permutations(items):
    in_order = all($order.index(a) < $order.index(b) for a, b in $pairs)
    if in_order and all($order[k - 1] == $item for $item, k in $known.items()):
        print($order[$place])
"""
