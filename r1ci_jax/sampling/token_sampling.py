"""Drawing one token a row: temperature, top-k, top-p and min-p, each row with its own.

Nothing is sorted and no noise is drawn over the vocabulary. What top-k, top-p and min-p keep is
"all logits from a threshold up", so each is a threshold, found by bisection over the float's bits
(exact, 32 passes, and only when a row asks for it); the token is then found by inverting the
cumulative sum at one uniform number.

Axes: S rows, V vocabulary, M blocks of b entries each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.config import SamplingParams

BLOCK = 256
"""Vocabulary entries a block of the two-level search."""


class SamplingArrays(NamedTuple):
    """`Sampling` of every row, on the device."""

    temperature_S: jax.Array
    top_k_S: jax.Array
    top_p_S: jax.Array
    min_p_S: jax.Array

    @classmethod
    def from_params(cls, rows: list[SamplingParams]) -> "SamplingArrays":
        """One entry a row."""
        return cls(
            temperature_S=jnp.asarray([row.temperature for row in rows], jnp.float32),
            top_k_S=jnp.asarray([row.top_k for row in rows], jnp.int32),
            top_p_S=jnp.asarray([row.top_p for row in rows], jnp.float32),
            min_p_S=jnp.asarray([row.min_p for row in rows], jnp.float32),
        )


def sample(
    logits_SV: jax.Array, key_S: jax.Array, position_S: jax.Array, params: SamplingArrays
) -> tuple[jax.Array, jax.Array]:
    """One token a row and its log-probability under the distribution it was drawn from.

    The random number of a row depends on its trajectory's key and the token's position only, never
    on the slot or on the rest of the batch. At temperature 0 the log-probability is that of
    temperature 1 without filters.
    """
    greedy_S = params.temperature_S == 0.0
    scale_S = jnp.where(greedy_S, 1.0, params.temperature_S)
    logits_SV = jnp.where(scale_S[:, None] == 1.0, logits_SV, logits_SV / scale_S[:, None])
    highest_S = logits_SV.max(axis=-1)
    filtered_S = ~greedy_S & ((params.top_k_S > 0) | (params.top_p_S < 1) | (params.min_p_S > 0))
    weights_SV = jnp.exp(logits_SV - highest_S[:, None])
    weights_SV = jax.lax.cond(
        filtered_S.any(),
        lambda: jnp.where(
            ~filtered_S[:, None] | (logits_SV >= threshold(logits_SV, weights_SV, params)[:, None]),
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
    """Index v drawn with probability proportional to weights_SV, and the sum of the weights.

    One uniform number a row replaces a vocabulary of Gumbel noise. The sum is taken over blocks
    first, then inside the chosen block: one pass over the row and two short scans.
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
    # Rounding can push the target past the last entry of positive weight of a block, or onto one of
    # weight zero; the heaviest token of the row is then the answer that cannot be impossible.
    possible_S = jnp.take_along_axis(weights_SV, index_S[:, None], axis=1)[:, 0] > 0
    index_S = jax.lax.cond(
        possible_S.all(),
        lambda: index_S,
        lambda: jnp.where(possible_S, index_S, weights_SV.argmax(-1)),
    )
    return index_S.astype(jnp.int32), total_S


def _first_above(cdf_SX: jax.Array, target_S: jax.Array) -> jax.Array:
    """First index whose cumulative sum exceeds the target, at most the last index."""
    count_S = (cdf_SX <= target_S[:, None]).sum(-1)
    return jnp.minimum(count_S, cdf_SX.shape[-1] - 1)


def threshold(logits_SV: jax.Array, weights_SV: jax.Array, params: SamplingArrays) -> jax.Array:
    """The smallest logit that each row's filters keep; weights_SV are the logits' exponentials."""
    vocab = logits_SV.shape[-1]
    top_k_S = jnp.where(params.top_k_S > 0, jnp.minimum(params.top_k_S, vocab), vocab)
    by_count_S = _highest(logits_SV, lambda cut_S: (logits_SV >= cut_S[:, None]).sum(-1) >= top_k_S)

    def mass_from(cut_S: jax.Array) -> jax.Array:
        return jnp.where(logits_SV >= cut_S[:, None], weights_SV, 0.0).sum(-1)

    wanted_S = params.top_p_S * mass_from(by_count_S)
    by_mass_S = _highest(
        logits_SV,
        lambda cut_S: mass_from(jnp.maximum(cut_S, by_count_S)) >= wanted_S,
    )
    by_mass_S = jnp.where(params.top_p_S < 1, by_mass_S, -jnp.inf)
    by_ratio_S = logits_SV.max(-1) + jnp.log(params.min_p_S)
    return jnp.maximum(jnp.maximum(by_count_S, by_mass_S), by_ratio_S)


def _highest(logits_SV: jax.Array, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The highest float up to each row's maximum at which `holds`, which is true below it."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_S, high_S = bounds
        # Rounded up, and without overflow, so that a gap of one is closed too.
        middle_S = (low_S >> 1) + (high_S >> 1) + ((low_S | high_S) & 1)
        good_S = holds(_float_of(middle_S))
        return jnp.where(good_S, middle_S, low_S), jnp.where(good_S, high_S, middle_S - 1)

    high_S = _order_of(logits_SV.max(-1))
    low_S = _order_of(logits_SV.min(-1))
    low_S, _ = jax.lax.fori_loop(0, 32, halve, (low_S, high_S))
    return _float_of(low_S)


def _order_of(x_S: jax.Array) -> jax.Array:
    """Integers in the order of the floats."""
    bits_S = jax.lax.bitcast_convert_type(x_S, jnp.int32)
    return jnp.where(bits_S < 0, bits_S ^ jnp.int32(0x7FFFFFFF), bits_S)


def _float_of(order_S: jax.Array) -> jax.Array:
    """The inverse of `_order_of`."""
    bits_S = jnp.where(order_S < 0, order_S ^ jnp.int32(0x7FFFFFFF), order_S)
    return jax.lax.bitcast_convert_type(bits_S, jnp.float32)
