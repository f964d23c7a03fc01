"""Statistics worked by hand."""

import json

import pytest

from r1ci_jax.data import stats
from r1ci_jax.tasks.base import Example


def _example(number: int, question: str, answer: object, difficulty: int = 1) -> Example:
    return Example(
        id=f"toy_letters/{number}",
        task="toy_letters",
        question=question,
        answer="" if answer is None else json.dumps(answer),
        difficulty=difficulty,
    )


def test_counts_lengths_answers_and_duplicates() -> None:
    splits = {
        "sft": [_example(0, "a b", 7), _example(1, "a b c d", 7, 2), _example(2, "A  b", 8)],
        "eval": [_example(3, "e", None, 3)],
    }
    found = stats.task_stats(
        "toy_letters",
        splits,
        requested={"sft": 3, "grpo": 2, "eval": 5},
        tokens=lambda text: len(text.split()),
    )
    assert found.counts == {"sft": 3, "eval": 1} and found.is_short == {"grpo": 2, "eval": 5}
    assert found.difficulties == {1: 2, 2: 1, 3: 1}
    assert found.question_chars == stats.Lengths(mean=3.8, p95=7, max=7)
    assert found.question_tokens == stats.Lengths(mean=2.2, p95=4, max=4)
    assert (found.answers, found.most_common) == (2, {"'7'": 2, "'8'": 1})
    assert found.majority_fraction == 0.5  # of four questions, two of which have this gold
    assert found.duplicates == 1  # case and blanks make no new question
    assert (found.suite, found.split) == ("toy", "train")


@pytest.mark.parametrize(("size", "p95"), [(1, 1), (19, 19), (20, 19), (100, 95), (101, 96)])
def test_percentile(size: int, p95: int) -> None:
    splits = {"sft": [_example(n, "x" * n, n) for n in range(1, size + 1)]}
    found = stats.task_stats("toy_letters", splits, requested={})
    assert found.question_chars.p95 == p95 and found.question_chars.max == size
    assert found.question_tokens is None
    assert sum(n <= p95 for n in range(1, size + 1)) >= 0.95 * size


def test_a_question_in_two_splits_is_found_across_tasks() -> None:
    owners = stats.Owners()
    owners.add({"sft": [_example(0, "One?", 1), _example(1, "Two?", 1), _example(2, "one?", 1)]})
    assert owners.shared() == 0
    owners.add({"eval": [_example(3, " ONE?", 1), _example(4, "Three?", 1)]})
    assert owners.shared() == 1


def test_wilson_by_hand() -> None:
    # z² = 3.841459; 6 of 6: (1 + z²/12 ± z²/12) / (1 + z²/6) = 1 / 1.640243 and 1.
    assert stats.wilson(1.0, 6) == pytest.approx((0.609666, 1.0), abs=1e-6)
    assert stats.wilson(0.0, 6) == pytest.approx((0.0, 0.390334), abs=1e-6)
    # 20 of 40: half z · .5 / sqrt(40 + z²) = .9799820 / 6.621288 = .148005.
    assert stats.wilson(0.5, 40) == pytest.approx((0.351995, 0.648005), abs=1e-6)
