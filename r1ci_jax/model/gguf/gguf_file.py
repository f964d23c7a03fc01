"""The header of a GGUF file, read with every count, size and offset checked.

A file has a magic, a version, two counts, metadata (key, type, value), descriptions of tensors
(name, sizes, number format, offset), and then the aligned data. All numbers are little-endian;
sizes are listed with the innermost axis first. The header is read here, and not by the package
`gguf`: that one trusts the counts and offsets of a file. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import dataclasses
import importlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_HEADER_BYTES = 64 << 20
"""A vocabulary of 256,000 tokens with its merges takes about 15 MiB."""
_MAX_DIMS = 4
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 20
_LEAST_FIELD_BYTES = 8 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8
_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, str] = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
"""NumPy's names of the number types of metadata."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A description of one tensor: number format, shape and place."""

    path: Path
    name: str
    number_format: Any
    """Member of `gguf.GGMLQuantizationType`."""
    shape: tuple[int, ...]
    """The outermost axis is first, as in NumPy."""
    row_bytes: int
    """Bytes of one row of the innermost axis."""
    offset: int
    """The tensor starts at this byte of the file."""

    @property
    def rows(self) -> int:
        """Return the number of rows of the innermost axis."""
        return math.prod(self.shape[:-1])


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """A file's metadata and its tensors by name."""

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def package() -> ModuleType:
    """Import the package `gguf`, which knows the number formats.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        how = install_extra("gguf")
        raise UserError(f"GGUF files need the package gguf; {how}") from error


def is_gguf(path: Path) -> bool:
    """Return True for a file that is named or begins as a GGUF file."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: Path) -> GgufFile:
    """Read the header.

    Raises:
        UserError: The file cannot be read, is damaged, or holds an unknown number format.
    """
    formats = package()
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path, path.stat().st_size)
            return _read(reader, formats)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


class _Reader:
    """A reader takes values from the header and never more than the file holds."""

    def __init__(self, file: io.BufferedReader, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.position = 0
        self._file = file

    @property
    def left(self) -> int:
        return self.size - self.position

    def damaged(self, what: str) -> UserError:
        return UserError(f"{self.path} is damaged: {what}; download it again")

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise UserError(
                f"{self.path} is truncated: its header ends after byte {self.size}; download it "
                "again"
            )
        if self.position + count > _MAX_HEADER_BYTES:
            raise self.damaged(f"its header is larger than {_MAX_HEADER_BYTES >> 20} MiB")
        data = self._file.read(count)
        if len(data) != count:
            raise self.damaged("it became shorter while it was read")
        self.position += count
        return data

    def number(self, layout: str) -> Any:
        return np.frombuffer(self.take(np.dtype(layout).itemsize), layout)[0].item()

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        data = self.take(self.integer(8))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"the text {data[:40]!r} in its header is not UTF-8") from None

    def count(self, least_bytes: int, what: str) -> int:
        """Take a count of things, each of at least so many bytes."""
        count = self.integer(8)
        if count * least_bytes > self.left:
            raise self.damaged(f"it asks for {count} {what}, more than it can hold")
        return count

    def value(self) -> Any:
        kind = self.integer(4)
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        return self.number(self._layout(kind))

    def _array(self) -> list[Any]:
        kind = self.integer(4)
        if kind == _STRING:
            return [self.text() for _ in range(self.count(8, "texts in an array"))]
        layout = np.dtype(self._layout(kind))
        count = self.count(layout.itemsize, "numbers in an array")
        return np.frombuffer(self.take(count * layout.itemsize), layout).tolist()

    def _layout(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise self.damaged(f"its metadata have a value of the unknown type {kind}")
        return _SCALARS[kind]


def _read(reader: _Reader, formats: ModuleType) -> GgufFile:
    _require_version(reader)
    tensor_count = reader.count(_LEAST_TENSOR_BYTES, "tensors")
    fields: dict[str, Any] = {}
    for _ in range(reader.count(_LEAST_FIELD_BYTES, "metadata")):
        key = reader.text()
        if key in fields:
            raise reader.damaged(f"it has the metadata {key!r} twice")
        fields[key] = reader.value()
    parts = fields.get("split.count", 0)
    if parts not in (0, 1):
        raise UserError(
            f"{reader.path} is one of {parts} files; join them by `llama-gguf-split --merge` and "
            "give the result"
        )
    described = [_describe(reader, formats) for _ in range(tensor_count)]
    return GgufFile(reader.path, fields, _placed(reader, described, _alignment(reader, fields)))


def _require_version(reader: _Reader) -> None:
    start = reader.take(min(8, reader.left))
    if start[:4] != MAGIC or len(start) < 8:
        raise UserError(f"{reader.path} is no GGUF file; give one, or a checkpoint directory")
    version = int.from_bytes(start[4:], "little")
    if version in _VERSIONS:
        return
    if int.from_bytes(start[4:], "big") in _VERSIONS:
        raise UserError(
            f"{reader.path} is a big-endian GGUF file; only little-endian ones are read: turn it "
            "by gguf-convert-endian"
        )
    raise UserError(
        f"{reader.path} has GGUF version {version}; versions 2 and 3 are read: convert the model "
        "anew"
    )


def _alignment(reader: _Reader, fields: Mapping[str, Any]) -> int:
    value = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    is_power = isinstance(value, int) and 0 < value <= _MAX_ALIGNMENT and not value & (value - 1)
    if not is_power or isinstance(value, bool):
        raise reader.damaged(f"general.alignment is {value!r}, not a power of two")
    return value


def _describe(reader: _Reader, formats: ModuleType) -> GgufTensor:
    """Read one description; its offset is still that in the data section."""
    name = reader.text()
    dims = reader.integer(4)
    if not 0 < dims <= _MAX_DIMS:
        raise reader.damaged(f"the tensor {name!r} has {dims} axes")
    shape = tuple(reader.integer(8) for _ in range(dims))[::-1]
    number, offset = reader.integer(4), reader.integer(8)
    try:
        number_format = formats.GGMLQuantizationType(number)
    except ValueError:
        raise UserError(
            f"{reader.path}: tensor {name} has the number format {number}, which this release of "
            "the package gguf does not know; update the package or use another quantization"
        ) from None
    block, block_bytes = formats.GGML_QUANT_SIZES[number_format]
    if 0 in shape or shape[-1] % block:
        raise reader.damaged(
            f"the tensor {name!r} has the sizes {list(shape)}; {number_format.name} needs rows in "
            f"blocks of {block}"
        )
    return GgufTensor(
        path=reader.path,
        name=name,
        number_format=number_format,
        shape=shape,
        row_bytes=shape[-1] // block * block_bytes,
        offset=offset,
    )


def _placed(
    reader: _Reader, described: list[GgufTensor], alignment: int
) -> Mapping[str, GgufTensor]:
    """Return the tensors with offsets in the file.

    They must follow each other without overlap, as llama.cpp demands too.
    """
    start = -(-reader.position // alignment) * alignment
    placed: dict[str, GgufTensor] = {}
    end = 0
    for tensor in described:
        if tensor.name in placed:
            raise reader.damaged(f"it has the tensor {tensor.name!r} twice")
        if tensor.offset != end:
            raise reader.damaged(
                f"the tensor {tensor.name!r} starts at {tensor.offset}, not at {end}, where the "
                "one before it ends"
            )
        last = start + end + tensor.rows * tensor.row_bytes
        if last > reader.size:
            raise UserError(
                f"{reader.path} is truncated: tensor {tensor.name} ends at byte {last} of "
                f"{reader.size}; download it again"
            )
        placed[tensor.name] = dataclasses.replace(tensor, offset=start + end)
        end += -(-(tensor.rows * tensor.row_bytes) // alignment) * alignment
    return placed
