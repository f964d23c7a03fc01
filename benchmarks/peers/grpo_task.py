"""What every side of the GRPO benchmark is set: same reward, step length and clip. Stdlib only."""

from collections.abc import Sequence
from typing import Final

SHAPE: Final = "smollm2"
LEARNING_RATE: Final = 1e-6
KL_COEF: Final = 0.04
CLIP_NORM: Final = 1.0
WARM_UP_STEPS: Final = 2
"""Compilation and allocation; the second has the optimiser's state as the first returned it."""


def reward(tokens: Sequence[int], new: int, vocab: int) -> float:
    """Share of low ids, which differs within a group of random completions; checks their length."""
    assert len(tokens) == new, f"{len(tokens)} tokens were sampled instead of {new}"
    return sum(token < vocab // 2 for token in tokens) / new
