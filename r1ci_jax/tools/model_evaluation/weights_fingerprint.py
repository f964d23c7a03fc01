"""A short digest by which an evaluation is not resumed with other weights."""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO, Final

from r1ci_jax.errors import UserError

_FILES: Final = ("*.safetensors", "*.json", "*.jinja")
_TENSOR_BYTES: Final = 1 << 16
"""Read of the start and of the end of each tensor: training changes all of a large matrix."""
_HEADER_SIZE_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100 << 20
"""That of the format: a longer header is none."""


def fingerprint(place: Path) -> str:
    """Digest a checkpoint's files: the small ones whole, of each tensor the start and the end.

    Args:
        place: A checkpoint directory, or one file, which is read whole.

    Raises:
        UserError: A file cannot be read.
    """
    files = (
        sorted({path for pattern in _FILES for path in place.glob(pattern)})
        if place.is_dir()
        else [place]
    )
    digest = hashlib.sha256()
    for path in files:
        try:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                if path.suffix == ".safetensors":
                    for part in _tensor_parts(file):
                        digest.update(part)
                else:
                    digest.update(file.read())
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; make it readable for you"
            ) from None
    return digest.hexdigest()[:16]


def _tensor_parts(file: BinaryIO) -> list[bytes]:
    """Read the header of a safetensors file and parts of its tensors; of no such file, the start.

    What is wrong with that one, its loader says.
    """
    size = int.from_bytes(file.read(_HEADER_SIZE_BYTES), "little")
    header = file.read(min(size, _MAX_HEADER_BYTES))
    parts = [header]
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
    except (ValueError, AttributeError, KeyError, TypeError):
        return parts
    first = _HEADER_SIZE_BYTES + size
    for start, end in spans:
        file.seek(first + start)
        parts.append(file.read(min(_TENSOR_BYTES, end - start)))
        file.seek(first + max(start, end - _TENSOR_BYTES))
        parts.append(file.read(min(_TENSOR_BYTES, end - start)))
    return parts
