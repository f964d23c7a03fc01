"""Confidence intervals of accuracies: answers to one question are not independent.

A task's accuracy P comes from N answers to Q questions. Questions are independent of each other,
the answers to one are not, so the answers count as n independent ones, Q ≤ n ≤ N:

    V = Q / (Q - 1) · Σ_q (c_q - P n_q)² / N²    variance of P across questions
    n = P (1 - P) / V, limited to [Q, N]         Q if P is 0 or 1, where V says nothing

with c_q correct ones of n_q answers to question q. The interval of the task is Wilson's for n
answers: it stays within 0 and 1, and 6 of 6 is 61 to 100 %. The interval [l, u] of the mean of T
tasks combines theirs (Zou and Donner, Statistics in Medicine 2008):

    l = mean - sqrt(Σ_t (P_t - l_t)²) / T        u = mean + sqrt(Σ_t (u_t - P_t)²) / T
"""

import math
import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

from r1ci_jax.data import stats


class Counts(NamedTuple):
    """Answers to one question."""

    n: int
    correct: int


class Estimate(NamedTuple):
    """A mean with its uncertainty, all in percent."""

    mean: float
    standard_error: float
    """Width of the interval as a standard error: the width / 2z."""
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.interval})"

    @property
    def interval(self) -> str:
        """The interval as tables show it."""
        return f"{self.low:.1f} to {self.high:.1f}"


class Difference(NamedTuple):
    """One accuracy less another with its interval, in points of percent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def effective_count(questions: Collection[Counts]) -> float:
    """Compute the number of independent answers that these are worth.

    Four answers to each of three questions, all right, all wrong, all right: worth three.

    >>> effective_count([Counts(4, 4), Counts(4, 0), Counts(4, 4)])
    3.0
    """
    asked = [each for each in questions if each.n]
    num_questions, total = len(asked), sum(each.n for each in asked)
    p = sum(each.correct for each in asked) / total
    if num_questions == 1 or p in (0, 1):
        return float(num_questions)
    squares = sum((each.correct - p * each.n) ** 2 for each in asked)
    variance = num_questions / (num_questions - 1) * squares / total**2
    # Less than independent answers would vary: chance, or the same score for every question.
    if variance * total <= p * (1 - p):
        return float(total)
    return max(p * (1 - p) / variance, float(num_questions))


def mean_of_tasks(tasks: Sequence[Collection[Counts]]) -> Estimate:
    """Estimate the mean over tasks of their accuracies, each from the counts of its questions."""
    fractions = [sum(q.correct for q in task) / sum(q.n for q in task) for task in tasks]
    bounds = [
        stats.wilson(p, effective_count(task)) for p, task in zip(fractions, tasks, strict=True)
    ]
    mean = statistics.fmean(fractions)
    pairs = list(zip(fractions, bounds, strict=True))
    low = mean - math.sqrt(sum((p - low) ** 2 for p, (low, _) in pairs)) / len(tasks)
    high = mean + math.sqrt(sum((high - p) ** 2 for p, (_, high) in pairs)) / len(tasks)
    low, high = max(low, 0.0), min(high, 1.0)  # of rounding
    return Estimate(100 * mean, 100 * (high - low) / (2 * stats.Z), 100 * low, 100 * high)
