"""The reward of a trajectory (paper section 5): correctness, format, number of turns."""

from r1ci_jax.grpo_config import RewardConfig
from r1ci_jax.rollout.trajectory import RewardTerms

PAPER = RewardConfig()
"""The paper's numbers."""


def compute_terms(
    correct: bool,
    keeps_format: bool,
    num_calls: int,
    *,
    config: RewardConfig = PAPER,
    penalty_after: int = 6,
) -> RewardTerms:
    """Compute the parts of the reward, which is their sum.

    A trajectory has one turn more than code calls: the one that answers, or is cut off. So the
    two readings of the paper's "more than 6" differ by one turn (`turn_penalty_counts`).

    Args:
        correct: True if the answer is.
        keeps_format: True if every response keeps the format.
        num_calls: Number of code blocks that were run, and of calls of an agent's own tools.
        config: The amounts, and what the penalty counts.
        penalty_after: Turns, or code calls, without penalty.

    >>> compute_terms(True, True, 1)
    RewardTerms(correct=1.0, format=0.1, turn_penalty=0.0)
    >>> compute_terms(False, False, 6).total
    -0.2
    """
    counts_turns = config.turn_penalty_counts == "turns"
    is_long = num_calls + counts_turns > penalty_after
    return RewardTerms(
        correct=config.correct if correct else 0.0,
        format=config.format if keeps_format else -config.format,
        turn_penalty=-config.turn_penalty if is_long else 0.0,
    )
