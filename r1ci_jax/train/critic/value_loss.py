"""The critic's loss: squared distance from the return, with a bound on what moving may gain.

With the value V before the step, the value v in training, the return R and the bound c,

    (1/2) max((v - R)², (clip(v, V - c, V + c) - R)²)

so a value that is already further than c from V, on the way to R, has no gradient; one that moved
away from R has all of it. PPO implementations do so (verl and TRL: `cliprange_value`); it is the
counterpart of the clipped ratio. The mean is over chosen tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ValueSums(NamedTuple):
    """Sums over the chosen tokens of a microbatch; add them up with `jax.tree.map`."""

    tokens: jax.Array
    loss: jax.Array
    clipped: jax.Array
    """Number of tokens on which the bound acted."""


def token_loss(
    values_BT: jax.Array, old_values_BT: jax.Array, returns_BT: jax.Array, value_clip: float
) -> tuple[jax.Array, jax.Array]:
    """Return the loss of each token, and True where the bound acted; `value_clip` 0 is none."""
    loss_BT = 0.5 * (values_BT - returns_BT) ** 2
    if not value_clip:
        return loss_BT, jnp.zeros_like(loss_BT, bool)
    near_BT = jnp.clip(values_BT, old_values_BT - value_clip, old_values_BT + value_clip)
    near_loss_BT = 0.5 * (near_BT - returns_BT) ** 2
    is_clipped_BT = near_loss_BT > loss_BT
    return jnp.where(is_clipped_BT, near_loss_BT, loss_BT), is_clipped_BT


def sum_loss(
    values_BT: jax.Array,
    old_values_BT: jax.Array,
    returns_BT: jax.Array,
    chosen_BT: jax.Array,
    *,
    value_clip: float,
) -> tuple[jax.Array, ValueSums]:
    """Sum the loss over the chosen tokens; also what the step's metrics are made of."""
    # Zeroed before any arithmetic: values at tokens that were not chosen are arbitrary.
    values_BT = jnp.where(chosen_BT, values_BT, 0.0)
    loss_BT, is_clipped_BT = token_loss(values_BT, old_values_BT, returns_BT, value_clip)
    loss = jnp.sum(loss_BT, where=chosen_BT)
    tokens, clipped = (
        jnp.sum(x_BT, where=chosen_BT, dtype=jnp.float32) for x_BT in (chosen_BT, is_clipped_BT)
    )
    return loss, ValueSums(tokens, loss, clipped)
