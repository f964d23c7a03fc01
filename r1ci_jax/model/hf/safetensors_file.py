"""Safetensors files, read and written block by block.

A file has an eight-byte little-endian header length, a JSON header (name -> dtype, shape, byte
range), and then the tensors. The module uses plain reads and writes instead of a memory map:
mapped pages count as resident memory, which a loader must keep near the size of its checkpoint. A
missing, truncated or damaged file is detected from its header and its size, before a tensor is
used.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader

DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

_BLOCK_BYTES = 4 << 20
"""A block is small enough for the processor's cache: it is read, checked and then copied."""
_MAX_HEADER_BYTES = 100 << 20
_LFS_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry locates one tensor in a file."""

    path: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    """The tensor starts at this byte of the file."""


class Tensor(Protocol):
    """A tensor to write has a shape, a dtype, and its data in blocks."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape in the file."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype in the file, one of DTYPES."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield consecutive pieces in order; together they are the full tensor."""
        ...


def read_header(path: Path) -> dict[str, Entry]:
    """Return the entries of a file by tensor name; check that each is inside the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if (start + file.read(len(_LFS_POINTER) - 8)) == _LFS_POINTER:
                raise UserError(f"{path} is a Git LFS pointer, not weights; run `git lfs pull`")
            file.seek(8)
            header = file.read(length) if length <= min(size, _MAX_HEADER_BYTES) else b""
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; download the checkpoint again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if size < 8 or len(header) != length:
        raise UserError(f"{path} is truncated or no safetensors file; download it again")
    try:
        described = json_reader.parse(header, path)
        described.pop("__metadata__", None)
        entries = {
            name: _entry(path, name, info, 8 + length, size) for name, info in described.items()
        }
        _require_tiling(entries, 8 + length, size)
        return entries
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} has a damaged safetensors header; download it again") from error


def _require_tiling(entries: Mapping[str, Entry], start: int, end: int) -> None:
    """Require that the tensors share no byte and leave none out, as the format demands."""
    for entry in sorted(entries.values(), key=lambda entry: (entry.offset, nbytes(entry))):
        if entry.offset != start:
            raise ValueError("tensors overlap or leave bytes out")
        start += nbytes(entry)
    if start != end:
        raise ValueError("bytes after the last tensor")


def _entry(path: Path, name: str, info: dict, data_start: int, file_size: int) -> Entry:
    shape = tuple(int(size) for size in info["shape"])
    begin, end = info["data_offsets"]
    if info["dtype"] not in DTYPES:
        known = ", ".join(DTYPES)
        raise UserError(
            f"{path}: tensor {name} has dtype {info['dtype']}; supported are {known} "
            "(use the unquantized checkpoint)"
        )
    dtype = DTYPES[info["dtype"]]
    if end - begin != math.prod(shape) * dtype.itemsize or begin < 0:
        raise ValueError(f"byte range of {name} does not fit its shape")
    if data_start + end > file_size:
        raise UserError(
            f"{path} is truncated: tensor {name} ends at byte {data_start + end} of {file_size}; "
            "download it again"
        )
    return Entry(path=path, name=name, dtype=dtype, shape=shape, offset=data_start + begin)


def read_rows(entry: Entry, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield [start, stop) of the first axis as (index, block); each block is overwritten.

    Raises:
        UserError: A value is NaN or infinite: it would make every logit NaN.
    """
    row_shape = entry.shape[1:]
    row_bytes = math.prod(row_shape) * entry.dtype.itemsize
    rows = max(1, min(stop - start, _BLOCK_BYTES // max(row_bytes, 1)))
    buffer = np.empty((rows, *row_shape), entry.dtype)
    raw = buffer.reshape(-1).view(np.uint8)
    with entry.path.open("rb", buffering=0) as file:
        file.seek(entry.offset + start * row_bytes)
        for row in range(start, stop, rows):
            count = min(rows, stop - row)
            _read_exactly(file, memoryview(raw)[: count * row_bytes], entry.path)
            if not _all_finite(buffer[:count]):
                raise UserError(
                    f"{entry.path}: tensor {entry.name} holds NaN or infinite values; download the "
                    "checkpoint again, or save it anew in a wider number format than "
                    f"{NAMES[entry.dtype]}"
                )
            yield row, buffer[:count]


def _all_finite(block: np.ndarray) -> bool:
    if block.dtype.itemsize != 2:
        return bool(np.isfinite(block).all())
    # Neither format of two bytes has quick arithmetic here. Without their sign they are ordered
    # as integers, and the first that is not finite is infinity.
    infinity = np.array(np.inf, block.dtype).view(np.uint16)
    return bool((block.view(np.uint16) & np.uint16(0x7FFF)).max(initial=0) < infinity)


def _read_exactly(file: io.FileIO, target: memoryview, path: Path) -> None:
    # One read may return less than requested: Linux stops at 2 GiB.
    while len(target):
        count = file.readinto(target)
        if not count:
            raise UserError(f"{path} became shorter while it was read; download it again")
        target = target[count:]


def write_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one file and wait until it is on disk. `OSError` is left to the caller."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + nbytes(tensor)
        header[name] = {
            "dtype": NAMES[np.dtype(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            written = sum(file.write(_raw(block)) for block in tensor.blocks())
            assert written == nbytes(tensor), f"{name}: wrote {written} of {nbytes(tensor)} bytes"
        file.flush()
        os.fsync(file.fileno())


def nbytes(tensor: "Tensor | Entry") -> int:
    """Return the number of bytes of a tensor in the file."""
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def row_blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array, such as a transposed view, as contiguous pieces of bounded size."""
    row_bytes = max(1, matrix.nbytes // max(1, matrix.shape[0]))
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, matrix.shape[0], rows):
        yield np.ascontiguousarray(matrix[start : start + rows])


def _raw(block: np.ndarray) -> memoryview:
    return memoryview(block.reshape(-1).view(np.uint8))


def group_by_size(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Split names in order into groups of at most `limit` bytes; a larger tensor is alone."""
    groups: list[list[str]] = []
    filled = limit + 1
    for name, size in sizes.items():
        if filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def read_index(index: Path) -> dict[str, Entry]:
    """Return the entries of all files that an index names, by tensor name."""
    try:
        weight_map = json_reader.read(index)["weight_map"]
        files = sorted(set(weight_map.values()))
    except OSError as error:
        raise UserError(f"cannot read {index}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is damaged: it has no weight_map; download it again") from error
    absent = [name for name in files if not (index.parent / name).is_file()]
    if absent:
        raise UserError(
            f"{index} names files that are not there: {short_list(absent)}; download them"
        )
    entries = {name: read_header(index.parent / name) for name in files}
    lost = [name for name, file in weight_map.items() if name not in entries[file]]
    if lost:
        raise UserError(f"{index} names tensors its files do not hold: {short_list(lost)}")
    return {name: entries[file][name] for name, file in weight_map.items()}


def short_list(names: Iterable[str]) -> str:
    """Format the first three names and the number of further names."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an operating-system error while reading into a one-line UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
