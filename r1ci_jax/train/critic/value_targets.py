"""Advantages and returns of tokens by generalized advantage estimation (GAE, 1506.02438).

Only tokens that the policy chose are steps. What stands between two of them, an observation or the
words of a guide, is part of the way from one state to the next: it has no value, no reward and no
discount, and the recursion passes over it (verl does the same). With the chosen tokens of a
trajectory counted 1 to n, values V and rewards r,

    delta_i = r_i + gamma V_(i+1) - V_i             V_(n+1) = 0
    A_i     = delta_i + gamma lambda A_(i+1)        A_(n+1) = 0
    return  = A_i + V_i                             the critic's target

The reward of the trajectory enters at n. A trajectory that a limit cut off has its reward too, so
it ends there like any other: nothing is expected behind it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

WHITENING_EPS = 1e-8
"""Added to the variance, as in verl and TRL."""


class ValueTargets(NamedTuple):
    """Estimates for every token but the first, [B, T-1]; 0 where the policy did not choose."""

    advantages_BT: jax.Array
    returns_BT: jax.Array


def place_rewards(rewards_B: jax.Array, chosen_BT: jax.Array) -> jax.Array:
    """Give each row's reward to its last chosen token."""
    later_BT = jnp.cumsum(chosen_BT[:, ::-1], axis=1)[:, ::-1]
    return jnp.where(chosen_BT & (later_BT == 1), rewards_B[:, None], 0.0)


def estimate(
    rewards_BT: jax.Array,
    values_BT: jax.Array,
    chosen_BT: jax.Array,
    *,
    gamma: float,
    gae_lambda: float,
) -> ValueTargets:
    """Estimate the advantages of the chosen tokens.

    Args:
        rewards_BT: Reward that follows each token; read where the policy chose.
        values_BT: The critic's value before each token; read where the policy chose.
        chosen_BT: True where the policy chose the token.
        gamma: Discount per chosen token.
        gae_lambda: Weight of later tokens.
    """

    def step(later: tuple[jax.Array, jax.Array], token: tuple[jax.Array, jax.Array, jax.Array]):
        next_value_B, next_advantage_B = later
        reward_B, value_B, is_chosen_B = token
        delta_B = reward_B + gamma * next_value_B - value_B
        advantage_B = delta_B + gamma * gae_lambda * next_advantage_B
        now = value_B, advantage_B
        later = jax.tree.map(lambda new, old: jnp.where(is_chosen_B, new, old), now, later)
        return later, jnp.where(is_chosen_B, advantage_B, 0.0)

    zeros_B = jnp.zeros_like(values_BT[:, 0])
    tokens = jax.tree.map(jnp.transpose, (rewards_BT, values_BT, chosen_BT))
    _, advantages_TB = jax.lax.scan(step, (zeros_B, zeros_B), tokens, reverse=True)
    advantages_BT = advantages_TB.T
    return ValueTargets(advantages_BT, jnp.where(chosen_BT, advantages_BT + values_BT, 0.0))


class TokenSums(NamedTuple):
    """Sums over chosen tokens; add them up over microbatches."""

    tokens: jax.Array
    advantage: jax.Array
    value: jax.Array
    returns: jax.Array


class SquareSums(NamedTuple):
    """Sums over chosen tokens of squared distances from the mean of the whole batch."""

    advantage: jax.Array
    returns: jax.Array


def sum_tokens(targets: ValueTargets, values_BT: jax.Array, chosen_BT: jax.Array) -> TokenSums:
    """Sum what the means are made of."""
    summed = (targets.advantages_BT, values_BT, targets.returns_BT)
    sums = (jnp.sum(x_BT, where=chosen_BT) for x_BT in summed)
    return TokenSums(jnp.sum(chosen_BT, dtype=jnp.float32), *sums)


def sum_squares(targets: ValueTargets, chosen_BT: jax.Array, sums: TokenSums) -> SquareSums:
    """Sum what the variances are made of; `sums` are of the whole batch."""
    pairs = (targets.advantages_BT, sums.advantage), (targets.returns_BT, sums.returns)
    tokens = jnp.maximum(sums.tokens, 1.0)
    squares = (jnp.sum((x_BT - x / tokens) ** 2, where=chosen_BT) for x_BT, x in pairs)
    return SquareSums(*squares)


def whiten(
    advantages_BT: jax.Array, chosen_BT: jax.Array, sums: TokenSums, squares: SquareSums
) -> jax.Array:
    """Shift and scale to mean 0 and deviation 1 over the chosen tokens of the whole batch.

    The variance is divided by one less than the number of tokens, as in verl and TRL
    (`masked_whiten`).
    """
    mean = sums.advantage / jnp.maximum(sums.tokens, 1.0)
    variance = squares.advantage / jnp.maximum(sums.tokens - 1.0, 1.0)
    whitened_BT = (advantages_BT - mean) * jax.lax.rsqrt(variance + WHITENING_EPS)
    return jnp.where(chosen_BT, whitened_BT, 0.0)
