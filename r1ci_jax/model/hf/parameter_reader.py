"""Reading of parameters: pieces of tensors go from the file to JAX's buffers, in threads."""

import concurrent.futures
import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.hf import parameter_table, safetensors_file

_MAX_THREADS = 8
_TILE_ROWS = 64
"""So many rows of a matrix are transposed at a time: they stay in the processor's cache."""


class _Piece(NamedTuple):
    """A piece of a parameter comes from one tensor and is read by one thread."""

    rule: parameter_table.Rule
    source: safetensors_file.Entry
    shape: tuple[int, ...]
    """Shape of the whole tensor here."""
    bounds: list[tuple[int, int]]
    """The piece's slice of `shape`."""
    out: np.ndarray


def load_array(
    rule: parameter_table.Rule,
    leaf: jax.ShapeDtypeStruct,
    sharding: jax.sharding.Sharding,
    sources: Sequence[safetensors_file.Entry],
    *,
    is_stacked: bool = False,
) -> jax.Array:
    """Read one parameter: a tensor, or with `is_stacked` those of all layers."""

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None, "every device has a part"
        bounds = [part.indices(size)[:2] for part, size in zip(index, leaf.shape, strict=True)]
        out = _aligned(tuple(stop - start for start, stop in bounds), leaf.dtype)
        if is_stacked:
            pieces = [
                _Piece(rule, sources[layer], leaf.shape[1:], bounds[1:], out[row])
                for row, layer in enumerate(range(*bounds[0]))
            ]
        else:
            pieces = _split(_Piece(rule, sources[0], leaf.shape, bounds, out))
        in_parallel(_read_piece, pieces)
        return out

    return jax.make_array_from_callback(leaf.shape, sharding, read)


def _split(piece: _Piece) -> list[_Piece]:
    """Split embedding and head by tokens of the vocabulary; each thread gets several pieces."""
    if piece.rule.ours not in ("embed", "lm_head"):
        return [piece]
    axis = 0 if piece.rule.ours == "embed" else 1
    start, stop = piece.bounds[axis]
    size = math.ceil((stop - start) / (4 * _MAX_THREADS)) or 1
    pieces = []
    for first in range(start, stop, size):
        last = min(first + size, stop)
        bounds = [(first, last) if i == axis else each for i, each in enumerate(piece.bounds)]
        part = slice(first - start, last - start)
        out = piece.out[part] if axis == 0 else piece.out[:, part]
        pieces.append(piece._replace(bounds=bounds, out=out))
    return pieces


def in_parallel[A, B](function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Map in threads: reading, checking, casting and transposing release the interpreter's lock."""
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def _read_piece(piece: _Piece) -> None:
    _read_tensor(*piece)
    _require_in_range(piece.source, piece.out)


def _require_in_range(source: safetensors_file.Entry, out: np.ndarray) -> None:
    """Refuse finite values that another dtype than the file's cannot hold."""
    if source.dtype != out.dtype and not np.isfinite(out).all():
        raise UserError(
            f"{source.path}: tensor {source.name} has values too large for {out.dtype}; "
            "choose float32"
        )


def _read_tensor(
    rule: parameter_table.Rule,
    source: safetensors_file.Entry,
    shape: tuple[int, ...],
    bounds: list[tuple[int, int]],
    out: np.ndarray,
) -> None:
    """Fill `out` with the slice `bounds` of one tensor that has `shape` here."""
    if not rule.inputs:
        rest = math.prod(shape[1:])
        if rule.ours == "embed":
            for row, block in safetensors_file.read_rows(source, *bounds[0]):
                first = row - bounds[0][0]
                out[first : first + len(block)] = block[:, slice(*bounds[1])]
            return
        start, stop = bounds[0]
        assert all(b == (0, size) for b, size in zip(bounds[1:], shape[1:], strict=True))
        flat = out.reshape(-1)
        for row, block in safetensors_file.read_rows(source, start * rest, stop * rest):
            flat[row - start * rest :][: len(block)] = block
        return
    (col_start, col_stop) = _flat_range(shape[: rule.inputs], bounds[: rule.inputs])
    (row_start, row_stop) = _flat_range(shape[rule.inputs :], bounds[rule.inputs :])
    matrix = out.reshape(col_stop - col_start, row_stop - row_start)
    for row, block in safetensors_file.read_rows(source, row_start, row_stop):
        for tile in range(0, len(block), _TILE_ROWS):
            part = block[tile : tile + _TILE_ROWS, col_start:col_stop].astype(out.dtype, copy=False)
            first = row - row_start + tile
            matrix[:, first : first + len(part)] = part.T


def _flat_range(shape: tuple[int, ...], bounds: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the flattened range of a group of axes; only its first axis may be sliced."""
    assert all(b == (0, size) for b, size in zip(bounds[1:], shape[1:], strict=True))
    rest = math.prod(shape[1:])
    return bounds[0][0] * rest, bounds[0][1] * rest


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate an uninitialized array that JAX's CPU backend adopts without copying."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size].view(dtype).reshape(shape)
