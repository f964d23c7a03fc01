"""Bootstrap intervals of a mean over tasks: about other questions, or about other tasks.

Resampling the questions within each task says how far the mean would move with other questions of
the same tasks. Resampling whole tasks says how far it would move with other tasks of the same kind,
the questions' part in it included. Both are percentile intervals that hold 95 of 100 resampled
means, widened by Bessel's correction: of five questions resampling shows four fifths of the
variance. The draws have a fixed seed, so the same results have the same intervals.

Where all answers are right, or all wrong, every resampled mean is the same and the interval has no
width: `intervals.mean_of_tasks` is the one to read there.
"""

from collections.abc import Callable, Collection, Sequence
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
    counts = [np.array([each for each in task if each.n], np.float64) for task in tasks]
    return _over_questions(counts, _fraction, (0, 1), draws)


def over_tasks(tasks: Sequence[Collection[Counts]], *, draws: int = DRAWS) -> Interval | None:
    """Return the interval of the mean for other tasks; None of a single one, which tells nothing.

    Tasks without an answer must have been left out.
    """
    if len(tasks) < 2:
        return None
    fractions = np.array([sum(q.correct for q in task) / sum(q.n for q in task) for task in tasks])
    random = np.random.default_rng(_SEED)
    return _percentiles(_resampled_means(fractions, random, draws), (0, 1))


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
    return _over_questions(
        [_columns(task) for task in tasks],
        lambda counts: _fraction(counts[..., 2:]) - _fraction(counts[..., :2]),
        (-1, 1),
        draws,
    )


def _fraction(n_and_correct: np.ndarray) -> np.ndarray:
    return n_and_correct[..., 1] / n_and_correct[..., 0]


def _columns(task: Collection[Pair]) -> np.ndarray:
    """Return the columns n and correct of before, then of after, a row per question."""
    return np.array([(*pair.before, *pair.after) for pair in task], np.float64)


def _over_questions(
    tasks: Sequence[np.ndarray],
    of_counts: Callable[[np.ndarray], np.ndarray],
    bounds: tuple[int, int],
    draws: int,
) -> Interval:
    """Resample the questions, the rows of each task, and take the mean over tasks of `of_counts`.

    A single question does not say how far others of its task are from it. Tasks that have no more
    are resampled among each other, which makes the interval too wide rather than too narrow; one
    that is alone in this may have any value.
    """
    random = np.random.default_rng(_SEED)
    sums = np.zeros(draws)
    for counts in tasks:
        if len(counts) > 1:
            chosen = counts[random.integers(len(counts), size=(draws, len(counts)))].sum(axis=1)
            mean = of_counts(counts.sum(axis=0))
            sums += _widened(of_counts(chosen), mean, len(counts))
    alone = [counts for counts in tasks if len(counts) == 1]
    if len(alone) > 1:
        sums += len(alone) * _resampled_means(of_counts(np.concatenate(alone)), random, draws)
    elif alone:
        sums += random.choice(bounds, size=draws)
    return _percentiles(sums / len(tasks), bounds)


def _resampled_means(values: np.ndarray, random: np.random.Generator, draws: int) -> np.ndarray:
    chosen = values[random.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    return _widened(chosen, values.mean(), len(values))


def _widened(drawn: np.ndarray, mean: np.ndarray | float, count: int) -> np.ndarray:
    """Make up for the spread that resampling lacks: it has (count - 1) / count of the variance."""
    return mean + (drawn - mean) * np.sqrt(count / (count - 1))


def _percentiles(means: np.ndarray, bounds: tuple[int, int]) -> Interval:
    low, high = np.clip(np.percentile(means, [_TAIL, 100 - _TAIL]), *bounds)
    return Interval(100 * float(low), 100 * float(high))
