"""How many groups have signal, both correct and wrong answers, against what pass rates let expect.

If the G answers to a question were independent and each correct with probability p, its group would
have signal with probability

    1 - p^G - (1-p)^G

A group has a policy gradient if its rewards differ; with terms for format and turns they may do so
without signal.

For p the potential's pass rate of the question is taken, which the SFT model had when it was
measured; so the difference also shows how far the policy has moved since. Where a question has
none, p is the pass rate of its task in the step's batch.
"""

import collections
from collections.abc import Mapping, Sequence

from r1ci_jax.data.records import GradedExample
from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.trajectory import Trajectory

type Grades = Mapping[str, GradedExample]
"""Questions with their potential, by id; questions without one are missing."""


def expected_signal_fraction(pass_rate: float, size: int) -> float:
    """Compute 1 - p^G - (1-p)^G; 0 for fewer than two answers.

    >>> expected_signal_fraction(0.5, 5), expected_signal_fraction(1.0, 5)
    (0.9375, 0.0)
    """
    return 1 - pass_rate**size - (1 - pass_rate) ** size if size > 1 else 0.0


def pass_rates(trajectories: Sequence[Trajectory], grades: Grades) -> dict[str, float]:
    """Return the pass rate p of each question of a batch, by its id."""
    answers: dict[str, list[bool]] = collections.defaultdict(list)
    for one in trajectories:
        if one.is_valid:
            answers[one.task].append(one.correct)
    rates: dict[str, float] = {}
    for one in trajectories:
        if one.example_id in grades:
            rates[one.example_id] = grades[one.example_id].accuracy
        elif scores := answers[one.task]:
            rates[one.example_id] = sum(scores) / len(scores)
    return rates


def measure(trajectories: Sequence[Trajectory], rates: Mapping[str, float]) -> dict[str, float]:
    """Measure the groups of a batch or a part of it, under the names of docs/metrics.md.

    Args:
        trajectories: Complete groups, as they were sampled.
        rates: Result of `pass_rates` for the whole batch.
    """
    groups = group_selection.by_group(trajectories)
    with_signal = unequal = expected = 0.0
    for members in groups:
        valid = [one for one in members if one.is_valid]
        with_signal += len({one.correct for one in valid}) > 1
        unequal += len({one.reward for one in valid}) > 1
        expected += expected_signal_fraction(rates.get(members[0].example_id, 0.0), len(valid))
    count = max(len(groups), 1)
    return {
        "group/signal_fraction": with_signal / count,
        "group/unequal_reward_fraction": unequal / count,
        "group/expected_signal_fraction": expected / count,
    }


def measure_trained(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Measure the groups that a step trained on; nothing where there are none."""
    groups = group_selection.by_group(trajectories)
    if not groups:
        return {}
    equal = sum(len({one.reward for one in members if one.is_valid}) < 2 for members in groups)
    return {"group/zero_advantage_fraction": equal / len(groups)}
