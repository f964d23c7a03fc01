"""What is optimised: token log-probabilities, supervised loss, advantages, GRPO objective.

Everything a trainer divides is returned as a sum and the count that belongs to it. A step that is
split into micro-batches adds gradients, sums and counts, then divides: the split changes nothing.

    logprobs_BT, entropy_BT = token_logprobs(x_BTD, head_DV, tokens_BT[:, 1:])
    loss_sum, sums = grpo_loss(logprobs_BT, old_BT, ref_BT, advantages_B, mask_BT, ...)
    # over all micro-batches: gradient = Σ grad(loss_sum) / Σ sums.sequences

Position t of every `_BT` array speaks of one target token: the caller shifts inputs and targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_Pair = tuple[jax.Array, jax.Array]


# --- log-probabilities ---------------------------------------------------------------------------


def token_logprobs(
    x_BTD: jax.Array,
    head_DV: jax.Array,
    targets_BT: jax.Array,
    *,
    temperature: float | jax.Array = 1.0,
    chunk: int = 2048,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each target and entropy of its distribution, without [B, T, V] logits.

    The head is applied to a few positions of every row at a time and applied again in the backward
    pass, so at most `chunk` x V logits exist. Every pass takes all rows: a batch that is sharded
    over devices stays sharded.

    Args:
        x_BTD: Output of the final norm at the position before each target.
        head_DV: Output projection. Pass the float32 parameters even when `x_BTD` is bfloat16: the
            product runs in the type of `x_BTD`, the gradient of the head is summed in float32.
        targets_BT: Token ids; where a position does not count, any valid id.
        temperature: Divides the logits; the temperature at which the tokens were sampled.
        chunk: Positions (rows x tokens, over all devices) of one pass.

    Returns:
        Float32 arrays [B, T]. No gradient flows through the entropy: it is a measurement.
    """
    rows, length, _ = x_BTD.shape
    passes = max(1, -(-rows * length // chunk))
    width = -(-length // passes)
    passes = -(-length // width)
    padding = passes * width - length

    # I passes of W positions each, scanned one after the other.
    def split(values_BT: jax.Array) -> jax.Array:
        wide = jnp.pad(values_BT, ((0, 0), (0, padding)) + ((0, 0),) * (values_BT.ndim - 2))
        return wide.reshape(rows, passes, width, *values_BT.shape[2:]).swapaxes(0, 1)

    def join(values_IBW: jax.Array) -> jax.Array:
        return values_IBW.swapaxes(0, 1).reshape(rows, passes * width)[:, :length]

    @jax.checkpoint
    def one_pass(head_DV: jax.Array, x_BWD: jax.Array, targets_BW: jax.Array) -> _Pair:
        logits_BWV = jnp.einsum(
            "bwd,dv->bwv", x_BWD, head_DV.astype(x_BWD.dtype), preferred_element_type=jnp.float32
        )
        return _chosen_and_entropy(logits_BWV / temperature, targets_BW)

    head_DV = head_DV.astype(jnp.float32)
    _, (logprobs_IBW, entropy_IBW) = jax.lax.scan(
        lambda carry, inputs: (carry, one_pass(head_DV, *inputs)),
        None,
        (split(x_BTD), split(targets_BT)),
    )
    return join(logprobs_IBW), join(entropy_IBW)


def _chosen_and_entropy(logits_BTV: jax.Array, targets_BT: jax.Array) -> _Pair:
    log_sum_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    chosen_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    still_BTV, still_sum_BT = jax.lax.stop_gradient((logits_BTV, log_sum_BT))
    probabilities_BTV = jnp.exp(still_BTV - still_sum_BT[..., None])
    entropy_BT = still_sum_BT - jnp.sum(probabilities_BTV * still_BTV, axis=-1)
    return chosen_BT - log_sum_BT, entropy_BT


# --- supervised fine-tuning ----------------------------------------------------------------------


def sft_loss(logprobs_BT: jax.Array, mask_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of the negative log-likelihood over the policy's own tokens, and their number.

    Interpreter output and prompts are False in `mask_BT`: they are read, never learnt.
    """
    mask_BT = mask_BT.astype(bool)
    return -jnp.sum(logprobs_BT, where=mask_BT), mask_BT.sum(dtype=jnp.float32)


# --- reinforcement learning ----------------------------------------------------------------------


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
    centred_PR = jnp.where(valid_PR, rewards_PR - mean_P1, 0.0)
    if normalise_std:
        variance_P1 = jnp.sum(centred_PR**2, axis=1, keepdims=True) / members_P1
        centred_PR = centred_PR / (jnp.sqrt(variance_P1) + eps)
    # The mean of equal floats may differ from them by a rounding error, which a division by a tiny
    # deviation would blow up. Whether a group agrees is therefore asked of the rewards themselves.
    highest_P1 = jnp.max(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=-jnp.inf)
    lowest_P1 = jnp.min(rewards_PR, axis=1, keepdims=True, where=valid_PR, initial=jnp.inf)
    return jnp.where(highest_P1 > lowest_P1, centred_PR, 0.0)


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
    behaviour_kl: jax.Array
    """Over tokens, of the k3 estimate of KL(behaviour || policy): how stale the samples are."""


def grpo_loss(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    advantages_B: jax.Array,
    mask_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
) -> tuple[jax.Array, GrpoSums]:
    """Group-relative policy optimisation with the interpreter's tokens left out (paper section 5).

    For each row y with sampled tokens t, summed over rows:

        (1/|y|) Σ_t -min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A) + kl_coef k3_t

    where |y| counts sampled tokens: divided by `sums.sequences` it is the paper's mean over
    sequences of the mean over tokens. The ratio r compares with the policy that sampled (with the
    reference, the clip would end all learning at a fixed distance). k3 = exp(d) - d - 1 with
    d = log reference - log policy is unbiased for KL(policy || reference) and never negative.

    Args:
        logprobs_BT: Under the policy that is trained; the only argument with a gradient.
        old_logprobs_BT: Recorded while sampling.
        ref_logprobs_BT: Under the frozen model that the stage started from.
        advantages_B: Of the whole sequence; every sampled token gets the same.
        mask_BT: True where the policy chose the target. A row without any counts nowhere.
        clip_low: How far the ratio may fall below one and still teach.
        clip_high: How far it may rise above one.
        kl_coef: Weight of the KL to the reference (paper: 0.001).

    Returns the sum to differentiate, and the sums that give denominators and metrics.
    """
    mask_BT, length_B = mask_BT.astype(bool), mask_BT.sum(axis=1, dtype=jnp.float32)

    def over_sequences(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sum(values_BT, axis=1, where=mask_BT) / jnp.maximum(length_B, 1.0))

    def over_tokens(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT, where=mask_BT, dtype=jnp.float32)

    # Differences are zeroed before exp: what stands outside the mask may be anything.
    log_ratio_BT = jnp.where(mask_BT, logprobs_BT - old_logprobs_BT, 0.0)
    ratio_BT = jnp.exp(log_ratio_BT)
    gain_BT = ratio_BT * advantages_B[:, None]
    bounded_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high) * advantages_B[:, None]
    surrogate = over_sequences(jnp.minimum(gain_BT, bounded_BT))
    kl = over_sequences(_k3(jnp.where(mask_BT, ref_logprobs_BT - logprobs_BT, 0.0)))
    sums = GrpoSums(
        sequences=jnp.sum(length_B > 0, dtype=jnp.float32),
        tokens=length_B.sum(),
        surrogate=surrogate,
        kl=kl,
        clipped=over_tokens(bounded_BT < gain_BT),
        ratio=over_tokens(ratio_BT),
        ratio_deviation=over_tokens((ratio_BT - 1.0) ** 2),
        behaviour_kl=over_tokens(_k3(log_ratio_BT)),
    )
    return kl_coef * kl - surrogate, jax.lax.stop_gradient(sums)


def grpo_metrics(sums: GrpoSums, *, kl_coef: float) -> dict[str, jax.Array]:
    """Means of a whole step, from the sums of all its micro-batches."""
    sequences = jnp.maximum(sums.sequences, 1.0)
    tokens = jnp.maximum(sums.tokens, 1.0)
    return {
        "loss": (kl_coef * sums.kl - sums.surrogate) / sequences,
        "surrogate": sums.surrogate / sequences,
        "kl": sums.kl / sequences,
        "clip_fraction": sums.clipped / tokens,
        "ratio_mean": sums.ratio / tokens,
        "ratio_deviation": jnp.sqrt(sums.ratio_deviation / tokens),
        "behaviour_kl": sums.behaviour_kl / tokens,
    }


def _k3(difference_BT: jax.Array) -> jax.Array:
    # expm1 keeps small differences: exp(d) - 1 - d would cancel to noise below 1e-4.
    return jnp.expm1(difference_BT) - difference_BT
