"""Difference of trainer and sampler in the log-probability of the same tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LogprobDiff(NamedTuple):
    """Difference of trainer and sampler on tokens that both saw under the same weights."""

    abs_sum: jax.Array
    """Sum of |trainer - sampler| log-probability."""
    num_tokens: jax.Array
    max: jax.Array


def measure(
    logprobs_BT: jax.Array, sampler_logprobs_BT: jax.Array, on_policy_BT: jax.Array
) -> LogprobDiff:
    """Compare the two where the policy chose the token under the weights of this step."""
    # Of observations that are learned the sampler has no log-probability.
    on_policy_BT = on_policy_BT & ~jnp.isnan(sampler_logprobs_BT)
    diff_BT = jnp.where(on_policy_BT, jnp.abs(logprobs_BT - sampler_logprobs_BT), 0.0)
    return LogprobDiff(diff_BT.sum(), on_policy_BT.sum(dtype=jnp.float32), diff_BT.max())


def metrics(diffs: Sequence[LogprobDiff]) -> dict[str, float]:
    """Return mean and largest difference of a step; nothing where no token was compared."""
    num_tokens = float(sum(diff.num_tokens for diff in diffs))
    if not num_tokens:
        return {}
    abs_sum = float(sum(diff.abs_sum for diff in diffs))
    return {
        "check/sampler_trainer_logprob_diff": abs_sum / num_tokens,
        "check/sampler_trainer_logprob_diff_max": float(max(diff.max for diff in diffs)),
    }
