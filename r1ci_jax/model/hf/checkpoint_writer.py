"""The files of a checkpoint directory are written shard by shard, each whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.model.hf import safetensors_file

SHARD_BYTES = 5 * 10**9
"""A file of an exported checkpoint has at most this many bytes."""
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def require_new(out: Path) -> None:
    """Refuse an output directory that the finished one could not replace.

    Raises:
        UserError: `out` exists and is no empty directory, is a link or the working directory.
    """
    if out.is_symlink() or out.resolve() == Path.cwd():
        what = "a link" if out.is_symlink() else "the working directory"
        raise UserError(f"{out} is {what}, which cannot be replaced; name a new directory")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty directory; choose another or remove it")


def require_space(out: Path, total: int) -> None:
    """Make the parent directory; refuse to begin if `total` bytes do not fit there.

    Raises:
        UserError: The file system has less free space.
        OSError: The parent directory cannot be made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < total:
        raise UserError(
            f"{out} needs {total / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or "
            "choose another directory"
        )


def write(
    directory: Path,
    tensors: Mapping[str, safetensors_file.Tensor],
    config_json: Mapping[str, Any],
) -> None:
    """Write config.json, the weights, and their index if there are several files.

    A file of weights that is there already is complete, and is kept: an interrupted writing
    continues behind it.
    """
    (directory / "config.json").write_text(json.dumps(config_json, indent=2) + "\n")
    sizes = {name: safetensors_file.nbytes(tensor) for name, tensor in tensors.items()}
    groups = safetensors_file.group_by_size(sizes, SHARD_BYTES)
    if len(groups) == 1:
        _write_shard(directory / SINGLE, tensors)
        return
    weight_map = {}
    for number, names in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        _write_shard(directory / file, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _write_shard(path: Path, tensors: Mapping[str, safetensors_file.Tensor]) -> None:
    if path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    safetensors_file.write_file(part, tensors)
    os.replace(part, path)
