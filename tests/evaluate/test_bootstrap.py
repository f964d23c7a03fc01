"""Bootstrap intervals: where the distribution is known, and where it is nearly normal."""

import numpy as np
import pytest

from r1ci_jax.evaluate import bootstrap, intervals
from r1ci_jax.evaluate.intervals import Counts

RIGHT, WRONG = Counts(1, 1), Counts(1, 0)


def test_two_questions_have_three_means() -> None:
    # Both right or both wrong have a chance of 1/4 each, which is more than each tail.
    assert bootstrap.over_questions([[RIGHT, WRONG]]) == (0.0, 100.0)
    # A second task that never varies halves the movement: half of 50 points times sqrt(2 / 1).
    low, high = bootstrap.over_questions([[RIGHT, WRONG], [RIGHT, RIGHT]])
    assert low == pytest.approx(75 - 25 * 2**0.5) and high == 100.0


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
    assert bootstrap.over_questions([[RIGHT, RIGHT, Counts(0, 0)]]) == (100.0, 100.0)


def test_one_question_tells_nothing_of_others() -> None:
    assert bootstrap.over_questions([[RIGHT, Counts(0, 0)]]) == (0.0, 100.0)
    assert bootstrap.of_difference([[bootstrap.Pair(WRONG, RIGHT)]]) == (-100.0, 100.0)
    # One of each of 100 tasks: as wide as for other tasks, which is the more of the two.
    tasks = [[RIGHT]] * 30 + [[WRONG]] * 70
    assert bootstrap.over_questions(tasks) == bootstrap.over_tasks(tasks)
    half = 1.96 * (0.3 * 0.7 / 99) ** 0.5 * 100
    assert bootstrap.over_questions(tasks) == pytest.approx((30 - half, 30 + half), abs=1.1)


@pytest.mark.parametrize("questions", [2, 3, 5])
def test_an_interval_holds_the_truth_in_95_of_100_cases(questions: int) -> None:
    """Few questions of many tasks, as most evaluations have."""
    random = np.random.default_rng(questions)
    chances = random.uniform(0, 1, size=60)
    held = 0
    for _ in range(400):
        right = random.random((60, questions)) < chances[:, None]
        tasks = [[Counts(1, int(each)) for each in task] for task in right]
        low, high = bootstrap.over_questions(tasks, draws=400)
        held += low <= 100 * chances.mean() <= high
    assert 0.92 <= held / 400 <= 0.98


def test_a_difference_is_of_the_same_questions() -> None:
    right, wrong, both = bootstrap.Pair(WRONG, RIGHT), bootstrap.Pair(WRONG, WRONG), (RIGHT, RIGHT)
    # Two questions of which one was gained: 0, 50 or 100 points, the ends with a chance of 1/4.
    low, high = bootstrap.of_difference([[right, wrong]])
    assert low == pytest.approx(50 - 50 * 2**0.5) and high == 100.0
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
