"""Sample one token per slot, with temperature, top-k, top-p and min-p per slot.

Nothing is sorted, and no noise over the vocabulary is generated. Top-k, top-p and min-p each keep
the logits from a threshold up. Bisection over the float's bits finds this threshold; it is exact,
takes 32 passes, and runs only when a slot requests a filter. Of tokens on the threshold the first
are kept, as many as needed. Inverting the cumulative sum at one uniform number gives the token.

Axes: S slots, V vocabulary, M blocks of b entries each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.config import SamplingParams

_SUM_ROUNDING = 1e-6
"""A sum of probabilities is reached if it is this close: float32 sums in any order differ by it."""
BLOCK = 256
"""A block of the two-level search has this many vocabulary entries."""


class SamplingArrays(NamedTuple):
    """`SamplingParams` of every slot, on the device."""

    temperature_S: jax.Array
    top_k_S: jax.Array
    top_p_S: jax.Array
    min_p_S: jax.Array

    @classmethod
    def from_params(cls, rows: list[SamplingParams]) -> "SamplingArrays":
        """Stack the parameters, one entry per slot."""
        return cls(
            temperature_S=jnp.asarray([row.temperature for row in rows], jnp.float32),
            top_k_S=jnp.asarray([row.top_k for row in rows], jnp.int32),
            top_p_S=jnp.asarray([row.top_p for row in rows], jnp.float32),
            min_p_S=jnp.asarray([row.min_p for row in rows], jnp.float32),
        )


def sample(
    logits_SV: jax.Array, key_S: jax.Array, position_S: jax.Array, params: SamplingArrays
) -> tuple[jax.Array, jax.Array]:
    """Sample one token per slot; also return its log-probability under the sampled distribution.

    The random number depends only on the trajectory's key and the token's position, never on the
    slot index or on the rest of the batch. At temperature 0 the log-probability is that of
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
            ~filtered_S[:, None] | keep_mask(logits_SV, weights_SV, params),
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


def keep_mask(logits_SV: jax.Array, weights_SV: jax.Array, params: SamplingArrays) -> jax.Array:
    """Mark the tokens that each slot's filters keep; weights_SV is exp of the logits.

    Of tokens that are equally likely at the border, those with the smaller ids are kept, as many
    as the filter admits.
    """
    vocab = logits_SV.shape[-1]
    top_k_S = jnp.where(params.top_k_S > 0, jnp.minimum(params.top_k_S, vocab), vocab)
    by_count_S = _highest(logits_SV, lambda cut_S: (logits_SV >= cut_S[:, None]).sum(-1) >= top_k_S)
    above_S = (logits_SV > by_count_S[:, None]).sum(-1)
    keep_SV = _cut(logits_SV, jnp.ones_like(logits_SV, bool), by_count_S, top_k_S - above_S)

    def mass(where_SV: jax.Array) -> jax.Array:
        return jnp.where(where_SV & keep_SV, weights_SV, 0.0).sum(-1)

    wanted_S = (params.top_p_S - _SUM_ROUNDING) * mass(keep_SV)
    by_mass_S = _highest(logits_SV, lambda cut_S: mass(logits_SV >= cut_S[:, None]) >= wanted_S)
    by_mass_S = jnp.where(params.top_p_S < 1, by_mass_S, -jnp.inf)
    missing_S = wanted_S - mass(logits_SV > by_mass_S[:, None])
    each_S = jnp.exp(by_mass_S - logits_SV.max(-1))
    needed_S = jnp.ceil(missing_S / jnp.maximum(each_S, jnp.finfo(jnp.float32).tiny))
    needed_S = jnp.clip(needed_S, 1, vocab).astype(jnp.int32)
    keep_SV = _cut(logits_SV, keep_SV, by_mass_S, needed_S)
    by_ratio_S = logits_SV.max(-1) + jnp.log(params.min_p_S)
    return keep_SV & (logits_SV >= by_ratio_S[:, None])


def _cut(
    logits_SV: jax.Array, keep_SV: jax.Array, border_S: jax.Array, count_S: jax.Array
) -> jax.Array:
    """Keep what lies above the border, and of what lies on it the first `count_S`."""
    is_border_SV = keep_SV & (logits_SV == border_S[:, None])
    keep_SV = keep_SV & (logits_SV >= border_S[:, None])
    return jax.lax.cond(
        (is_border_SV.sum(-1) > count_S).any(),
        lambda: keep_SV & ~(is_border_SV & (jnp.cumsum(is_border_SV, -1) > count_S[:, None])),
        lambda: keep_SV,
    )


def _highest(logits_SV: jax.Array, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Find the highest float, up to each slot's maximum, at which the monotone `holds` is true."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_S, high_S = bounds
        # Round up without overflow, so that a gap of one is closed too.
        middle_S = (low_S >> 1) + (high_S >> 1) + ((low_S | high_S) & 1)
        good_S = holds(_float_of(middle_S))
        return jnp.where(good_S, middle_S, low_S), jnp.where(good_S, high_S, middle_S - 1)

    high_S = _order_of(logits_SV.max(-1))
    low_S = _order_of(logits_SV.min(-1))
    low_S, _ = jax.lax.fori_loop(0, 32, halve, (low_S, high_S))
    return _float_of(low_S)


def _order_of(x_S: jax.Array) -> jax.Array:
    """Map floats to integers of the same order."""
    bits_S = jax.lax.bitcast_convert_type(x_S, jnp.int32)
    return jnp.where(bits_S < 0, bits_S ^ jnp.int32(0x7FFFFFFF), bits_S)


def _float_of(order_S: jax.Array) -> jax.Array:
    """Invert `_order_of`."""
    bits_S = jnp.where(order_S < 0, order_S ^ jnp.int32(0x7FFFFFFF), order_S)
    return jax.lax.bitcast_convert_type(bits_S, jnp.float32)
