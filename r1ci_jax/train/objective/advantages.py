"""Advantages: each reward compared with those of its group, and scaled."""

import functools

import jax
import jax.numpy as jnp

from r1ci_jax.grpo_config import AdvantageScale


@functools.partial(jax.jit, static_argnames=("scale", "leave_one_out"))
def group_advantages(
    rewards_PR: jax.Array,
    valid_PR: jax.Array,
    eps: float = 1e-6,
    *,
    scale: AdvantageScale = "group_std",
    leave_one_out: bool = False,
) -> jax.Array:
    """Compare each reward with the rest of its group. A group of equal rewards gets zeros.

    With n valid members and their mean m, before scaling:

        R_i - m                                  GRPO (2402.03300)
        R_i - mean of the others                 leave_one_out: RLOO (2402.14740)
            = n / (n - 1) (R_i - m)

    and divided by, plus `eps`:

        group_std   sqrt(mean over the group of (R_i - m)²)                          GRPO
        batch_std   the same mean over all groups   REINFORCE++-baseline (2501.03262)
        none        1                               Dr. GRPO (2503.20783)

    Whether the paper divides is not known (section 5). The standard deviation is the population's
    (divided by the number of members, not by one less), whichever baseline is subtracted.

    Invalid members (the sandbox failed, not the answer) are left out of every mean and get
    advantage 0.
    """
    rewards_PR = jnp.asarray(rewards_PR, jnp.float32)
    valid_PR = jnp.asarray(valid_PR, bool)
    members_P1 = jnp.maximum(valid_PR.sum(axis=1, keepdims=True), 1)
    mean_P1 = jnp.sum(rewards_PR, axis=1, keepdims=True, where=valid_PR) / members_P1
    centered_PR = jnp.where(valid_PR, rewards_PR - mean_P1, 0.0)
    deviation = 1.0
    if scale == "group_std":
        variance_P1 = jnp.sum(centered_PR**2, axis=1, keepdims=True) / members_P1
        deviation = jnp.sqrt(variance_P1) + eps
    if scale == "batch_std":
        variance = jnp.sum(centered_PR**2) / jnp.maximum(valid_PR.sum(), 1)
        deviation = jnp.sqrt(variance) + eps
    if leave_one_out:
        centered_PR = centered_PR * (members_P1 / jnp.maximum(members_P1 - 1, 1))
    if scale != "none":
        centered_PR = centered_PR / deviation
    # The mean of equal floats may differ from them by a rounding error, which a division by a tiny
    # deviation would blow up. The rewards themselves therefore decide if a group is all equal.
    highest_P1 = jnp.max(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=-jnp.inf)
    lowest_P1 = jnp.min(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=jnp.inf)
    return jnp.where(highest_P1 > lowest_P1, centered_PR, 0.0)
