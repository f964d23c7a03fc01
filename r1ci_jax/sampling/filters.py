"""Which tokens top-k, top-p and min-p keep, for each slot.

Each of them keeps the logits from a threshold up. Bisection over the float's bits finds it: that is
exact, takes 32 passes over the vocabulary, and sorts nothing. On one CPU device a top-k of at most
`FEW` picks so many candidates instead, among which the rest is decided: a tenth of the time. Of
tokens on a threshold those with the smaller ids are kept, as many as the filter admits.

Axes: S slots, V vocabulary, X candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.sharding import mesh as meshes

FEW = 64
"""Candidates of a slot with a small top-k."""
_SUM_ROUNDING = 1e-6
"""A sum of probabilities is reached if it is this close: float32 sums in any order differ by it."""


class Filters(NamedTuple):
    """Filters of every slot."""

    filtered_S: jax.Array
    """True for slots that have a filter; the others' masks are meaningless."""
    top_k_S: jax.Array
    """0: none."""
    top_p_S: jax.Array
    min_p_S: jax.Array


def keep_mask(logits_SV: jax.Array, weights_SV: jax.Array, filters: Filters) -> jax.Array:
    """Mark the tokens that each slot's filters keep; weights_SV is exp of the logits.

    How a slot's are found depends on the slot alone. On a mesh it is by bisection: XLA would gather
    the whole logits for a top-k.
    """

    def by_top_k(logits_SV: jax.Array, weights_SV: jax.Array, filters: Filters) -> jax.Array:
        is_few_S = (filters.top_k_S > 0) & (filters.top_k_S <= FEW)
        none_SV = jnp.zeros(logits_SV.shape, bool)
        few_SV = jax.lax.cond(
            (filters.filtered_S & is_few_S).any(),
            lambda: keep_few(logits_SV, weights_SV, filters),
            lambda: none_SV,
        )
        return jax.lax.cond(
            (filters.filtered_S & ~is_few_S).any(),
            lambda: jnp.where(is_few_S[:, None], few_SV, bisect(logits_SV, weights_SV, filters)),
            lambda: few_SV,
        )

    if meshes.current_in_jit().size > 1:
        return bisect(logits_SV, weights_SV, filters)
    return jax.lax.platform_dependent(logits_SV, weights_SV, filters, cpu=by_top_k, default=bisect)


def keep_few(logits_SV: jax.Array, weights_SV: jax.Array, filters: Filters) -> jax.Array:
    """Mark what slots with a top-k of 1 to `FEW` keep."""
    few = min(FEW, logits_SV.shape[1])
    # XLA sorts -0 below 0, which are equally likely.
    logits_SV = jnp.where(logits_SV == 0, 0.0, logits_SV)
    # Of equal logits the first come first. XLA has a fast top-k where no slice of it is taken.
    logits_SX, token_SX = jax.lax.top_k(logits_SV, few)
    rank_1X = jnp.arange(few)[None, :]
    keep_SX = rank_1X < filters.top_k_S[:, None]
    mass_SX = jnp.where(keep_SX, jnp.take_along_axis(weights_SV, token_SX, axis=1), 0.0)
    wanted_S = (filters.top_p_S - _SUM_ROUNDING) * mass_SX.sum(-1)
    before_SX = jnp.cumsum(mass_SX, -1) - mass_SX
    is_wanted_SX = (
        (before_SX < wanted_S[:, None]) | (filters.top_p_S[:, None] == 1) | (rank_1X == 0)
    )
    by_ratio_S = logits_SV.max(-1) + jnp.log(filters.min_p_S)
    keep_SX &= is_wanted_SX & (logits_SX >= by_ratio_S[:, None])
    row_S1 = jnp.arange(len(logits_SV))[:, None]
    return jnp.zeros(logits_SV.shape, bool).at[row_S1, token_SX].set(keep_SX)


def bisect(logits_SV: jax.Array, weights_SV: jax.Array, filters: Filters) -> jax.Array:
    """Mark what slots with any filters keep."""
    vocab = logits_SV.shape[-1]
    top_k_S = jnp.where(filters.top_k_S > 0, jnp.minimum(filters.top_k_S, vocab), vocab)
    by_count_S = _highest(logits_SV, lambda cut_S: (logits_SV >= cut_S[:, None]).sum(-1) >= top_k_S)
    above_S = (logits_SV > by_count_S[:, None]).sum(-1)
    keep_SV = _cut(logits_SV, jnp.ones_like(logits_SV, bool), by_count_S, top_k_S - above_S)

    def mass(where_SV: jax.Array) -> jax.Array:
        return jnp.where(where_SV & keep_SV, weights_SV, 0.0).sum(-1)

    wanted_S = (filters.top_p_S - _SUM_ROUNDING) * mass(keep_SV)
    by_mass_S = _highest(logits_SV, lambda cut_S: mass(logits_SV >= cut_S[:, None]) >= wanted_S)
    by_mass_S = jnp.where(filters.top_p_S < 1, by_mass_S, -jnp.inf)
    missing_S = wanted_S - mass(logits_SV > by_mass_S[:, None])
    each_S = jnp.exp(by_mass_S - logits_SV.max(-1))
    needed_S = jnp.ceil(missing_S / jnp.maximum(each_S, jnp.finfo(jnp.float32).tiny))
    needed_S = jnp.clip(needed_S, 1, vocab).astype(jnp.int32)
    keep_SV = _cut(logits_SV, keep_SV, by_mass_S, needed_S)
    by_ratio_S = logits_SV.max(-1) + jnp.log(filters.min_p_S)
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
