"""Policy objectives of a token, as published.

Notation: policy π in training, old policy, ratio r = π / old, advantage A, clip ranges ε. Where
π = old all of them have the gradient of A log π.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenObjective(NamedTuple):
    """What training raises at each token."""

    value_BT: jax.Array
    is_clipped_BT: jax.Array
    """True where the clip, cap or mask acted."""
    is_dual_clipped_BT: jax.Array | None = None
    """True where the bound of `bound_negative` acted; None without one."""


def clipped(
    ratio_BT: jax.Array, advantages_BT: jax.Array, clip_low: float, clip_high: float
) -> TokenObjective:
    """Clip the ratio where it runs away (PPO, 1707.06347; two ranges: DAPO, 2503.14476).

    min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)
    """
    clipped_ratio_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    unclipped_BT, clipped_BT = ratio_BT * advantages_BT, clipped_ratio_BT * advantages_BT
    return TokenObjective(jnp.minimum(unclipped_BT, clipped_BT), clipped_BT < unclipped_BT)


def bound_negative(
    objective: TokenObjective, ratio_BT: jax.Array, advantages_BT: jax.Array, bound: float
) -> TokenObjective:
    """Bound the objective where the advantage is negative (dual clip, 1912.09729).

    max(min(r A, clip(r) A), bound A)    where A < 0, with bound > 1

    Without it a token of negative advantage that became much likelier has a loss without bound.
    """
    is_bounded_BT = (advantages_BT < 0) & (ratio_BT > bound)
    value_BT = jnp.where(is_bounded_BT, bound * advantages_BT, objective.value_BT)
    return objective._replace(value_BT=value_BT, is_dual_clipped_BT=is_bounded_BT)


def sequence_log_ratio(log_ratio_BT: jax.Array, is_sampled_BT: jax.Array) -> jax.Array:
    """Give every token the mean log ratio of its row's sampled tokens (GSPO, 2507.18071).

    log s_i = (1/|y_i|) Σ_t log r_t, so s_i is the geometric mean of the ratios.
    """
    length_B1 = is_sampled_BT.sum(axis=1, keepdims=True, dtype=jnp.float32)
    sum_B1 = jnp.sum(log_ratio_BT, axis=1, keepdims=True, where=is_sampled_BT)
    return jnp.broadcast_to(sum_B1 / jnp.maximum(length_B1, 1.0), log_ratio_BT.shape)


def sequence_ratio(log_ratio_BT: jax.Array, sequence_log_ratio_BT: jax.Array) -> jax.Array:
    """Write the ratio s_i of a sequence per token, with the gradient of GSPO (2507.18071).

    The gradient of s_i is s_i (1/|y_i|) Σ_t ∇ log r_t. With s_i as a constant,

        s_i exp(log r_t - constant(log r_t))

    has the value s_i and the gradient s_i ∇ log r_t at each token, and the mean of these over a
    row is the gradient of s_i: clipped and added up with any weights that are equal within a row,
    they make the objective of the sequence and its exact gradient.
    """
    no_change_BT = log_ratio_BT - jax.lax.stop_gradient(log_ratio_BT)
    return jnp.exp(jax.lax.stop_gradient(sequence_log_ratio_BT) + no_change_BT)


def capped_weight(
    logprobs_BT: jax.Array, ratio_BT: jax.Array, advantages_BT: jax.Array, clip_high: float
) -> TokenObjective:
    """Weigh log-probabilities by the capped ratio (CISPO, 2506.13585).

    constant(min(r, 1 + clip_high)) A log π

    No token loses its gradient. As there, the ratio has no lower bound.
    """
    cap = 1.0 + clip_high
    weight_BT = jax.lax.stop_gradient(jnp.minimum(ratio_BT, cap))
    return TokenObjective(weight_BT * advantages_BT * logprobs_BT, ratio_BT > cap)


def masked_change(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ratio_BT: jax.Array,
    advantages_BT: jax.Array,
    max_change: float,
) -> TokenObjective:
    """Mask tokens that left the trust region in their own direction (DPPO, 2602.04879).

    M r A, with M = 0 where A > 0 and π - old > max_change, or A < 0 and old - π > max_change

    |π - old| of the token is the total variation of the two-way distribution "this token or
    another". A ratio clip stops rare tokens too early and frequent ones too late; this does not.
    There the old policy is the one that sampled: `grpo.old_logprobs="rollout"`.
    """
    change_BT = jax.lax.stop_gradient(jnp.exp(logprobs_BT) - jnp.exp(old_logprobs_BT))
    is_masked_BT = jnp.where(
        advantages_BT > 0, change_BT > max_change, (advantages_BT < 0) & (change_BT < -max_change)
    )
    return TokenObjective(jnp.where(is_masked_BT, 0.0, ratio_BT * advantages_BT), is_masked_BT)
