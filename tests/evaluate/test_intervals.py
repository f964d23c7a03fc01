"""Intervals by hand, and how often they hold the true value."""

import itertools
import math
import random
import statistics

import pytest

from r1ci_jax.evaluate import intervals
from r1ci_jax.evaluate.intervals import Counts


@pytest.mark.parametrize(
    ("questions", "worth"),
    [
        # One answer a question: as many as there are.
        ([(1, 1), (1, 0), (1, 0), (1, 1), (1, 1)], 5),
        # P = .5; Σ (c - 2)² = 16; V = 4/3 · 16/256 = 1/12; .25 / V = 3, at least the 4 questions.
        ([(4, 4), (4, 0), (4, 0), (4, 4)], 4),
        # P = .5; Σ (c - 2)² = 4 + 1 + 1 + 0 = 6; V = 4/3 · 6/256 = 1/32; .25 · 32 = 8 of 16.
        ([(4, 4), (4, 1), (4, 1), (4, 2)], 8),
        # Every question half right: no less than independent answers, all 8 count.
        ([(2, 1), (2, 1), (2, 1), (2, 1)], 8),
        # All right: nothing is known of the questions' variation, they count once each.
        ([(4, 4), (4, 4), (4, 4)], 3),
        ([(4, 2)], 1),
        # A question without a valid answer does not count.
        ([(1, 1), (1, 0), (0, 0)], 2),
    ],
)
def test_how_many_answers_they_are_worth(questions: list[tuple[int, int]], worth: float) -> None:
    assert intervals.effective_count([Counts(*each) for each in questions]) == pytest.approx(worth)


def test_one_task_has_wilsons_interval_and_two_are_combined() -> None:
    six = [Counts(1, 1)] * 6
    half = [Counts(1, 1), Counts(1, 0)] * 20
    one = intervals.mean_of_tasks([six])
    assert (one.mean, one.low, one.high) == pytest.approx((100.0, 60.9666, 100.0), abs=1e-4)
    assert str(one) == "100.0 (61.0 to 100.0)"
    two = intervals.mean_of_tasks([six, half])
    assert two.mean == 75
    assert two.low == pytest.approx(75 - math.hypot(39.0334, 14.8005) / 2, abs=1e-3)
    assert two.high == pytest.approx(75 + 14.8005 / 2, abs=1e-3)
    assert two.standard_error == pytest.approx((two.high - two.low) / (2 * 1.959964))


def _told_and_true(k: int, *, all_or_nothing: bool) -> tuple[float, float, float]:
    """Mean standard error told, the true one, and how often 50 % lies in the interval."""
    draw = random.Random(k)
    estimates = []
    for _ in range(600):
        chances = [draw.choice((0, 1)) if all_or_nothing else 0.5 for _ in range(40)]
        task = [Counts(k, sum(draw.random() < p for _ in range(k))) for p in chances]
        estimates.append(intervals.mean_of_tasks([task]))
    covered = statistics.fmean(each.low <= 50 <= each.high for each in estimates)
    told = statistics.fmean(each.standard_error for each in estimates)
    return told, statistics.stdev(each.mean for each in estimates), covered


@pytest.mark.parametrize(
    ("k", "all_or_nothing"), [*itertools.product((1, 4, 16), (True,)), (4, False)]
)
def test_intervals_hold_the_true_value_whatever_the_dependence(
    k: int, all_or_nothing: bool
) -> None:
    """40 questions, k answers to each, that agree always or not at all."""
    told, true, covered = _told_and_true(k, all_or_nothing=all_or_nothing)
    assert told == pytest.approx(true, rel=0.12)
    assert covered > 0.92
    expected = 100 * math.sqrt(0.25 / (40 if all_or_nothing else 40 * k))
    assert true == pytest.approx(expected, rel=0.1)
