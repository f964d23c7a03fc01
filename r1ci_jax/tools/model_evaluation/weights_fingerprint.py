"""A short digest by which an evaluation is not resumed with other weights."""

import hashlib
from pathlib import Path
from typing import Final

from r1ci_jax.model.hf import safetensors_file, weights
from r1ci_jax.model.hf.safetensors_file import Entry

_TEXT_FILES: Final = ("*.json", "*.jinja")
_EDGE_BYTES: Final = 1 << 16
"""Read of the start and of the end of each tensor: training changes all of a large matrix."""


def of_checkpoint(directory: Path) -> str:
    """Digest a checkpoint: every tensor's name, form and edges, and the text files whole.

    Raises:
        UserError: A file is missing, damaged or cannot be read.
    """
    digest = hashlib.sha256()
    for name, entry in sorted(weights.find_tensors(directory).items()):
        digest.update(f"{name} {entry.dtype} {entry.shape}\n".encode())
        digest.update(_edges(entry))
    for path in sorted({path for pattern in _TEXT_FILES for path in directory.glob(pattern)}):
        digest.update(f"{path.name}\n{of_file(path)}\n".encode())
    return digest.hexdigest()[:16]


def of_file(path: Path) -> str:
    """Digest a small file.

    Raises:
        UserError: It cannot be read.
    """
    with safetensors_file.reading(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _edges(entry: Entry) -> bytes:
    end = entry.offset + safetensors_file.nbytes(entry)
    with safetensors_file.reading(entry.path), entry.path.open("rb") as file:
        file.seek(entry.offset)
        first = file.read(min(_EDGE_BYTES, end - entry.offset))
        file.seek(max(entry.offset, end - _EDGE_BYTES))
        return first + file.read(min(_EDGE_BYTES, end - entry.offset))
