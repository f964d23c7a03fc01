"""Attention over a cache in pages: it costs as much as the tokens that exist.

The keys and values of all slots lie in one pool of pages. A row's table names its pages in the
order of their positions, so rows take memory as they grow, and rows with the same beginning share
its pages. A loop visits one page of every row at a time, up to the last page that any of them has
begun, and keeps a running softmax (arXiv 2205.14135, algorithm 1). A page without a visible
position changes neither the sums nor the maximum, not even in the last bit: a result does not
depend on how many pages the other rows have.

Axes: R rows, T new tokens, N query heads = K key/value heads x G, H head width, U pages, W
positions of a page, J pages of a row, Q queries of a key/value head (G x T).
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.model import attention, quantization
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

LONGEST_BLOCK, SHORTEST_BLOCK = 64, 16
"""Positions that are read at a time, if a number between these divides a page."""

type Pair = tuple[MaybeInt8, MaybeInt8]
"""Keys and values of one layer, [K, U, W, H] each; in int8 with one scale [K, U, W]."""


def extend(
    pair: Pair,
    q_RTNH: jax.Array,
    k_RTKH: jax.Array,
    v_RTKH: jax.Array,
    positions_RT: jax.Array,
    pages_RJ: jax.Array | None,
) -> tuple[jax.Array, Pair]:
    """Write new keys and values to the rows' pages, then attend to every position up to one's own.

    `pages_RJ` is None if row r has page r alone, which is then read in place. A position of J * W
    or more is padding: it writes nothing and its output is meaningless. So is a position whose page
    is U. On a mesh, a row's pages are in the shard of the pool that lies where the row does.

    Returns:
        Values [R, T, N, H] and the updated pair.
    """
    mesh = meshes.current_in_jit()
    if mesh.size == 1:
        return _extend_local(pair, q_RTNH, k_RTKH, v_RTKH, positions_RT, pages_RJ)
    kv_heads = None if k_RTKH.shape[2] % mesh.shape["tensor"] else "tensor"
    pool = (jax.P(kv_heads, rules.BATCH),) * 2
    new = jax.P(rules.BATCH, None, kv_heads)
    heads = jax.P(rules.BATCH, None, "tensor")
    rows = jax.P(rules.BATCH)
    pages = () if pages_RJ is None else (pages_RJ,)
    return jax.shard_map(
        _extend_shard,
        mesh=mesh,
        in_specs=(pool, heads, new, new, rows, *[rows] * len(pages)),
        out_specs=(heads, pool),
        check_vma=False,
    )(pair, q_RTNH, k_RTKH, v_RTKH, positions_RT, *pages)


def _extend_shard(
    pair: Pair,
    q_RTNH: jax.Array,
    k_RTKH: jax.Array,
    v_RTKH: jax.Array,
    positions_RT: jax.Array,
    pages_RJ: jax.Array | None = None,
) -> tuple[jax.Array, Pair]:
    """Extend the rows of one shard, whose pages are numbered from 0 there."""
    if pages_RJ is not None:
        pages_RJ -= jax.lax.axis_index(rules.BATCH) * pair[0].shape[1]
    return _extend_local(pair, q_RTNH, k_RTKH, v_RTKH, positions_RT, pages_RJ)


def _extend_local(
    pair: Pair,
    q_RTNH: jax.Array,
    k_RTKH: jax.Array,
    v_RTKH: jax.Array,
    positions_RT: jax.Array,
    pages_RJ: jax.Array | None,
) -> tuple[jax.Array, Pair]:
    own_RJ = jnp.arange(len(q_RTNH))[:, None] if pages_RJ is None else pages_RJ
    k_KUWH = _write(pair[0], k_RTKH, positions_RT, own_RJ)
    v_KUWH = _write(pair[1], v_RTKH, positions_RT, own_RJ)
    return _attend(q_RTNH, (k_KUWH, v_KUWH), positions_RT, pages_RJ), (k_KUWH, v_KUWH)


def _in_blocks(pair: Pair, pages_RJ: jax.Array) -> tuple[Pair, jax.Array]:
    """See long pages as several short ones, which stay in the processor's cache when read."""
    width = pair[0].shape[2]
    block = max(size for size in range(1, LONGEST_BLOCK + 1) if width % size == 0)
    if block < SHORTEST_BLOCK:
        return pair, pages_RJ
    count = width // block

    def split(pool: jax.Array) -> jax.Array:
        kv_heads, num_pages, _, *rest = pool.shape
        return pool.reshape(kv_heads, num_pages * count, block, *rest)

    blocks_RJM = pages_RJ[:, :, None] * count + jnp.arange(count)[None, None, :]
    return jax.tree.map(split, pair), blocks_RJM.reshape(len(pages_RJ), -1)


def _write(
    pool: MaybeInt8, new_RTKH: jax.Array, positions_RT: jax.Array, pages_RJ: jax.Array
) -> MaybeInt8:
    """Scatter each token's heads to its page; drop what is padding."""
    kv_heads, num_pages, width, *_ = pool.shape
    page_RT = jnp.take_along_axis(
        pages_RJ, positions_RT // width, axis=1, mode="fill", fill_value=num_pages
    )
    is_own_RT = (page_RT >= 0) & (page_RT < num_pages)
    # The heads' rows of the pool as one axis: a scatter of whole rows keeps the pool's layout.
    row_KRT = (
        jnp.arange(kv_heads)[:, None, None] * (num_pages * width)
        + (page_RT * width + positions_RT % width)[None]
    )
    row_KRT = jnp.where(is_own_RT[None], row_KRT, kv_heads * num_pages * width)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        rows = old.reshape(kv_heads * num_pages * width, *old.shape[3:])
        new = jnp.moveaxis(new.astype(old.dtype), 2, 0)
        return rows.at[row_KRT].set(new, mode="drop").reshape(old.shape)

    if isinstance(pool, quantization.Int8):
        return jax.tree.map(put, pool, quantization.quantize(new_RTKH, (3,)))
    return put(pool, new_RTKH)


def _read(pool: MaybeInt8, page_R: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """Read one page of every row, [K, R, W, H]; int8 values are returned in `dtype`."""
    if page_R is None:
        return _values(pool, dtype)
    kv_heads, num_pages, *_ = pool.shape
    page_R = jnp.clip(page_R, 0, num_pages - 1)
    page_KR = jnp.arange(kv_heads)[:, None] * num_pages + page_R[None, :]

    def take(pages: jax.Array) -> jax.Array:
        flat = pages.reshape(kv_heads * num_pages, *pages.shape[2:])
        return flat.at[page_KR].get(mode="promise_in_bounds")

    return _values(jax.tree.map(take, pool), dtype)


def _values(read: MaybeInt8, dtype: DTypeLike) -> jax.Array:
    return (
        quantization.dequantize(read, (3,), dtype) if isinstance(read, quantization.Int8) else read
    )


def _attend(
    q_RTNH: jax.Array, pair: Pair, positions_RT: jax.Array, pages_RJ: jax.Array | None
) -> jax.Array:
    """Attend to the positions up to each token's own, with a running softmax in float32."""
    if pages_RJ is not None:
        pair, pages_RJ = _in_blocks(pair, pages_RJ)
    rows, tokens, query_heads, head_dim = q_RTNH.shape
    kv_heads, _, width, _ = pair[0].shape
    groups = query_heads // kv_heads
    q_KRGTH = q_RTNH.reshape(rows, tokens, kv_heads, groups, head_dim).transpose(2, 0, 3, 1, 4)
    # One matmul per row and head: its rows are the queries of all groups.
    q_KRQH = q_KRGTH.reshape(kv_heads, rows, groups * tokens, head_dim)
    lowest = jnp.finfo(jnp.float32).min

    def visit(page: int | jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]):
        highest_KRQ, total_KRQ, mixed_KRQH = carry
        page_R = (
            None
            if pages_RJ is None
            else jax.lax.dynamic_index_in_dim(pages_RJ, page, axis=1, keepdims=False)
        )
        k_KRWH, v_KRWH = (_read(pool, page_R, q_RTNH.dtype) for pool in pair)
        at_W = page * width + jnp.arange(width)
        visible_RTW = at_W[None, None, :] <= positions_RT[:, :, None]
        visible_RQW = jnp.tile(visible_RTW, (1, groups, 1))
        scores_KRQW = attention.einsum_float32("KRQH,KRWH->KRQW", q_KRQH, k_KRWH) * head_dim**-0.5
        scores_KRQW = jnp.where(visible_RQW[None], scores_KRQW, lowest)
        new_highest_KRQ = jnp.maximum(highest_KRQ, scores_KRQW.max(axis=-1))
        weights_KRQW = jnp.exp(scores_KRQW - new_highest_KRQ[..., None])
        kept_KRQ = jnp.exp(highest_KRQ - new_highest_KRQ)
        added_KRQH = attention.einsum_float32(
            "KRQW,KRWH->KRQH", weights_KRQW.astype(v_KRWH.dtype), v_KRWH
        )
        return (
            new_highest_KRQ,
            total_KRQ * kept_KRQ + weights_KRQW.sum(axis=-1),
            mixed_KRQH * kept_KRQ[..., None] + added_KRQH,
        )

    start = (
        jnp.full(q_KRQH.shape[:3], lowest),
        jnp.zeros(q_KRQH.shape[:3], jnp.float32),
        jnp.zeros(q_KRQH.shape, jnp.float32),
    )
    if pages_RJ is None:
        _, total_KRQ, mixed_KRQH = visit(0, start)
    else:
        capacity = pages_RJ.shape[1] * width
        last = jnp.where(positions_RT < capacity, positions_RT, -1).max()
        _, total_KRQ, mixed_KRQH = jax.lax.fori_loop(0, last // width + 1, visit, start)
    # If no row has a token, no page was visited.
    mixed_KRQH = mixed_KRQH / jnp.maximum(total_KRQ, 1.0)[..., None]
    mixed_KRGTH = mixed_KRQH.reshape(kv_heads, rows, groups, tokens, head_dim)
    return mixed_KRGTH.transpose(1, 3, 0, 2, 4).reshape(q_RTNH.shape).astype(q_RTNH.dtype)
