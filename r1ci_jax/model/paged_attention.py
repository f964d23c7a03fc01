"""Attention over a cache in pages: it costs as much as the tokens that exist.

The keys and values of all slots lie in one pool of pages. A row's table names its pages in the
order of their positions, so rows take memory as they grow, and rows with the same beginning share
its pages. A loop visits one page of every row at a time, up to the last page that any of them has
begun, and keeps a running softmax (arXiv 2205.14135, algorithm 1). A page without a visible
position changes neither the sums nor the maximum, not even in the last bit: a result does not
depend on how many pages the other rows have.

A cache whose slots have one page each, a whole row, is read in place, which CPUs do twice as fast
as they look pages up. Its pages are stored in segments of the row: the first one is read for
all rows at once, and each further one by the rows that have reached it.

Axes: R rows, T new tokens, N query heads = K key/value heads x G, H head width, U pages, W
positions of a page or segment, J pages of a row, M blocks of a row, Q queries of a key/value head
(G x T).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.model import attention, paged_attention_kernel, quantization
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

LONGEST_BLOCK, SHORTEST_BLOCK = 64, 16
"""Positions that are read at a time, if a number between these divides a page."""

type Pool = tuple[MaybeInt8, ...]
"""Keys or values of one layer: [K, U, W, H], in int8 with one scale [K, U, W]. Whole rows have an
array for each segment of their positions, in order; other pages have one."""

type Pair = tuple[Pool, Pool]
"""Keys and values of one layer."""

type Softmax = tuple[jax.Array, jax.Array, jax.Array]
"""Running softmax: the highest score [K, R, Q], the sum of weights [K, R, Q] and the sum of
weighted values [K, R, Q, H]."""


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
        pages_RJ -= jax.lax.axis_index(rules.BATCH) * pair[0][0].shape[1]
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
    new_pair = k_KUWH, v_KUWH
    return _attend_by_platform(q_RTNH, new_pair, positions_RT, pages_RJ), new_pair


def _attend_by_platform(
    q_RTNH: jax.Array, pair: Pair, positions_RT: jax.Array, pages_RJ: jax.Array | None
) -> jax.Array:
    """Attend by the kernel where it can: on TPUs, with one bfloat16 token a row and wide heads."""
    can_use_kernel = (
        q_RTNH.shape[1] == 1
        and q_RTNH.shape[3] % paged_attention_kernel.LANES == 0
        and q_RTNH.dtype == jnp.bfloat16
        and len(pair[0]) == 1
        and not isinstance(pair[0][0], quantization.Int8)
    )
    if pages_RJ is None or not can_use_kernel:
        return _attend(q_RTNH, pair, positions_RT, pages_RJ)

    def by_kernel(
        q_RTNH: jax.Array, pair: Any, positions_RT: jax.Array, pages_RJ: jax.Array
    ) -> jax.Array:
        (k_KUWH,), (v_KUWH,) = pair
        return paged_attention_kernel.attend(
            q_RTNH[:, 0], k_KUWH, v_KUWH, positions_RT[:, 0], pages_RJ
        )[:, None]

    return jax.lax.platform_dependent(
        q_RTNH, pair, positions_RT, pages_RJ, tpu=by_kernel, default=_attend
    )


def _in_blocks(segment: MaybeInt8, pages_RJ: jax.Array) -> tuple[MaybeInt8, jax.Array]:
    """See long pages as several short ones, which stay in the processor's cache when read."""
    width = segment.shape[2]
    block = max(size for size in range(1, LONGEST_BLOCK + 1) if width % size == 0)
    if block < SHORTEST_BLOCK:
        return segment, pages_RJ
    count = width // block

    def split(array: jax.Array) -> jax.Array:
        kv_heads, num_pages, _, *rest = array.shape
        return array.reshape(kv_heads, num_pages * count, block, *rest)

    blocks_RJM = pages_RJ[:, :, None] * count + jnp.arange(count)[None, None, :]
    return jax.tree.map(split, segment), blocks_RJM.reshape(len(pages_RJ), -1)


def _write(pool: Pool, new_RTKH: jax.Array, positions_RT: jax.Array, pages_RJ: jax.Array) -> Pool:
    """Scatter each token's heads to its page; drop what is padding."""
    first, written = 0, []
    for segment in pool:
        length = segment.shape[2] * pages_RJ.shape[1]
        within_RT = positions_RT - first
        within_RT = jnp.where((within_RT >= 0) & (within_RT < length), within_RT, length)
        written.append(_write_segment(segment, new_RTKH, within_RT, pages_RJ))
        first += length
    return tuple(written)


def _write_segment(
    segment: MaybeInt8, new_RTKH: jax.Array, positions_RT: jax.Array, pages_RJ: jax.Array
) -> MaybeInt8:
    kv_heads, num_pages, width, *_ = segment.shape
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

    if isinstance(segment, quantization.Int8):
        return jax.tree.map(put, segment, quantization.quantize(new_RTKH, (3,)))
    return put(segment, new_RTKH)


def _read_pages(segment: MaybeInt8, page_R: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Read one page of every row, [K, R, W, H]; int8 values are returned in `dtype`."""
    kv_heads, num_pages, *_ = segment.shape
    page_R = jnp.clip(page_R, 0, num_pages - 1)
    page_KR = jnp.arange(kv_heads)[:, None] * num_pages + page_R[None, :]

    def take(array: jax.Array) -> jax.Array:
        flat = array.reshape(kv_heads * num_pages, *array.shape[2:])
        return flat.at[page_KR].get(mode="promise_in_bounds")

    return _values(jax.tree.map(take, segment), dtype)


def _values(read: MaybeInt8, dtype: DTypeLike) -> jax.Array:
    return (
        quantization.dequantize(read, (3,), dtype) if isinstance(read, quantization.Int8) else read
    )


def _attend(
    q_RTNH: jax.Array, pair: Pair, positions_RT: jax.Array, pages_RJ: jax.Array | None
) -> jax.Array:
    """Attend to the positions up to each token's own, with a running softmax in float32."""
    assert pages_RJ is None or len(pair[0]) == 1 or pages_RJ.shape[1] == 1, "segments of many pages"
    rows, tokens, query_heads, head_dim = q_RTNH.shape
    kv_heads = pair[0][0].shape[0]
    groups = query_heads // kv_heads
    q_KRGTH = q_RTNH.reshape(rows, tokens, kv_heads, groups, head_dim).transpose(2, 0, 3, 1, 4)
    # One matmul per row and head: its rows are the queries of all groups.
    q_KRQH = q_KRGTH.reshape(kv_heads, rows, groups * tokens, head_dim)
    num_pages = 1 if pages_RJ is None else pages_RJ.shape[1]
    capacity = num_pages * sum(segment.shape[2] for segment in pair[0])
    positions_RT = jnp.where(positions_RT < capacity, positions_RT, -1)  # padding sees nothing
    softmax: Softmax = (
        jnp.full(q_KRQH.shape[:3], jnp.finfo(jnp.float32).min),
        jnp.zeros(q_KRQH.shape[:3], jnp.float32),
        jnp.zeros(q_KRQH.shape, jnp.float32),
    )
    first = 0
    for segment in zip(*pair, strict=True):
        if pages_RJ is not None:
            softmax = _visit_pages(softmax, q_KRQH, segment, positions_RT, pages_RJ, first)
        elif first == 0:
            k_KRWH, v_KRWH = (_values(each, q_RTNH.dtype) for each in segment)
            softmax = _add(softmax, q_KRQH, k_KRWH, v_KRWH, positions_RT, 0)
        else:
            softmax = _visit_rows(softmax, q_KRQH, segment, positions_RT, first)
        first += segment[0].shape[2]
    _, total_KRQ, mixed_KRQH = softmax
    # A row without a token has visited nothing.
    mixed_KRQH = mixed_KRQH / jnp.maximum(total_KRQ, 1.0)[..., None]
    mixed_KRGTH = mixed_KRQH.reshape(kv_heads, rows, groups, tokens, head_dim)
    return mixed_KRGTH.transpose(1, 3, 0, 2, 4).reshape(q_RTNH.shape).astype(q_RTNH.dtype)


def _add(
    softmax: Softmax,
    q_KRQH: jax.Array,
    k_KRWH: jax.Array,
    v_KRWH: jax.Array,
    positions_RT: jax.Array,
    first: int | jax.Array,
) -> Softmax:
    """Add W positions from `first` on to the running softmax, for each query up to its own."""
    highest_KRQ, total_KRQ, mixed_KRQH = softmax
    at_W = first + jnp.arange(k_KRWH.shape[2])
    visible_RTW = at_W[None, None, :] <= positions_RT[:, :, None]
    groups = q_KRQH.shape[2] // positions_RT.shape[1]
    visible_RQW = jnp.tile(visible_RTW, (1, groups, 1))
    scores_KRQW = attention.einsum_float32("KRQH,KRWH->KRQW", q_KRQH, k_KRWH)
    scores_KRQW = scores_KRQW * q_KRQH.shape[-1] ** -0.5
    scores_KRQW = jnp.where(visible_RQW[None], scores_KRQW, jnp.finfo(jnp.float32).min)
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


def _visit_pages(
    softmax: Softmax,
    q_KRQH: jax.Array,
    segment: tuple[MaybeInt8, MaybeInt8],
    positions_RT: jax.Array,
    pages_RJ: jax.Array,
    first: int,
) -> Softmax:
    """Visit a page of every row at a time, up to the last that any of them has begun."""
    keys, blocks_RM = _in_blocks(segment[0], pages_RJ)
    values, _ = _in_blocks(segment[1], pages_RJ)
    width = keys.shape[2]

    def visit(page: jax.Array, softmax: Softmax) -> Softmax:
        page_R = jax.lax.dynamic_index_in_dim(blocks_RM, page, axis=1, keepdims=False)
        k_KRWH, v_KRWH = (_read_pages(each, page_R, q_KRQH.dtype) for each in (keys, values))
        return _add(softmax, q_KRQH, k_KRWH, v_KRWH, positions_RT, first + page * width)

    num_begun = jnp.clip((positions_RT.max() - first) // width + 1, 0, blocks_RM.shape[1])
    return jax.lax.fori_loop(0, num_begun, visit, softmax)


def _visit_rows(
    softmax: Softmax,
    q_KRQH: jax.Array,
    segment: tuple[MaybeInt8, MaybeInt8],
    positions_RT: jax.Array,
    first: int,
) -> Softmax:
    """Visit a segment of whole rows, row by row: those that have reached it."""
    is_there_R = positions_RT.max(axis=1) >= first
    row_R = jnp.argsort(~is_there_R, stable=True)

    def visit(number: jax.Array, softmax: Softmax) -> Softmax:
        row = row_R[number]

        def of_row(array: jax.Array, axis: int = 1) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(array, row, 1, axis)

        k_KRWH, v_KRWH = (_values(jax.tree.map(of_row, each), q_KRQH.dtype) for each in segment)
        own = jax.tree.map(of_row, softmax)
        added = _add(own, of_row(q_KRQH), k_KRWH, v_KRWH, of_row(positions_RT, 0), first)
        return jax.tree.map(
            lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, row, 1),
            softmax,
            added,
        )

    return jax.lax.fori_loop(0, is_there_R.sum(), visit, softmax)
