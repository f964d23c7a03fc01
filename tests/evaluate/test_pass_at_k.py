"""pass@k: numbers worked by hand, and every choice of k answers counted."""

import fractions
import itertools

import pytest

from r1ci_jax.evaluate import pass_at_k
from r1ci_jax.evaluate.intervals import Counts


def test_by_hand() -> None:
    # Of the 10 pairs of 5 answers, 3 hold none of the 2 right ones.
    assert pass_at_k.pass_at_k(Counts(5, 2), 2) == pytest.approx(0.7)
    # 1 - C(6,4)/C(10,4) = 1 - 15/210, where 1 - 0.6^4 would say 0.8704.
    assert pass_at_k.pass_at_k(Counts(10, 4), 4) == pytest.approx(13 / 14)
    assert pass_at_k.pass_at_k(Counts(7, 3), 1) == pytest.approx(3 / 7)
    assert pass_at_k.pass_at_k(Counts(4, 0), 4) == 0.0
    assert pass_at_k.pass_at_k(Counts(4, 1), 4) == 1.0
    assert pass_at_k.pass_at_k(Counts(4, 3), 2) == 1.0  # any two hold a right one


@pytest.mark.parametrize("n", range(1, 7))
def test_every_choice_is_counted(n: int) -> None:
    for correct, k in itertools.product(range(n + 1), range(1, n + 1)):
        answers = [True] * correct + [False] * (n - correct)
        choices = list(itertools.combinations(answers, k))
        passed = fractions.Fraction(sum(map(any, choices)), len(choices))
        assert pass_at_k.pass_at_k(Counts(n, correct), k) == pytest.approx(float(passed))


def test_the_mean_is_over_questions_and_then_tasks() -> None:
    one = [Counts(2, 1), Counts(2, 0), Counts(2, 2)]  # pass@2: 1, 0, 1
    other = [Counts(2, 0)]
    assert pass_at_k.mean_over_tasks([one, other], 2) == pytest.approx((2 / 3 + 0) / 2)
    assert pass_at_k.mean_over_tasks([one, other], 1) == pytest.approx((1 / 2 + 0) / 2)


def test_questions_with_too_few_answers_do_not_count() -> None:
    assert pass_at_k.mean_over_tasks([[Counts(1, 0), Counts(2, 1)], [Counts(1, 1)]], 2) == 1.0
    assert pass_at_k.mean_over_tasks([[Counts(1, 1)]], 2) is None


def test_tables_show_powers_of_two_and_all() -> None:
    assert [pass_at_k.chosen_ks(n) for n in (1, 2, 3, 4, 8, 20)] == [
        (), (2,), (2, 3), (2, 4), (2, 4, 8), (2, 4, 8, 16, 20),
    ]  # fmt: skip
