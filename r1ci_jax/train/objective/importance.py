"""Importance weights for tokens whose sampler was not the old policy of the ratio.

The sampler may round (bfloat16, int8) or have used older weights. Its tokens stand for those of
the old policy when each is weighted by w = old / sampler, a constant in the loss:

    w min(u A, clip(u) A)    u = policy / old    decoupled objective (2110.00641; AReaL, 2505.24298)
    min(w, high)                                 truncated importance sampling (Ionides 2008; in
                                                 verl and TRL after Yao et al. 2025)
    w if low <= w <= high, else 0                masked importance sampling (IcePop; verl)

A masked token still counts in every denominator.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.grpo_config import Importance


class ImportanceWeights(NamedTuple):
    """Weights of tokens, without gradient."""

    weight_BT: jax.Array
    ratio_BT: jax.Array
    """Weight before it is truncated or masked."""
    is_limited_BT: jax.Array
    """True where it was."""


def bounded_weights(
    log_ratio_BT: jax.Array, bound: Importance, *, low: float, high: float
) -> ImportanceWeights:
    """Bound the weights exp(log old - log sampler).

    Args:
        log_ratio_BT: log old - log sampler; 0 at tokens that were not sampled.
        bound: "truncate", "mask", or "none" for the weights as they are.
        low: Smallest weight that "mask" keeps.
        high: Largest weight.
    """
    ratio_BT = jnp.exp(log_ratio_BT)
    match bound:
        case "none":
            return ImportanceWeights(ratio_BT, ratio_BT, jnp.zeros_like(ratio_BT, bool))
        case "truncate":
            return ImportanceWeights(jnp.minimum(ratio_BT, high), ratio_BT, ratio_BT > high)
        case "mask":
            is_limited_BT = (ratio_BT < low) | (ratio_BT > high)
            return ImportanceWeights(
                jnp.where(is_limited_BT, 0.0, ratio_BT), ratio_BT, is_limited_BT
            )
