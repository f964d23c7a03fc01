"""Rotary positions and grouped-query attention.

Axes: B rows, T query tokens, C key tokens, N query heads = K key/value heads x G, H head width.
"""

import jax
import jax.numpy as jnp


def einsum_float32(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute an einsum, accumulated and returned in float32 for every input dtype."""
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def frequencies(head_dim: int, theta: float) -> jax.Array:
    """Compute the radians per position of each pair of a head, [H / 2], in float32."""
    return 1.0 / (theta ** (jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim))


def rotary_BTH(positions_BT: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Compute float32 cosines and sines of all angles; both halves of a head have the same."""
    frequency_h = frequencies(head_dim, theta)
    angle_BTh = positions_BT.astype(jnp.float32)[:, :, None] * frequency_h[None, None, :]
    angle_BTH = jnp.concatenate([angle_BTh, angle_BTh], axis=-1)
    return jnp.cos(angle_BTH), jnp.sin(angle_BTH)


def rotate(x_BTNH: jax.Array, cos_BTH: jax.Array, sin_BTH: jax.Array) -> jax.Array:
    """Rotate each head by its position; the first half of a head pairs with its second half."""
    x = x_BTNH.astype(jnp.float32)
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    out = x * cos_BTH[:, :, None, :] + turned * sin_BTH[:, :, None, :]
    return out.astype(x_BTNH.dtype)


def attend(
    q_BTNH: jax.Array, k_BKCH: jax.Array, v_BKCH: jax.Array, allowed_BTC: jax.Array
) -> jax.Array:
    """Compute softmax attention in float32; every key head serves N / K query heads.

    Keys have their heads axis first, which is the layout of the cache. A query that may attend to
    nothing gets the mean of all values. This is meaningless, but it and its gradients are finite.
    """
    batch, tokens, query_heads, head_dim = q_BTNH.shape
    kv_heads = k_BKCH.shape[1]
    groups = query_heads // kv_heads
    # Both matmuls keep the order of their operands' axes. When a matmul also has to reorder axes,
    # XLA's CPU backend leaves its fast path and a decode step takes 1.5 times as long.
    q_BTKGH = q_BTNH.reshape(batch, tokens, kv_heads, groups, head_dim)
    q_BKGTH = q_BTKGH.transpose(0, 2, 3, 1, 4)
    scores_BKGTC = einsum_float32("BKGTH,BKCH->BKGTC", q_BKGTH, k_BKCH) * head_dim**-0.5
    lowest = jnp.finfo(jnp.float32).min
    scores_BKGTC = jnp.where(allowed_BTC[:, None, None, :, :], scores_BKGTC, lowest)
    weights_BKGTC = jax.nn.softmax(scores_BKGTC, axis=-1).astype(v_BKCH.dtype)
    out_BKGTH = einsum_float32("BKGTC,BKCH->BKGTH", weights_BKGTC, v_BKCH)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(q_BTNH.shape).astype(q_BTNH.dtype)
