"""Bootstrap intervals of a mean over tasks: about other questions, or about other tasks.

Resampling the questions within each task says how far the mean would move with other questions of
the same tasks. Resampling whole tasks says how far it would move with other tasks of the same kind,
the questions' part in it included. Both are percentile intervals that hold 95 of 100 resampled
means. The draws have a fixed seed, so the same results have the same intervals.

Where all answers are right, or all wrong, every resampled mean is the same and the interval has no
width: `intervals.mean_of_tasks` is the one to read there.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from r1ci_jax.evaluate.intervals import Counts

DRAWS: Final = 2000
"""Resampled means behind an interval."""
_SEED: Final = 0
_TAIL: Final = 2.5
"""Percent of the resampled means on each side of the interval."""


class Interval(NamedTuple):
    """Bounds of an interval, in percent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.1f} to {self.high:.1f}"


def over_questions(tasks: Sequence[Collection[Counts]], *, draws: int = DRAWS) -> Interval:
    """Return the interval of the mean over these tasks, for other questions of each."""
    random = np.random.default_rng(_SEED)
    means = np.zeros(draws)
    for task in tasks:
        counts = np.array([each for each in task if each.n], np.float64)
        chosen = counts[random.integers(len(counts), size=(draws, len(counts)))].sum(axis=1)
        means += chosen[:, 1] / chosen[:, 0] / len(tasks)
    return _percentiles(means)


def over_tasks(tasks: Sequence[Collection[Counts]], *, draws: int = DRAWS) -> Interval | None:
    """Return the interval of the mean for other tasks; None of a single one, which tells nothing.

    Tasks without an answer must have been left out.
    """
    if len(tasks) < 2:
        return None
    fractions = np.array([sum(q.correct for q in task) / sum(q.n for q in task) for task in tasks])
    random = np.random.default_rng(_SEED)
    chosen = random.integers(len(fractions), size=(draws, len(fractions)))
    return _percentiles(fractions[chosen].mean(axis=1))


class Pair(NamedTuple):
    """Answers of two models to one question."""

    before: Counts
    after: Counts


def means_of_pairs(tasks: Sequence[Collection[Pair]]) -> tuple[float, float]:
    """Return the mean over tasks of each of the two models, in percent."""
    sums = np.array([_columns(task).sum(axis=0) for task in tasks])
    before, after = 100 * sums[:, 1] / sums[:, 0], 100 * sums[:, 3] / sums[:, 2]
    return float(before.mean()), float(after.mean())


def of_difference(tasks: Sequence[Collection[Pair]], *, draws: int = DRAWS) -> Interval:
    """Return the interval of after - before, means over these tasks, for other questions of each.

    A drawn question brings the answers of both models: that it is hard for both moves neither.
    Every model must have an answer to every question.
    """
    random = np.random.default_rng(_SEED)
    differences = np.zeros(draws)
    for task in tasks:
        counts = _columns(task)
        n, right, n_after, right_after = (
            counts[random.integers(len(counts), size=(draws, len(counts)))].sum(axis=1).T
        )
        differences += (right_after / n_after - right / n) / len(tasks)
    return _percentiles(differences)


def _columns(task: Collection[Pair]) -> np.ndarray:
    """Return the columns n and correct of before, then of after, a row per question."""
    return np.array([(*pair.before, *pair.after) for pair in task], np.float64)


def _percentiles(means: np.ndarray) -> Interval:
    low, high = np.percentile(100 * means, [_TAIL, 100 - _TAIL])
    return Interval(float(low), float(high))
