"""The reward by the paper's numbers."""

import pytest

from r1ci_jax.rollout import reward


@pytest.mark.parametrize(
    ("correct", "keeps_format", "turns", "expected"),
    [
        (True, True, 1, 1.1),
        (True, True, 6, 1.1),
        (True, True, 7, 1.0),
        (True, False, 2, 0.9),
        (False, True, 3, 0.1),
        (False, False, 6, -0.1),
        (False, False, 9, -0.2),
    ],
)
def test_shaped_reward_is_the_papers(correct, keeps_format, turns, expected):
    assert reward.shaped_reward(correct, keeps_format, turns) == pytest.approx(expected)


def test_turn_penalty_threshold_can_be_moved():
    assert reward.shaped_reward(True, True, 3, penalty_after=2) == pytest.approx(1.0)
