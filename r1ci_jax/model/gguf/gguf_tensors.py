"""Tensors of a GGUF file, widened block by block while a checkpoint is written."""

import dataclasses
import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.gguf import gguf_file
from r1ci_jax.model.hf import safetensors_file

_BLOCK_BYTES = 16 << 20
"""A block has about so many bytes in float32."""


@dataclasses.dataclass(frozen=True)
class WidenedTensor:
    """A tensor to write: its numbers become `dtype`, its rows take the reference's order."""

    source: gguf_file.GgufTensor
    shape: tuple[int, ...]
    dtype: np.dtype
    rotary_head: int = 0
    """Rows of one head, whose halves llama.cpp has interleaved; 0: rows are in order."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the tensor in consecutive pieces.

        Raises:
            UserError: A number is NaN, infinite, or too large for `dtype`, or the file cannot be
                read.
        """
        row = self.shape[-1] if len(self.shape) > 1 else self.source.shape[-1]
        unit = self.rotary_head or 1
        rows = max(1, _BLOCK_BYTES // (4 * row * unit)) * unit
        path = self.source.path
        with safetensors_file.reading(path), path.open("rb", buffering=0) as file:
            file.seek(self.source.offset)
            for start in range(0, self.source.rows, rows):
                count = min(rows, self.source.rows - start)
                yield self._rounded(self._in_order(self._read(file, count)))

    def _read(self, file: io.FileIO, rows: int) -> np.ndarray:
        raw = np.empty((rows, self.source.row_bytes), np.uint8)
        target = memoryview(raw.reshape(-1))
        while len(target):  # one read may return less than requested
            count = file.readinto(target)
            if not count:
                raise UserError(
                    f"{self.source.path} became shorter while it was read; download it again"
                )
            target = target[count:]
        return widen(raw, self.source.number_format)

    def _in_order(self, block: np.ndarray) -> np.ndarray:
        """Undo llama.cpp's order: it pairs neighboring rows of a head, the reference its halves."""
        if not self.rotary_head:
            return block
        pairs = block.reshape(-1, self.rotary_head // 2, 2, block.shape[-1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(block.shape)

    def _rounded(self, block: np.ndarray) -> np.ndarray:
        if not np.isfinite(block).all():
            raise UserError(
                f"{self.source.path}: tensor {self.source.name} holds NaN or infinite values; "
                "download the file again"
            )
        with np.errstate(over="ignore"):  # the next line finds it
            rounded = block.astype(self.dtype, copy=False)
        if rounded.dtype != block.dtype and not np.isfinite(rounded.astype(np.float32)).all():
            raise UserError(
                f"{self.source.path}: tensor {self.source.name} has values too large for "
                f"{self.dtype}; choose float32"
            )
        return rounded


def widen(raw: np.ndarray, number_format: Any) -> np.ndarray:
    """Return rows of bytes as float32; damaged scales give values that are not finite."""
    with np.errstate(all="ignore"):
        return gguf_file.package().dequantize(raw, number_format)


@functools.cache
def is_readable(number_format: Any) -> bool:
    """Return True if the package can widen this number format."""
    _, block_bytes = gguf_file.package().GGML_QUANT_SIZES[number_format]
    try:
        widen(np.zeros((1, block_bytes), np.uint8), number_format)
    except NotImplementedError:
        return False
    return True
