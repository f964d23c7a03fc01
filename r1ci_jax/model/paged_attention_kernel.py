"""Decode attention over pages by JAX's TPU kernel: each row reads its own pages and no other's.

The kernel rounds its inputs to bfloat16, whatever they are.

Axes: R rows, N query heads, K key/value heads, H head width, U pages, W positions of a page, J
pages of a row.
"""

import jax
import jax.numpy as jnp

LANES = 128
"""The kernel wants head widths in multiples of a TPU register's width."""
MOST_PAGES = 8
"""The kernel reads at most so many pages of a row at a time."""


def attend(
    q_RNH: jax.Array,
    k_KUWH: jax.Array,
    v_KUWH: jax.Array,
    positions_R: jax.Array,
    pages_RJ: jax.Array,
) -> jax.Array:
    """Attend to the positions up to each row's own; a row whose position is padding gets noise."""
    from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

    num_pages, width = k_KUWH.shape[1:3]
    pages_per_row = pages_RJ.shape[1]
    at_a_time = max(n for n in range(1, MOST_PAGES + 1) if pages_per_row % n == 0)
    lengths_R = jnp.where(positions_R < pages_per_row * width, positions_R + 1, 1)
    return paged_attention(
        q_RNH * jnp.asarray(q_RNH.shape[-1] ** -0.5, q_RNH.dtype),
        k_KUWH,
        v_KUWH,
        lengths_R.astype(jnp.int32),
        jnp.clip(pages_RJ, 0, num_pages - 1),
        pages_per_compute_block=at_a_time,
    ).astype(q_RNH.dtype)
