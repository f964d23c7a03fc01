"""Bootstrap intervals: where the distribution is known, and where it is nearly normal."""

import pytest

from r1ci_jax.evaluate import bootstrap, intervals
from r1ci_jax.evaluate.intervals import Counts

RIGHT, WRONG = Counts(1, 1), Counts(1, 0)


def test_two_questions_have_three_means() -> None:
    # Both right or both wrong have a chance of 1/4 each, which is more than each tail.
    assert bootstrap.over_questions([[RIGHT, WRONG]]) == (0.0, 100.0)
    # A second task that never varies halves the movement.
    assert bootstrap.over_questions([[RIGHT, WRONG], [RIGHT, RIGHT]]) == (50.0, 100.0)


def test_answers_that_are_alike_have_no_width() -> None:
    assert bootstrap.over_questions([[WRONG] * 9, [RIGHT] * 3]) == (50.0, 50.0)
    assert bootstrap.over_tasks([[WRONG] * 9, [WRONG]]) == (0.0, 0.0)


def test_many_questions_are_nearly_normal() -> None:
    task = [RIGHT] * 120 + [WRONG] * 280
    low, high = bootstrap.over_questions([task])
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5 * 100
    assert (low, high) == pytest.approx((30 - half, 30 + half), abs=0.6)
    estimate = intervals.mean_of_tasks([task])
    assert (low, high) == pytest.approx((estimate.low, estimate.high), abs=0.8)


def test_answers_to_one_question_move_together() -> None:
    """Eight answers to each of 50 questions, all right or all wrong, are worth 50."""
    eight = bootstrap.over_questions([[Counts(8, 8)] * 25 + [Counts(8, 0)] * 25])
    one = bootstrap.over_questions([[RIGHT] * 25 + [WRONG] * 25])
    assert eight == one


def test_other_tasks_move_the_mean_more_than_other_questions() -> None:
    tasks = [[RIGHT] * 8 + [WRONG] * 2, [WRONG] * 8 + [RIGHT] * 2] * 10
    questions, of_tasks = bootstrap.over_questions(tasks), bootstrap.over_tasks(tasks)
    assert of_tasks is not None
    # Twenty tasks of 80 or 20 %: the standard error is 30 / sqrt(20), a step of the mean 3.
    half = 1.96 * 30 / 20**0.5
    assert of_tasks == pytest.approx((50 - half, 50 + half), abs=3)
    assert of_tasks.high - of_tasks.low > 2 * (questions.high - questions.low)


def test_a_single_task_says_nothing_of_others() -> None:
    assert bootstrap.over_tasks([[RIGHT, WRONG]]) is None


def test_the_same_results_have_the_same_interval() -> None:
    tasks = [[Counts(3, 1), Counts(2, 2)], [Counts(1, 0), Counts(4, 1)]]
    assert bootstrap.over_questions(tasks) == bootstrap.over_questions(tasks)
    assert str(bootstrap.Interval(12.34, 56.789)) == "12.3 to 56.8"


def test_questions_without_an_answer_are_left_out() -> None:
    assert bootstrap.over_questions([[RIGHT, Counts(0, 0)]]) == (100.0, 100.0)


def test_a_difference_is_of_the_same_questions() -> None:
    right, wrong, both = bootstrap.Pair(WRONG, RIGHT), bootstrap.Pair(WRONG, WRONG), (RIGHT, RIGHT)
    # Two questions of which one was gained: 0, 50 or 100 points, the ends with a chance of 1/4.
    assert bootstrap.of_difference([[right, wrong]]) == (0.0, 100.0)
    # As hard for both models: the accuracy moves by draws, the difference does not.
    alike = [[bootstrap.Pair(*both)] * 5 + [wrong] * 5]
    assert bootstrap.of_difference(alike) == (0.0, 0.0)
    assert bootstrap.over_questions([[pair.after for pair in alike[0]]]) != (50.0, 50.0)


def test_the_interval_of_many_pairs_is_nearly_normal() -> None:
    gained, lost, same = ((WRONG, RIGHT), 90), ((RIGHT, WRONG), 30), ((RIGHT, RIGHT), 280)
    task = [bootstrap.Pair(*pair) for pair, count in (gained, lost, same) for _ in range(count)]
    assert bootstrap.means_of_pairs([task]) == pytest.approx((77.5, 92.5))
    # McNemar: the variance of a difference of +1, -1 or 0 with these chances.
    half = 1.96 * ((0.225 + 0.075 - 0.15**2) / 400) ** 0.5 * 100
    assert bootstrap.of_difference([task]) == pytest.approx((15 - half, 15 + half), abs=0.6)
    assert bootstrap.of_difference([task]) == bootstrap.of_difference([task])


def test_models_may_have_different_numbers_of_answers() -> None:
    task = [bootstrap.Pair(Counts(4, 1), Counts(2, 1)), bootstrap.Pair(Counts(4, 1), Counts(2, 1))]
    assert bootstrap.means_of_pairs([task, task]) == (25.0, 50.0)
    assert bootstrap.of_difference([task, task]) == (25.0, 25.0)
