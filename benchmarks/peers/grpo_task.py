"""Every side of the GRPO benchmark uses this reward, step length and clip. Use only stdlib."""

from collections.abc import Sequence
from typing import Final

SHAPE: Final = "smollm2"
LEARNING_RATE: Final = 1e-6
KL_COEF: Final = 0.04
CLIP_NORM: Final = 1.0
WARM_UP_STEPS: Final = 2
"""Two steps compile and allocate; the second uses the optimizer state of the first."""


def reward(tokens: Sequence[int], new: int, vocab: int) -> float:
    """Return the fraction of low ids, which varies within a random group; check the length."""
    assert len(tokens) == new, f"{len(tokens)} tokens were sampled instead of {new}"
    return sum(token < vocab // 2 for token in tokens) / new
