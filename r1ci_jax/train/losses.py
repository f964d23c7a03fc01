"""The objectives: supervised loss, group advantages and the GRPO loss, per token.

Everything a trainer divides is returned as a sum and its denominator. A step that is split into
microbatches adds gradients, sums and denominators, then divides: the split changes nothing.

    arrays = x_BTD, weight, targets_BT, sampled_BT, inputs
    loss_sum, scores = lm_head.lm_head_loss(settings, grpo_token_loss, *arrays)
    # over all microbatches: gradient = Σ grad(loss_sum) / Σ sums.sequences

Position t of every `_BT` array describes one target token: the caller shifts inputs and targets.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.rollout.diagnostics.token_sums import RowSums

# --- supervised fine-tuning ----------------------------------------------------------------------


def sft_token_loss(logprobs_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """Negative log-likelihood of the policy's own tokens.

    Interpreter output and prompts are False in `mask_BT`: they are context, without loss.
    """
    return jnp.where(mask_BT.astype(bool), -logprobs_BT, 0.0)


# --- reinforcement learning ----------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("normalize_std",))
def group_advantages(
    rewards_PR: jax.Array, valid_PR: jax.Array, eps: float = 1e-6, *, normalize_std: bool = True
) -> jax.Array:
    """Compare each reward with the rest of its group. A group of equal rewards gets zeros.

    Invalid members (the sandbox failed, not the answer) are left out of every mean and get
    advantage 0. The standard deviation is the population's (divided by the number of members, not
    by one less); whether the paper divides by it is not known (section 5).
    """
    rewards_PR = jnp.asarray(rewards_PR, jnp.float32)
    valid_PR = jnp.asarray(valid_PR, bool)
    members_P1 = jnp.maximum(valid_PR.sum(axis=1, keepdims=True), 1)
    mean_P1 = jnp.sum(rewards_PR, axis=1, keepdims=True, where=valid_PR) / members_P1
    centered_PR = jnp.where(valid_PR, rewards_PR - mean_P1, 0.0)
    if normalize_std:
        variance_P1 = jnp.sum(centered_PR**2, axis=1, keepdims=True) / members_P1
        centered_PR = centered_PR / (jnp.sqrt(variance_P1) + eps)
    # The mean of equal floats may differ from them by a rounding error, which a division by a tiny
    # deviation would blow up. The rewards themselves therefore decide if a group is all equal.
    highest_P1 = jnp.max(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=-jnp.inf)
    lowest_P1 = jnp.min(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=jnp.inf)
    return jnp.where(highest_P1 > lowest_P1, centered_PR, 0.0)


class GrpoSums(NamedTuple):
    """Sums over the rows of a microbatch; add them up with `jax.tree.map(jnp.add, a, b)`."""

    sequences: jax.Array
    """Number of rows with at least one sampled token: the denominator of the loss."""
    tokens: jax.Array
    """Number of sampled tokens: the denominator of the ratio's statistics."""
    surrogate: jax.Array
    """Sum over sequences of the mean clipped objective."""
    kl: jax.Array
    """Sum over sequences of the mean k3 estimate of KL(policy || reference); 0 without one."""
    clipped: jax.Array
    """Number of tokens whose gradient the clip removed."""
    ratio: jax.Array
    """Sum over tokens of the probability ratio policy / old policy."""
    ratio_deviation: jax.Array
    """Sum over tokens of (ratio - 1) squared."""
    old_kl: jax.Array
    """Sum over tokens of the k3 estimate of KL(old policy || policy): it grows with staleness."""


def token_weights(mask_BT: jax.Array) -> jax.Array:
    """Weigh each sampled token by 1/|y|, as its sequence's mean does; other tokens by 0."""
    mask_BT = mask_BT.astype(bool)
    length_B1 = mask_BT.sum(axis=1, keepdims=True, dtype=jnp.float32)
    return jnp.where(mask_BT, 1.0 / jnp.maximum(length_B1, 1.0), 0.0)


def grpo_token_loss(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array | None,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
) -> jax.Array:
    """Group-relative policy optimization without the interpreter's tokens (paper section 5).

    For a sampled token t of a row y:

        (1/|y|) (-min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A) + kl_coef k3_t)

    where |y| counts sampled tokens: the sum over all, divided by `sums.sequences`, is the paper's
    mean over sequences of the mean over tokens. The ratio r compares with the policy that sampled
    (with the reference, the clip would end all learning at a fixed distance). k3 = exp(d) - d - 1
    with d = log reference - log policy is unbiased for KL(policy || reference) and never negative.

    Args:
        logprobs_BT: Under the policy in training; the only argument with a gradient.
        old_logprobs_BT: Under the policy that sampled.
        ref_logprobs_BT: Under the frozen model that the training started from; None without a KL
            term, and then `kl_coef` must be 0.
        advantages_BT: Advantage of the whole sequence, the same at every token.
        token_weights_BT: Result of `token_weights`; 0 where the policy did not choose.
        clip_low: Distance below one at which the ratio is clipped.
        clip_high: Distance above one at which the ratio is clipped.
        kl_coef: Weight of the KL to the reference (paper: 0.001).
    """
    _, unclipped_BT, clipped_BT = _surrogate_terms(
        logprobs_BT, old_logprobs_BT, advantages_BT, token_weights_BT, clip_low, clip_high
    )
    surrogate_BT = jnp.minimum(unclipped_BT, clipped_BT)
    if ref_logprobs_BT is None:
        assert kl_coef == 0.0, "a KL term needs the reference's log-probabilities"
        return token_weights_BT * -surrogate_BT
    kl_BT = _kl_to_reference(logprobs_BT, ref_logprobs_BT, token_weights_BT)
    return token_weights_BT * (kl_coef * kl_BT - surrogate_BT)


def grpo_sums(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array | None,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
) -> GrpoSums:
    """Sum the denominators and metrics of the same tokens."""
    log_ratio_BT, unclipped_BT, clipped_BT = _surrogate_terms(
        logprobs_BT, old_logprobs_BT, advantages_BT, token_weights_BT, clip_low, clip_high
    )
    kl_BT = jnp.zeros_like(logprobs_BT)
    if ref_logprobs_BT is not None:
        kl_BT = _kl_to_reference(logprobs_BT, ref_logprobs_BT, token_weights_BT)
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


def grpo_row_sums(
    index_B: jax.Array | None,
    entropy_BT: jax.Array,
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array | None,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
) -> RowSums:
    """Sum metrics of the same tokens by row; the loss does not depend on them."""
    _, unclipped_BT, clipped_BT = _surrogate_terms(
        logprobs_BT, old_logprobs_BT, advantages_BT, token_weights_BT, clip_low, clip_high
    )
    has_loss_BT = token_weights_BT > 0
    kl_B = None

    def over_tokens(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT, axis=1, where=has_loss_BT, dtype=jnp.float32)

    if ref_logprobs_BT is not None:
        kl_B = over_tokens(_kl_to_reference(logprobs_BT, ref_logprobs_BT, token_weights_BT))
    return RowSums(
        index_B=index_B,
        tokens_B=over_tokens(has_loss_BT),
        entropy_B=over_tokens(entropy_BT),
        clipped_B=over_tokens(clipped_BT < unclipped_BT),
        kl_B=kl_B,
    )


def _surrogate_terms(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    token_weights_BT: jax.Array,
    clip_low: float,
    clip_high: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return log ratio, unclipped and clipped objective of each token."""
    log_ratio_BT = _difference(logprobs_BT, old_logprobs_BT, token_weights_BT)
    ratio_BT = jnp.exp(log_ratio_BT)
    clipped_ratio_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    return log_ratio_BT, ratio_BT * advantages_BT, clipped_ratio_BT * advantages_BT


def _kl_to_reference(
    logprobs_BT: jax.Array, ref_logprobs_BT: jax.Array, token_weights_BT: jax.Array
) -> jax.Array:
    return _k3(_difference(ref_logprobs_BT, logprobs_BT, token_weights_BT))


def _difference(a_BT: jax.Array, b_BT: jax.Array, token_weights_BT: jax.Array) -> jax.Array:
    # Zeroed before any exp: values at tokens that were not sampled are arbitrary.
    return jnp.where(token_weights_BT > 0, a_BT - b_BT, 0.0)


def grpo_metrics(sums: GrpoSums, *, kl_coef: float) -> dict[str, float]:
    """Average a whole step on the host, from the sums of all its microbatches.

    Without a KL term (`kl_coef` 0) there is no reference and no `kl`.
    """
    host = {name: float(value) for name, value in sums._asdict().items()}
    sequences, tokens = max(host["sequences"], 1.0), max(host["tokens"], 1.0)
    return {
        "loss": (kl_coef * host["kl"] - host["surrogate"]) / sequences,
        "surrogate": host["surrogate"] / sequences,
        **({"kl": host["kl"] / sequences} if kl_coef else {}),
        "clip_fraction": host["clipped"] / tokens,
        "ratio_mean": host["ratio"] / tokens,
        "ratio_deviation": math.sqrt(host["ratio_deviation"] / tokens),
        "old_kl": host["old_kl"] / tokens,
    }


def _k3(difference_BT: jax.Array) -> jax.Array:
    # expm1 keeps small differences: exp(d) - 1 - d would cancel to noise below 1e-4.
    return jnp.expm1(difference_BT) - difference_BT
