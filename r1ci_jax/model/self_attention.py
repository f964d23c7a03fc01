"""Rows attend to themselves with one of three implementations that give the same numbers.

A token attends to the earlier tokens of its segment, and to itself. Padding is segment 0, which is
handled like any other segment; its output is not used.

dense     keeps all scores of visible tokens for the backward pass, for short rows
blocked   computes the scores of one large block of queries at a time, again in the backward pass
splash    uses JAX's splash kernel (TPU only): scores stay on the chip, empty blocks are skipped
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from r1ci_jax.config import Attention, Remat
from r1ci_jax.model import attention
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

SAVED = "attention"
"""Rematerialization policies refer to the attention output by this name."""

_POLICIES: Mapping[Remat, Any] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names(SAVED),
    "layer": jax.checkpoint_policies.nothing_saveable,
}

BLOCK = 512
"""The scores of this many queries exist at a time; "auto" is dense up to twice as many."""

SMALL_BLOCK = 64
"""Queries per block when all scores are saved; keys after a block are skipped."""

LANES = 128
"""The kernel requires heads and rows in multiples of a TPU register's width."""

KERNEL_BLOCK = 1024
"""The kernel loads this many queries and this many keys at a time."""

INTERPRET = False
"""True interprets the kernel, for tests on a CPU."""

type SelfAttention = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""q [B, T, N, H], k and v [B, T, K, H] -> [B, T, N, H]."""


def make_attention(implementation: Attention, segments_BT: jax.Array) -> SelfAttention:
    """Make attention within segments; "auto" is dense for short rows and blocked for long rows."""
    length = segments_BT.shape[1]
    if implementation == "splash":
        return _saved(functools.partial(_splash, segments_BT))
    if implementation == "blocked" or (implementation == "auto" and length > 2 * BLOCK):
        again = functools.partial(jax.checkpoint, static_argnums=(0, 1))
        return _saved(functools.partial(_in_blocks, segments_BT, BLOCK, again))
    return _saved(functools.partial(_in_blocks, segments_BT, SMALL_BLOCK, lambda block: block))


def checkpoint_layer(name: Remat, step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the body of the layer loop so that it saves as `name` (`TrainConfig.remat`)."""
    if name == "none":
        return step
    # The loop itself prevents the compiler from merging both computations.
    return jax.checkpoint(step, policy=_POLICIES[name], prevent_cse=False)


def visible_BTT(segments_BT: jax.Array, first: int, end: int) -> jax.Array:
    """Mask the keys before `end` that each query from `first` to `end` may attend to."""
    causal_TT = jnp.arange(first, end)[:, None] >= jnp.arange(end)[None, :]
    same_BTT = segments_BT[:, first:end, None] == segments_BT[:, None, :end]
    return causal_TT[None, :, :] & same_BTT


def _saved(attend: SelfAttention) -> SelfAttention:
    return lambda q, k, v: checkpoint_name(attend(q, k, v), SAVED)


def _heads_first(x_BTKH: jax.Array) -> jax.Array:
    return x_BTKH.swapaxes(1, 2)


def _in_blocks(
    segments_BT: jax.Array,
    size: int,
    checkpoint_fn: Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]],
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
) -> jax.Array:
    """Attend in blocks of queries to the keys up to their end; `checkpoint_fn` wraps each block."""
    k_BKTH, v_BKTH = _heads_first(k_BTKH), _heads_first(v_BTKH)
    length = q_BTNH.shape[1]

    @checkpoint_fn
    def block(first: int, end: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        visible = visible_BTT(segments_BT, first, end)
        return attention.attend(q[:, first:end], k[:, :, :end], v[:, :, :end], visible)

    starts = range(0, length, size)
    return jnp.concatenate(
        [block(first, min(first + size, length), q_BTNH, k_BKTH, v_BKTH) for first in starts],
        axis=1,
    )


def _splash(segments_BT: jax.Array, q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array):
    """Run the kernel on every device's shard of rows and heads; import Pallas only here."""
    mesh = meshes.current_in_jit()
    (tensor,) = rules.mesh_axes("query_heads")
    kv_heads = k_BTKH.shape[2]
    if kv_heads % mesh.shape[tensor]:
        # With fewer heads than devices, each device needs the heads that its own queries read.
        groups = q_BTNH.shape[2] // kv_heads
        k_BTKH, v_BTKH = (jnp.repeat(x, groups, axis=2) for x in (k_BTKH, v_BTKH))
    heads = rules.spec("batch", "time", "query_heads", "head_dim")
    return jax.shard_map(
        _splash_local,
        mesh=mesh,
        in_specs=(rules.spec("batch", "time"), heads, heads, heads),
        out_specs=heads,
        check_vma=False,
    )(segments_BT, q_BTNH, k_BTKH, v_BTKH)


def _splash_local(segments_BT: jax.Array, q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array):
    _, length, heads, width = q_BTNH.shape

    def pad_for_kernel(x: jax.Array, size: int) -> jax.Array:
        """Move heads first and pad time and width with zeros, which do not change scores."""
        x = x.swapaxes(1, 2)
        return jnp.pad(x, ((0, 0), (0, 0), (0, size - length), (0, -width % LANES)))

    block = min(KERNEL_BLOCK, length + -length % LANES)
    padded = length + -length % block
    kernel, segment_ids = _kernel(heads, padded, block)
    # No token has this segment: the padding follows all real tokens and is never attended to.
    segments_BT = jnp.pad(segments_BT, ((0, 0), (0, padded - length)), constant_values=-1)
    q = pad_for_kernel(q_BTNH * jnp.asarray(width**-0.5, q_BTNH.dtype), padded)
    k, v = pad_for_kernel(k_BTKH, padded), pad_for_kernel(v_BTKH, padded)
    mixed_BNTH = jax.vmap(lambda q, k, v, s: kernel(q, k, v, segment_ids=segment_ids(s, s)))(
        q, k, v, segments_BT
    )
    return mixed_BNTH[:, :, :length, :width].swapaxes(1, 2).astype(q_BTNH.dtype)


def _kernel(heads: int, length: int, block: int) -> tuple[Any, Any]:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=min(block, 512),
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=min(block, 512),
        block_q_dq=block,
        block_kv_dq=block,
    )
    causal = splash.MultiHeadMask([splash.CausalMask((length, length)) for _ in range(heads)])
    kernel = splash.make_splash_mha(
        causal,
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        residual_checkpoint_name=SAVED,
        interpret=INTERPRET,
    )
    return kernel, splash.SegmentIds
