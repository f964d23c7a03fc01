"""The decoder over a key/value cache, with T new tokens at any positions of slots.

Prefill, decode and resuming with an interpreter's output are one function at different T. Layers
are unrolled and each has its own pair of arrays, so a caller that donates the cache gets it updated
in place. A cache returned by a scan over layers would be copied at every token.

Axes: S slots, I rows of one call, T new tokens, C cache length, K key/value heads, H head width.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.config import Quantization
from r1ci_jax.model import attention, quantization, qwen2
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.sharding import mesh

type Cache = tuple[tuple[MaybeInt8, MaybeInt8], ...]
"""(k_SKCH, v_SKCH) per layer; in int8 with one scale [S, K, C] per head vector."""


def init_cache(
    config: qwen2.Qwen2Config,
    rows: int,
    length: int,
    dtype: DTypeLike,
    storage: Quantization = "none",
) -> Cache:
    """Allocate zeros for `rows` slots of `length` tokens; `dtype` is for unquantized storage."""
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
    """Append tokens to slots and return normed activations [I, T, D] and the new cache.

    Row r is written to slot `slots_I[r]`, or to slot r when `slots_I` is None, which avoids the
    gather. A token attends to every cache position up to its own, so those must have been written.
    A position of C or more is padding: it writes nothing, and its activations are meaningless.
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
    """Compute float32 logits [..., V] from the activations that `extend` returned."""
    assert config.tied == (weights.lm_head_DV is None), "weights of another architecture"
    return qwen2.lm_head_logits(weights.embed_VD, weights.lm_head_DV, x)


def _write(
    cache_SKCH: MaybeInt8, new_ITKH: jax.Array, positions_IT: jax.Array, slots_I: jax.Array | None
) -> MaybeInt8:
    """Scatter each token's heads to its slot and position; drop positions outside the cache."""

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        new = new.astype(old.dtype)
        if slots_I is not None:
            return old.at[slots_I[:, None], :, positions_IT].set(new, mode="drop")
        # The vmap over slots shows a mesh that shards the slots that they are independent.
        one = jax.vmap(lambda row_KCH, at_T, new_TKH: row_KCH.at[:, at_T].set(new_TKH, mode="drop"))
        return one(old, positions_IT, new.swapaxes(1, 2))

    if isinstance(cache_SKCH, quantization.Int8):
        return jax.tree.map(put, cache_SKCH, quantization.quantize(new_ITKH, (3,)))
    return put(cache_SKCH, new_ITKH)


def _read(cache_SKCH: MaybeInt8, slots_I: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """Read cache rows [I, K, C, H]; int8 values are returned in `dtype`."""
    rows = cache_SKCH
    if slots_I is not None:
        axes = ("prefill_rows", "kv_heads", "cache", "head_dim")
        rows = jax.tree.map(
            lambda x: mesh.constrain_sampler(x[slots_I], *axes[: x.ndim]), cache_SKCH
        )
    return (
        quantization.dequantize(rows, (3,), dtype) if isinstance(rows, quantization.Int8) else rows
    )
