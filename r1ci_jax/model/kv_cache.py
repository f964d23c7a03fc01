"""The same decoder over a key/value cache: any number of new tokens at any positions of any slots.

Prefill, decode and resuming with an interpreter's output are one function at different T. Layers
are unrolled and each has its own pair of arrays, so that a caller that donates the cache gets it
updated in place; a cache that a scan over layers returns would be copied at every token.

Axes: S slots, R rows of one call, T new tokens, C cache length, K key/value heads, H head width.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.config import Quantization
from r1ci_jax.model import attention, quantization, qwen2
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.sharding import mesh

type Cache = tuple[tuple[MaybeInt8, MaybeInt8], ...]
"""(k_SKCH, v_SKCH) of each layer; in eight bits with one scale [S, K, C] a head and position."""


def init_cache(
    config: qwen2.Qwen2Config,
    rows: int,
    length: int,
    dtype: DTypeLike,
    storage: Quantization = "none",
) -> Cache:
    """Zeros for `rows` slots of `length` tokens; `dtype` is that of full storage."""
    shape = (rows, config.kv_heads, length, config.head_dim)

    def zeros() -> MaybeInt8:
        if storage == "none":
            return jnp.zeros(shape, dtype)
        return quantization.Int8(jnp.zeros(shape, jnp.int8), jnp.zeros(shape[:-1], jnp.float32))

    return tuple((zeros(), zeros()) for _ in range(config.layers))


def extend(
    config: qwen2.Qwen2Config,
    weights: qwen2.DecoderWeights,
    cache: Cache,
    tokens_IT: jax.Array,
    positions_IT: jax.Array,
    slots_I: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
    """Append tokens to slots; returns normed activations [I, T, D] and the new cache.

    Row r goes to slot `slots_I[r]`, or to slot r when `slots_I` is None (which then spares the
    gather). A token sees every cache position up to its own, so those must have been written. A
    position of C or more is padding: it writes nothing, and its activations mean nothing.
    """
    length = cache[0][0].shape[2]
    rotary = attention.rotary_BTH(positions_IT, config.head_dim, config.rope_theta)
    visible_ITC = jnp.arange(length)[None, None, :] <= positions_IT[:, :, None]
    rows = "slots" if slots_I is None else "prefill_rows"
    x_ITD = quantization.embedding_lookup(weights.embed_VD, tokens_IT, weights.norm_D.dtype)
    x_ITD = mesh.constrain_sampler(x_ITD, rows, "time", "activation_width")
    new_cache = []
    for layer, (k_SKCH, v_SKCH) in zip(weights.layers, cache, strict=True):

        def attend(q_ITNH, k_ITKH, v_ITKH, k_SKCH=k_SKCH, v_SKCH=v_SKCH):
            k_SKCH = _write(k_SKCH, k_ITKH, positions_IT, slots_I)
            v_SKCH = _write(v_SKCH, v_ITKH, positions_IT, slots_I)
            k_IKCH, v_IKCH = (_read(half, slots_I, q_ITNH.dtype) for half in (k_SKCH, v_SKCH))
            return attention.attend(q_ITNH, k_IKCH, v_IKCH, visible_ITC), (k_SKCH, v_SKCH)

        x_ITD, pair = qwen2.layer_forward(config, layer, x_ITD, rotary, attend)
        new_cache.append(pair)
    return qwen2.rms_norm(x_ITD, weights.norm_D, config.norm_eps), tuple(new_cache)


def logits(config: qwen2.Qwen2Config, weights: qwen2.DecoderWeights, x: jax.Array) -> jax.Array:
    """Float32 logits [..., V] of what `extend` returned."""
    assert config.tied == (weights.lm_head_DV is None), "weights of another architecture"
    return qwen2.lm_head_logits(weights.embed_VD, weights.lm_head_DV, x)


def _write(
    cache_SKCH: MaybeInt8, new_ITKH: jax.Array, positions_IT: jax.Array, slots_I: jax.Array | None
) -> MaybeInt8:
    """Scatter each token's heads to its slot and position; positions outside are dropped."""

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        new = new.astype(old.dtype)
        if slots_I is not None:
            return old.at[slots_I[:, None], :, positions_IT].set(new, mode="drop")
        # Row by row, so that a mesh that cuts the slots sees that no row needs another.
        one = jax.vmap(lambda row_KCH, at_T, new_TKH: row_KCH.at[:, at_T].set(new_TKH, mode="drop"))
        return one(old, positions_IT, new.swapaxes(1, 2))

    if isinstance(cache_SKCH, quantization.Int8):
        return jax.tree.map(put, cache_SKCH, quantization.quantize(new_ITKH, (3,)))
    return put(cache_SKCH, new_ITKH)


def _read(cache_SKCH: MaybeInt8, slots_I: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """Rows of the cache [R, K, C, H]; `dtype` is that of what was eight bits."""
    rows = cache_SKCH
    if slots_I is not None:
        axes = ("prefill_rows", "kv_heads", "cache", "head_dim")
        rows = jax.tree.map(
            lambda x: mesh.constrain_sampler(x[slots_I], *axes[: x.ndim]), cache_SKCH
        )
    return (
        quantization.dequantize(rows, (3,), dtype) if isinstance(rows, quantization.Int8) else rows
    )
