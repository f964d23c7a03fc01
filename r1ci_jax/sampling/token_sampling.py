"""Sample one token per slot, with repetition penalty, temperature and filters per slot.

No noise over the vocabulary is generated: inverting the cumulative sum at one uniform number gives
the token. What a slot does not ask for costs nothing.

Axes: S slots, V vocabulary, M blocks of b entries each, C positions of the longest trajectory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.config import SamplingParams
from r1ci_jax.sampling import filters

BLOCK = 256
"""A block of the two-level search has this many vocabulary entries."""
_LEAST_TEMPERATURE = 1e-30
"""Logits divided by less could be infinite; of two that differ, the larger is taken long before."""


class SamplingArrays(NamedTuple):
    """`SamplingParams` of every slot, on the device."""

    temperature_S: jax.Array
    top_k_S: jax.Array
    top_p_S: jax.Array
    min_p_S: jax.Array
    repetition_penalty_S: jax.Array

    @classmethod
    def from_params(cls, rows: list[SamplingParams]) -> "SamplingArrays":
        """Stack the parameters, one entry per slot."""
        return cls(
            temperature_S=jnp.asarray([row.temperature for row in rows], jnp.float32),
            top_k_S=jnp.asarray([row.top_k for row in rows], jnp.int32),
            top_p_S=jnp.asarray([row.top_p for row in rows], jnp.float32),
            min_p_S=jnp.asarray([row.min_p for row in rows], jnp.float32),
            repetition_penalty_S=jnp.asarray([row.repetition_penalty for row in rows], jnp.float32),
        )


def penalize(
    logits_SV: jax.Array, history_SC: jax.Array, last_S: jax.Array, params: SamplingArrays
) -> jax.Array:
    """Make the tokens that a row holds up to its position `last_S` less likely.

    A positive logit is divided by the penalty and another one multiplied, as in transformers and
    vLLM, which count the prompt's tokens too (CTRL, arXiv 1909.05858, section 4.1).
    """
    vocab = logits_SV.shape[1]
    penalty_S1 = params.repetition_penalty_S[:, None]

    def penalized() -> jax.Array:
        is_held_SC = jnp.arange(history_SC.shape[1])[None, :] <= last_S[:, None]
        token_SC = jnp.where(is_held_SC, history_SC, vocab)
        logit_SC = jnp.take_along_axis(logits_SV, token_SC, axis=1, mode="clip")
        logit_SC = jnp.where(logit_SC > 0, logit_SC / penalty_S1, logit_SC * penalty_S1)
        row_S1 = jnp.arange(len(logits_SV))[:, None]
        return logits_SV.at[row_S1, token_SC].set(logit_SC, mode="drop")

    return jax.lax.cond((penalty_S1 != 1).any(), penalized, lambda: logits_SV)


def sample(
    logits_SV: jax.Array, key_S: jax.Array, position_S: jax.Array, params: SamplingArrays
) -> tuple[jax.Array, jax.Array]:
    """Sample one token per slot; also return its log-probability under the sampled distribution.

    The random number depends only on the trajectory's key and the token's position, never on the
    slot index or on the rest of the batch. At temperature 0 the log-probability is that of
    temperature 1 without filters.
    """
    greedy_S = params.temperature_S == 0.0
    scale_S = jnp.where(greedy_S, 1.0, jnp.maximum(params.temperature_S, _LEAST_TEMPERATURE))
    logits_SV = jnp.where(scale_S[:, None] == 1.0, logits_SV, logits_SV / scale_S[:, None])
    highest_S = logits_SV.max(axis=-1)
    filtered_S = ~greedy_S & ((params.top_k_S > 0) | (params.top_p_S < 1) | (params.min_p_S > 0))
    asked = filters.Filters(filtered_S, params.top_k_S, params.top_p_S, params.min_p_S)
    weights_SV = jnp.exp(logits_SV - highest_S[:, None])
    weights_SV = jax.lax.cond(
        filtered_S.any(),
        lambda: jnp.where(
            ~filtered_S[:, None] | filters.keep_mask(logits_SV, weights_SV, asked),
            weights_SV,
            0.0,
        ),
        lambda: weights_SV,
    )
    uniform_S = jax.vmap(
        lambda key, position: jax.random.uniform(jax.random.fold_in(key, position))
    )(key_S, position_S)
    token_S, total_S = inverse_cdf(weights_SV, uniform_S)
    token_S = jax.lax.cond(
        greedy_S.any(),
        lambda: jnp.where(greedy_S, logits_SV.argmax(-1).astype(jnp.int32), token_S),
        lambda: token_S,
    )
    chosen_S = jnp.take_along_axis(logits_SV, token_S[:, None], axis=1)[:, 0]
    return token_S, chosen_S - highest_S - jnp.log(total_S)


def inverse_cdf(weights_SV: jax.Array, uniform_S: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sample an index with probability proportional to weights_SV; also return their sum.

    One uniform number per slot replaces Gumbel noise over the vocabulary. The cumulative sum runs
    over blocks first and then inside the chosen block: one pass over the weights and two short
    scans.
    """
    rows, vocab = weights_SV.shape
    padded = -(-vocab // BLOCK) * BLOCK
    blocks_SMb = jnp.pad(weights_SV, ((0, 0), (0, padded - vocab))).reshape(rows, -1, BLOCK)
    block_cdf_SM = jnp.cumsum(blocks_SMb.sum(-1), axis=-1)
    total_S = block_cdf_SM[:, -1]
    target_S = uniform_S * total_S
    block_S = _first_above(block_cdf_SM, target_S)
    before_SM = jnp.pad(block_cdf_SM, ((0, 0), (1, 0)))
    before_S = jnp.take_along_axis(before_SM, block_S[:, None], axis=1)[:, 0]
    chosen_Sb = jnp.take_along_axis(blocks_SMb, block_S[:, None, None], axis=1)[:, 0]
    inside_S = _first_above(jnp.cumsum(chosen_Sb, axis=-1), target_S - before_S)
    index_S = jnp.minimum(block_S * BLOCK + inside_S, vocab - 1)
    # Rounding can move the target past the last entry of positive weight of a block, or onto an
    # entry of weight zero. Then use the token of the largest weight, which is always possible.
    possible_S = jnp.take_along_axis(weights_SV, index_S[:, None], axis=1)[:, 0] > 0
    index_S = jax.lax.cond(
        possible_S.all(),
        lambda: index_S,
        lambda: jnp.where(possible_S, index_S, weights_SV.argmax(-1)),
    )
    return index_S.astype(jnp.int32), total_S


def _first_above(cdf_SX: jax.Array, target_S: jax.Array) -> jax.Array:
    """Find the first index whose cumulative sum exceeds the target, at most the last one."""
    count_S = (cdf_SX <= target_S[:, None]).sum(-1)
    return jnp.minimum(count_S, cdf_SX.shape[-1] - 1)
