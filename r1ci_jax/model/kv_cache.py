"""The decoder over a key/value cache, with T new tokens at any positions of rows.

Prefill, decode and resuming with an interpreter's output are one function at different T. Layers
are unrolled and each has its own pair of arrays, so a caller that donates the cache gets it updated
in place. A cache returned by a scan over layers would be copied at every token.

Axes: R rows of one call, T new tokens, U pages of the cache, W positions of a page, J pages of a
row, K key/value heads, H head width.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.config import Quantization
from r1ci_jax.model import attention, paged_attention, quantization, qwen2
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.sharding import mesh

type Cache = tuple[paged_attention.Pair, ...]
"""Keys and values per layer."""


def init_cache(
    config: qwen2.Qwen2Config,
    pages: int,
    segments: int | Sequence[int],
    dtype: DTypeLike,
    storage: Quantization = "none",
) -> Cache:
    """Allocate zeros for pages of `segments` tokens, or whole rows of so many in each segment.

    `dtype` is for unquantized storage.
    """
    widths = (segments,) if isinstance(segments, int) else segments

    def zeros(width: int) -> MaybeInt8:
        shape = (config.kv_heads, pages, width, config.head_dim)
        if storage == "none":
            return jnp.zeros(shape, dtype)
        return quantization.Int8(jnp.zeros(shape, jnp.int8), jnp.zeros(shape[:-1], jnp.float32))

    def pool() -> paged_attention.Pool:
        return tuple(zeros(width) for width in widths)

    return tuple((pool(), pool()) for _ in range(config.layers))


def contiguous_pages(rows: int, pages_per_row: int) -> jax.Array:
    """Return the table [R, J] of rows that own the pages of a cache in order."""
    return jnp.arange(rows * pages_per_row, dtype=jnp.int32).reshape(rows, pages_per_row)


def extend(
    config: qwen2.Qwen2Config,
    weights: qwen2.DecoderWeights,
    cache: Cache,
    tokens_RT: jax.Array,
    positions_RT: jax.Array,
    pages_RJ: jax.Array | None,
) -> tuple[jax.Array, Cache]:
    """Append tokens to rows and return normed activations [R, T, D] and the new cache.

    Row r owns the pages `pages_RJ[r]`, in the order of its positions; None: page r alone. A token
    attends to every position of its row up to its own, so those must have been written. A position
    of J * W or more is padding: it writes nothing, and its activations are meaningless.
    """
    x_RTD = embed(weights.embed_VD, tokens_RT, weights.norm_D.dtype)
    new_cache = []
    for layer, pair in zip(weights.layers, cache, strict=True):
        x_RTD, pair = extend_layer(config, layer, pair, x_RTD, positions_RT, pages_RJ)
        new_cache.append(pair)
    return qwen2.rms_norm(x_RTD, weights.norm_D, config.norm_eps), tuple(new_cache)


def embed(embed_VD: MaybeInt8, tokens_RT: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Look up the input [R, T, D] of the first layer."""
    x_RTD = quantization.embedding_lookup(embed_VD, tokens_RT, dtype)
    return mesh.constrain_sampler(x_RTD, "slots", "time", "activation_width")


def extend_layer(
    config: qwen2.Qwen2Config,
    weights: qwen2.LayerWeights,
    pair: paged_attention.Pair,
    x_RTD: jax.Array,
    positions_RT: jax.Array,
    pages_RJ: jax.Array | None,
) -> tuple[jax.Array, paged_attention.Pair]:
    """Apply one layer of `extend` to activations; return new ones and the layer's new pair."""
    rotary = attention.rotary_BTH(positions_RT, config.head_dim, config.rope_theta)

    def attend(q_RTNH: jax.Array, k_RTKH: jax.Array, v_RTKH: jax.Array) -> Any:
        return paged_attention.extend(pair, q_RTNH, k_RTKH, v_RTKH, positions_RT, pages_RJ)

    return qwen2.layer_forward(config, weights, x_RTD, rotary, attend)


def logits(config: qwen2.Qwen2Config, weights: qwen2.DecoderWeights, x: jax.Array) -> jax.Array:
    """Compute float32 logits [..., V] from the activations that `extend` returned."""
    assert config.tied == (weights.lm_head_DV is None), "weights of another architecture"
    return qwen2.lm_head_logits(weights.embed_VD, weights.lm_head_DV, x)
