"""What is optimised: supervised loss, advantages, GRPO objective; each token's share of them.

Everything a trainer divides is returned as a sum and the count that belongs to it. A step that is
split into micro-batches adds gradients, sums and counts, then divides: the split changes nothing.

    rows = x_BTD, weight, targets_BT, sampled_BT, inputs
    loss_sum, scores = head.lm_head_loss(head, grpo_token_loss, *rows)
    # over all micro-batches: gradient = Σ grad(loss_sum) / Σ sums.sequences

Position t of every `_BT` array speaks of one target token: the caller shifts inputs and targets.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# --- supervised fine-tuning ----------------------------------------------------------------------


def sft_token_loss(logprobs_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """Negative log-likelihood of the policy's own tokens.

    Interpreter output and prompts are False in `mask_BT`: they are read, never learnt.
    """
    return jnp.where(mask_BT.astype(bool), -logprobs_BT, 0.0)


# --- reinforcement learning ----------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("normalise_std",))
def group_advantages(
    rewards_PR: jax.Array, valid_PR: jax.Array, eps: float = 1e-6, *, normalise_std: bool = True
) -> jax.Array:
    """Reward relative to the other answers to the same question. A group that agrees gives zeros.

    Rows that are not valid (the sandbox failed, not the answer) are left out before anything is
    averaged and get advantage 0. The standard deviation is that of the group itself (divided by the
    number of members, not by one less); whether the paper divides by it is not known (section 5).
    """
    rewards_PR = jnp.asarray(rewards_PR, jnp.float32)
    valid_PR = jnp.asarray(valid_PR, bool)
    members_P1 = jnp.maximum(valid_PR.sum(axis=1, keepdims=True), 1)
    mean_P1 = jnp.sum(rewards_PR, axis=1, keepdims=True, where=valid_PR) / members_P1
    centered_PR = jnp.where(valid_PR, rewards_PR - mean_P1, 0.0)
    if normalise_std:
        variance_P1 = jnp.sum(centered_PR**2, axis=1, keepdims=True) / members_P1
        centered_PR = centered_PR / (jnp.sqrt(variance_P1) + eps)
    # The mean of equal floats may differ from them by a rounding error, which a division by a tiny
    # deviation would blow up. Whether a group agrees is therefore asked of the rewards themselves.
    highest_P1 = jnp.max(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=-jnp.inf)
    lowest_P1 = jnp.min(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=jnp.inf)
    return jnp.where(highest_P1 > lowest_P1, centered_PR, 0.0)


class GrpoSums(NamedTuple):
    """Sums over the rows of a micro-batch; add them up with `jax.tree.map(jnp.add, a, b)`."""

    sequences: jax.Array
    """Rows with at least one sampled token: the denominator of the loss."""
    tokens: jax.Array
    """Sampled tokens: the denominator of the statistics of the ratio."""
    surrogate: jax.Array
    """Over sequences, of the mean clipped gain."""
    kl: jax.Array
    """Over sequences, of the mean k3 estimate of KL(policy || reference)."""
    clipped: jax.Array
    """Tokens whose gradient the clip removed."""
    ratio: jax.Array
    """Over tokens, of policy / behaviour probability."""
    ratio_deviation: jax.Array
    """Over tokens, of (ratio - 1) squared."""
    old_kl: jax.Array
    """Over tokens, of the k3 estimate of KL(behaviour || policy): how stale the samples are."""


def token_weights(mask_BT: jax.Array) -> jax.Array:
    """What one sampled token counts in its sequence's mean: 1/|y|, and 0 where none was sampled."""
    mask_BT = mask_BT.astype(bool)
    length_B1 = mask_BT.sum(axis=1, keepdims=True, dtype=jnp.float32)
    return jnp.where(mask_BT, 1.0 / jnp.maximum(length_B1, 1.0), 0.0)


def grpo_token_loss(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
) -> jax.Array:
    """Group-relative policy optimisation with the interpreter's tokens left out (paper section 5).

    For a sampled token t of a row y:

        (1/|y|) (-min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A) + kl_coef k3_t)

    where |y| counts sampled tokens: the sum over all, divided by `sums.sequences`, is the paper's
    mean over sequences of the mean over tokens. The ratio r compares with the policy that sampled
    (with the reference, the clip would end all learning at a fixed distance). k3 = exp(d) - d - 1
    with d = log reference - log policy is unbiased for KL(policy || reference) and never negative.

    Args:
        logprobs_BT: Under the policy that is trained; the only argument with a gradient.
        old_logprobs_BT: Under the policy that sampled.
        ref_logprobs_BT: Under the frozen model that the stage started from.
        advantages_BT: Of the whole sequence, the same at every token.
        token_weights_BT: As `shares` gives them; 0 where the policy did not choose.
        clip_low: How far the ratio may fall below one and still teach.
        clip_high: How far it may rise above one.
        kl_coef: Weight of the KL to the reference (paper: 0.001).
    """
    _, unclipped_BT, clipped_BT, kl_BT = _terms(
        logprobs_BT,
        old_logprobs_BT,
        ref_logprobs_BT,
        advantages_BT,
        token_weights_BT,
        clip_low,
        clip_high,
    )
    return token_weights_BT * (kl_coef * kl_BT - jnp.minimum(unclipped_BT, clipped_BT))


def grpo_sums(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
) -> GrpoSums:
    """Denominators and metrics of the same tokens."""
    log_ratio_BT, unclipped_BT, clipped_BT, kl_BT = _terms(
        logprobs_BT,
        old_logprobs_BT,
        ref_logprobs_BT,
        advantages_BT,
        token_weights_BT,
        clip_low,
        clip_high,
    )
    ratio_BT, is_sampled_BT = jnp.exp(log_ratio_BT), token_weights_BT > 0

    def over_tokens(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT, where=is_sampled_BT, dtype=jnp.float32)

    return GrpoSums(
        sequences=jnp.sum(is_sampled_BT.any(axis=1), dtype=jnp.float32),
        tokens=over_tokens(is_sampled_BT),
        surrogate=jnp.sum(token_weights_BT * jnp.minimum(unclipped_BT, clipped_BT)),
        kl=jnp.sum(token_weights_BT * kl_BT),
        clipped=over_tokens(clipped_BT < unclipped_BT),
        ratio=over_tokens(ratio_BT),
        ratio_deviation=over_tokens((ratio_BT - 1.0) ** 2),
        old_kl=over_tokens(_k3(log_ratio_BT)),
    )


def _terms(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    clip_low: float,
    clip_high: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of each token: log ratio, gain, bounded gain, and the k3 estimate of the KL."""

    def difference(a_BT: jax.Array, b_BT: jax.Array) -> jax.Array:
        # Zeroed before any exp: what stands at tokens that were not sampled may be anything.
        return jnp.where(token_weights_BT > 0, a_BT - b_BT, 0.0)

    log_ratio_BT = difference(logprobs_BT, old_logprobs_BT)
    ratio_BT = jnp.exp(log_ratio_BT)
    clipped_ratio_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    kl_BT = _k3(difference(ref_logprobs_BT, logprobs_BT))
    return log_ratio_BT, ratio_BT * advantages_BT, clipped_ratio_BT * advantages_BT, kl_BT


def grpo_metrics(sums: GrpoSums, *, kl_coef: float) -> dict[str, float]:
    """Means of a whole step, from the sums of all its micro-batches on the host."""
    of = {name: float(value) for name, value in sums._asdict().items()}
    sequences, tokens = max(of["sequences"], 1.0), max(of["tokens"], 1.0)
    return {
        "loss": (kl_coef * of["kl"] - of["surrogate"]) / sequences,
        "surrogate": of["surrogate"] / sequences,
        "kl": of["kl"] / sequences,
        "clip_fraction": of["clipped"] / tokens,
        "ratio_mean": of["ratio"] / tokens,
        "ratio_deviation": math.sqrt(of["ratio_deviation"] / tokens),
        "old_kl": of["old_kl"] / tokens,
    }


def _k3(difference_BT: jax.Array) -> jax.Array:
    # expm1 keeps small differences: exp(d) - 1 - d would cancel to noise below 1e-4.
    return jnp.expm1(difference_BT) - difference_BT
