"""The reward of a trajectory (paper section 5): correctness, format, number of turns."""

CORRECT_REWARD = 1.0
"""Added for a correct final answer."""
FORMAT_REWARD = 0.1
"""Added when every response keeps the format, subtracted when one does not."""
TURN_PENALTY = 0.1
"""Subtracted from a trajectory with too many turns."""


def shaped_reward(
    correct: bool, keeps_format: bool, num_turns: int, *, penalty_after: int = 6
) -> float:
    """Compute the reward with the paper's numbers.

    >>> shaped_reward(True, True, num_turns=2)
    1.1
    >>> shaped_reward(False, False, num_turns=7)
    -0.2
    """
    reward = CORRECT_REWARD if correct else 0.0
    reward += FORMAT_REWARD if keeps_format else -FORMAT_REWARD
    if num_turns > penalty_after:
        reward -= TURN_PENALTY
    return reward
