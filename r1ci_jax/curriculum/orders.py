"""Orders in which reinforcement learning sees the questions, all behind one interface.

An order says which group each question is in; stage s trains on groups 1 to s. So all orders have
the same stages, steps and rollouts, and differ in the questions alone:

    curriculum     by potential, in the groups of potential.lower_bounds (paper section 4.2)
    online         the same, measured again with the current policy (online.py)
    equal_groups   by potential from the largest down, in groups of equal size
    difficulty     by the level of the question from the lowest up, in groups of equal size
    accuracy       by the SFT model's pass rate p from the highest down, in groups of equal size
    random_subset  at random, in groups as large as those of `curriculum`: its control
    uniform        every stage trains on all questions (paper: "w/o curriculum")

The paper speaks of "equally sized" groups and gives thresholds that cannot be so exactly; its
ablation "w/o IP" sorts by difficulty and does not say by which: `difficulty` and `accuracy` are
the two readings. Questions that an order takes for equal are dealt out at random.
"""

import collections
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1ci_jax.config import Order
from r1ci_jax.data.records import GradedExample

_KEYS: Mapping[Order, Callable[[GradedExample], Any]] = {
    "equal_groups": lambda each: -each.potential,
    "difficulty": lambda each: each.example.difficulty,
    "accuracy": lambda each: -each.accuracy,
    "random_subset": lambda _: 0,
}
"""Sort keys of the orders that do not keep the measured groups."""


def keeps_groups(order: Order) -> bool:
    """Return True if the order's groups are those that the potential stage stored."""
    return order not in _KEYS


def regroup(
    order: Order, graded: Sequence[GradedExample], *, num_groups: int, seed: int
) -> list[GradedExample]:
    """Put the questions into the groups of an order that does not keep the measured ones.

    The result depends on the questions and the seed, not on the sequence that they come in.
    """
    rows = sorted(graded, key=lambda each: each.example.id)
    random.Random(seed).shuffle(rows)
    rows.sort(key=_KEYS[order])
    if order == "random_subset":
        counts = collections.Counter(each.group for each in graded)
        groups = [g for g in range(1, num_groups + 1) for _ in range(counts[g])]
    else:
        groups = [1 + rank * num_groups // len(rows) for rank in range(len(rows))]
    return [dataclasses.replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
