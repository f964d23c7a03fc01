"""The objectives: supervised loss and the GRPO loss, per token.

Everything a trainer divides is returned as a sum and its denominator. A step that is split into
microbatches adds gradients, sums and denominators, then divides: the split changes nothing.

    arrays = x_BTD, weight, targets_BT, sampled_BT, inputs
    loss_sum, scores = lm_head.lm_head_loss(lm_head, grpo_token_loss, *arrays)
    # over all microbatches: gradient = Σ grad(loss_sum) / Σ denominator(sums)

Position t of every `_BT` array describes one target token: the caller shifts inputs and targets.
The published forms that the GRPO loss is put together from are in `objective/`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.rollout.diagnostics.token_sums import RowSums
from r1ci_jax.train.objective import importance, surrogates
from r1ci_jax.train.objective.divergence import estimate_kl
from r1ci_jax.train.objective.importance import ImportanceWeights
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.objective.surrogates import TokenObjective

# --- supervised fine-tuning ----------------------------------------------------------------------


def sft_token_loss(logprobs_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """Negative log-likelihood of the policy's own tokens.

    Interpreter output and prompts are False in `mask_BT`: they are context, without loss.
    """
    return jnp.where(mask_BT.astype(bool), -logprobs_BT, 0.0)


# --- reinforcement learning ----------------------------------------------------------------------


class TokenInputs(NamedTuple):
    """What the loss compares a token with; constants in the loss."""

    old_logprobs_BT: jax.Array
    """Under the policy in the ratio's denominator (`grpo.old_logprobs`)."""
    ref_logprobs_BT: jax.Array | None
    """Under the reference; None without a KL term, and then `kl_coef` must be 0."""
    advantages_BT: jax.Array
    """Advantage of the whole sequence, the same at every token."""
    token_weights_BT: jax.Array
    """Result of `aggregation.token_weights`; 0 where the policy did not choose."""
    log_importance_BT: jax.Array | None = None
    """log old - log sampler of each token, or with GSPO their mean over the row; None without
    importance weights."""
    sequence_log_ratio_BT: jax.Array | None = None
    """Mean log ratio of the row under the weights in training; for GSPO alone."""


class GrpoSums(NamedTuple):
    """Sums over the rows of a microbatch; add them up with `jax.tree.map(jnp.add, a, b)`."""

    sequences: jax.Array
    """Number of rows with at least one sampled token."""
    tokens: jax.Array
    """Number of sampled tokens: the denominator of the ratio's statistics."""
    surrogate: jax.Array
    """Weighted sum over tokens of the policy objective."""
    kl: jax.Array
    """Weighted sum over tokens of the estimated KL(policy || reference); 0 without one."""
    clipped: jax.Array
    """Number of tokens on which the clip, cap or mask of the surrogate acted."""
    ratio: jax.Array
    """Sum over tokens of the probability ratio policy / old policy."""
    ratio_deviation: jax.Array
    """Sum over tokens of (ratio - 1) squared."""
    old_kl: jax.Array
    """Sum over tokens of the k3 estimate of KL(old policy || policy): it grows with staleness."""
    prompts: jax.Array | None = None
    """Number of questions with at least one sampled token; None unless they are averaged."""
    dual_clipped: jax.Array | None = None
    """Number of tokens on which the dual clip acted; None without it."""
    importance: jax.Array | None = None
    """Sum over tokens of the importance weights before their bound; None without them."""
    importance_limited: jax.Array | None = None
    """Number of tokens whose importance weight was truncated or masked; None without weights."""

    @classmethod
    def filled(cls, value: Any, settings: LossSettings) -> "GrpoSums":
        """Make the sums that these settings have, each with this value."""
        names = [name for name in cls._fields if name not in cls._field_defaults]
        if settings.aggregation == "prompt_mean":
            names.append("prompts")
        if settings.dual_clip:
            names.append("dual_clipped")
        if settings.has_importance:
            names += ["importance", "importance_limited"]
        values: dict[str, Any] = dict.fromkeys(names, value)
        return cls(**values)


def grpo_token_loss(
    logprobs_BT: jax.Array, *inputs: jax.Array | None, settings: LossSettings
) -> jax.Array:
    """Group-relative policy optimization without the interpreter's tokens (paper section 5).

    For a sampled token t of a row y, with the paper's settings:

        (1/|y|) (-min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A) + kl_coef k3_t)

    where |y| counts sampled tokens: the sum over all, divided by `denominator`, is the paper's
    mean over sequences of the mean over tokens. The ratio r compares with the policy that sampled
    (with the reference, the clip would end all learning at a fixed distance). k3 = exp(d) - d - 1
    with d = log reference - log policy is unbiased for KL(policy || reference) and never negative.

    Other settings put another weight in place of 1/|y| (`objective/aggregation.py`), another
    objective in place of the clipped one (`objective/surrogates.py`), weigh it by old / sampler
    (`objective/importance.py`) and estimate the divergence otherwise (`objective/divergence.py`).

    Args:
        logprobs_BT: Under the policy in training; the only argument with a gradient.
        inputs: The fields of `TokenInputs`.
        settings: Form of the loss.
    """
    tokens = TokenInputs(*inputs)  # type: ignore[arg-type]  # None where its field may be None
    _, objective, weights = _token_objective(logprobs_BT, tokens, settings)
    surrogate_BT = objective.value_BT
    if weights is not None:
        surrogate_BT = weights.weight_BT * surrogate_BT
    if tokens.ref_logprobs_BT is None:
        assert settings.kl_coef == 0.0, "a KL term needs the reference's log-probabilities"
        return tokens.token_weights_BT * -surrogate_BT
    kl_BT = _kl_to_reference(logprobs_BT, tokens, settings)
    return tokens.token_weights_BT * (settings.kl_coef * kl_BT - surrogate_BT)


def grpo_sums(
    logprobs_BT: jax.Array, *inputs: jax.Array | None, settings: LossSettings
) -> GrpoSums:
    """Sum the denominators and metrics of the same tokens."""
    tokens = TokenInputs(*inputs)  # type: ignore[arg-type]  # None where its field may be None
    log_ratio_BT, objective, weights = _token_objective(logprobs_BT, tokens, settings)
    token_weights_BT, surrogate_BT = tokens.token_weights_BT, objective.value_BT
    kl_BT = jnp.zeros_like(logprobs_BT)
    if tokens.ref_logprobs_BT is not None:
        kl_BT = _kl_to_reference(logprobs_BT, tokens, settings)
    ratio_BT, is_sampled_BT = jnp.exp(log_ratio_BT), token_weights_BT > 0

    def over_tokens(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT, where=is_sampled_BT, dtype=jnp.float32)

    optional: dict[str, jax.Array] = {}
    if settings.aggregation == "prompt_mean":
        # The weights of a question's tokens add up to 1.
        optional["prompts"] = jnp.sum(token_weights_BT)
    if objective.is_dual_clipped_BT is not None:
        optional["dual_clipped"] = over_tokens(objective.is_dual_clipped_BT)
    if weights is not None:
        surrogate_BT = weights.weight_BT * surrogate_BT
        optional["importance"] = over_tokens(weights.ratio_BT)
        optional["importance_limited"] = over_tokens(weights.is_limited_BT)
    return GrpoSums(
        sequences=jnp.sum(is_sampled_BT.any(axis=1), dtype=jnp.float32),
        tokens=over_tokens(is_sampled_BT),
        surrogate=jnp.sum(token_weights_BT * surrogate_BT),
        kl=jnp.sum(token_weights_BT * kl_BT),
        clipped=over_tokens(objective.is_clipped_BT),
        ratio=over_tokens(ratio_BT),
        ratio_deviation=over_tokens((ratio_BT - 1.0) ** 2),
        old_kl=over_tokens(estimate_kl(log_ratio_BT)),
        **optional,
    )


def grpo_row_sums(
    index_B: jax.Array | None,
    entropy_BT: jax.Array,
    logprobs_BT: jax.Array,
    tokens: TokenInputs,
    settings: LossSettings,
) -> RowSums:
    """Sum metrics of the same tokens by row; the loss does not depend on them."""
    _, objective, _ = _token_objective(logprobs_BT, tokens, settings)
    has_loss_BT = tokens.token_weights_BT > 0
    kl_B = None

    def over_tokens(values_BT: jax.Array) -> jax.Array:
        return jnp.sum(values_BT, axis=1, where=has_loss_BT, dtype=jnp.float32)

    if tokens.ref_logprobs_BT is not None:
        kl_B = over_tokens(_kl_to_reference(logprobs_BT, tokens, settings))
    return RowSums(
        index_B=index_B,
        tokens_B=over_tokens(has_loss_BT),
        entropy_B=over_tokens(entropy_BT),
        clipped_B=over_tokens(objective.is_clipped_BT),
        kl_B=kl_B,
    )


def add_sequence_ratio(tokens: TokenInputs, logprobs_BT: jax.Array) -> TokenInputs:
    """Add the mean log ratio of each row, which GSPO needs before the loss of any token."""
    is_sampled_BT = tokens.token_weights_BT > 0
    log_ratio_BT = _difference(logprobs_BT, tokens.old_logprobs_BT, is_sampled_BT)
    found_BT = surrogates.sequence_log_ratio(log_ratio_BT, is_sampled_BT)
    return tokens._replace(sequence_log_ratio_BT=found_BT)


def add_importance(
    tokens: TokenInputs, sampler_logprobs_BT: jax.Array, settings: LossSettings
) -> TokenInputs:
    """Add the log of the importance weights old / sampler.

    With GSPO the weight is one number a row, the geometric mean of its tokens', as its ratio is.
    """
    is_sampled_BT = tokens.token_weights_BT > 0
    log_ratio_BT = _difference(tokens.old_logprobs_BT, sampler_logprobs_BT, is_sampled_BT)
    if settings.surrogate == "gspo":
        log_ratio_BT = surrogates.sequence_log_ratio(log_ratio_BT, is_sampled_BT)
    return tokens._replace(log_importance_BT=log_ratio_BT)


def _token_objective(
    logprobs_BT: jax.Array, tokens: TokenInputs, settings: LossSettings
) -> tuple[jax.Array, TokenObjective, ImportanceWeights | None]:
    """Return log ratio and objective of each token, and the weights of the latter if it has any."""
    old_BT, advantages_BT = tokens.old_logprobs_BT, tokens.advantages_BT
    is_sampled_BT = tokens.token_weights_BT > 0
    log_ratio_BT = _difference(logprobs_BT, old_BT, is_sampled_BT)
    ratio_BT = jnp.exp(log_ratio_BT)
    match settings.surrogate:
        case "cispo":
            logprobs_BT = jnp.where(is_sampled_BT, logprobs_BT, 0.0)
            objective = surrogates.capped_weight(
                logprobs_BT, ratio_BT, advantages_BT, settings.clip_high
            )
        case "dppo":
            objective = surrogates.masked_change(
                logprobs_BT, old_BT, ratio_BT, advantages_BT, settings.dppo_max_change
            )
        case "clip" | "gspo":
            if settings.surrogate == "gspo":
                assert tokens.sequence_log_ratio_BT is not None, "GSPO needs `add_sequence_ratio`"
                ratio_BT = surrogates.sequence_ratio(log_ratio_BT, tokens.sequence_log_ratio_BT)
            objective = surrogates.clipped(
                ratio_BT, advantages_BT, settings.clip_low, settings.clip_high
            )
    if settings.dual_clip:
        objective = surrogates.bound_negative(
            objective, ratio_BT, advantages_BT, settings.dual_clip
        )
    if not settings.has_importance:
        return log_ratio_BT, objective, None
    assert tokens.log_importance_BT is not None, "importance weights need `add_importance`"
    weights = importance.bounded_weights(
        tokens.log_importance_BT,
        settings.importance,
        low=settings.importance_low,
        high=settings.importance_high,
    )
    return log_ratio_BT, objective, weights


def _kl_to_reference(
    logprobs_BT: jax.Array, tokens: TokenInputs, settings: LossSettings
) -> jax.Array:
    assert tokens.ref_logprobs_BT is not None
    is_sampled_BT = tokens.token_weights_BT > 0
    difference_BT = _difference(tokens.ref_logprobs_BT, logprobs_BT, is_sampled_BT)
    return estimate_kl(difference_BT, settings.kl_estimator)


def _difference(a_BT: jax.Array, b_BT: jax.Array, is_sampled_BT: jax.Array) -> jax.Array:
    # Zeroed before any exp: values at tokens that were not sampled are arbitrary.
    return jnp.where(is_sampled_BT, a_BT - b_BT, 0.0)


def denominator(sums: GrpoSums, settings: LossSettings) -> jax.Array:
    """Return what the summed loss of an optimizer step is divided by."""
    match settings.aggregation:
        case "sequence_mean" | "constant":
            return sums.sequences
        case "token_mean":
            return sums.tokens
        case "prompt_mean":
            assert sums.prompts is not None
            return sums.prompts


def grpo_metrics(sums: GrpoSums, settings: LossSettings) -> dict[str, float]:
    """Average a whole step on the host, from the sums of all its microbatches.

    Without a KL term (`kl_coef` 0) there is no reference and no `kl`, and what is said of dual clip
    and importance weights is there with them.
    """
    host = {name: float(value) for name, value in sums._asdict().items() if value is not None}
    divisor = max(float(denominator(sums, settings)), 1.0)
    tokens = max(host["tokens"], 1.0)
    found = {
        "loss": (settings.kl_coef * host["kl"] - host["surrogate"]) / divisor,
        "surrogate": host["surrogate"] / divisor,
        **({"kl": host["kl"] / divisor} if settings.kl_coef else {}),
        "clip_fraction": host["clipped"] / tokens,
        "ratio_mean": host["ratio"] / tokens,
        "ratio_deviation": math.sqrt(host["ratio_deviation"] / tokens),
        "old_kl": host["old_kl"] / tokens,
    }
    if settings.dual_clip:
        found["dual_clip_fraction"] = host["dual_clipped"] / tokens
    if settings.has_importance:
        found["importance_mean"] = host["importance"] / tokens
    if settings.importance != "none":
        how = {"truncate": "truncated", "mask": "masked"}[settings.importance]
        found[f"importance_{how}_fraction"] = host["importance_limited"] / tokens
    return found
