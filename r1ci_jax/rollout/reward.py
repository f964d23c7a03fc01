"""Reward of one trajectory (paper section 5): correctness, format, number of generation turns."""

CORRECT_REWARD = 1.0
"""For a correct final answer."""
FORMAT_REWARD = 0.1
"""Added when every response keeps the format, taken away when one does not."""
TURN_PENALTY = 0.1
"""Taken away from a trajectory with too many generation turns."""


def shaped_reward(
    correct: bool, keeps_format: bool, num_turns: int, *, penalty_after: int = 6
) -> float:
    """Reward by the paper's numbers.

    >>> shaped_reward(True, True, turns=2)
    1.1
    >>> shaped_reward(False, False, turns=7)
    -0.2
    """
    reward = CORRECT_REWARD if correct else 0.0
    reward += FORMAT_REWARD if keeps_format else -FORMAT_REWARD
    if num_turns > penalty_after:
        reward -= TURN_PENALTY
    return reward
