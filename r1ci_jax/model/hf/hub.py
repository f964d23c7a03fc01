"""Checkpoints in a local directory, a GGUF file, or a snapshot of a Hugging Face repository."""

import re
from pathlib import Path

from r1ci_jax.errors import UserError, did_you_mean
from r1ci_jax.runtime.quiet_hub import quiet_hub

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


def resolve(path_or_hub_id: str | Path) -> Path:
    """Return the checkpoint's directory.

    A hub id is downloaded into the Hugging Face cache, a GGUF file is imported into ours.

    Raises:
        UserError: There is no such checkpoint, or it cannot be downloaded or imported.
    """
    path = Path(path_or_hub_id)
    if path.is_dir():
        return path
    if path.exists():
        return _imported(path)
    name = str(path_or_hub_id)
    is_file_name = isinstance(path_or_hub_id, Path) or name.lower().endswith(".gguf")
    if is_file_name or not _HUB_ID.fullmatch(name):
        raise UserError(
            f"{path} does not exist; give a checkpoint directory, a GGUF file or a hub id "
            f"(owner/name), or make the directory: r1ci weights import FILE.gguf {path}"
        )
    return _snapshot(name)


def _imported(path: Path) -> Path:
    from r1ci_jax.model.gguf import gguf_file, gguf_import  # needed only here

    if not gguf_file.is_gguf(path):
        raise UserError(f"{path} is a file; give the directory of the checkpoint, or a GGUF file")
    return gguf_import.cached(path)


def _snapshot(hub_id: str) -> Path:
    import huggingface_hub  # slow to import, and needed only here
    from huggingface_hub import errors

    try:
        with quiet_hub():
            return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=_FILES))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise UserError(
            f"{hub_id} is neither a directory here nor a repository open to you; check the name or "
            "log in with `hf auth login`"
        ) from None
    except (errors.HFValidationError, OSError):
        raise UserError(
            f"{hub_id} is not a directory here and cannot be downloaded; {_neighbor(hub_id)}go "
            "online or give a local checkpoint directory"
        ) from None  # dozens of lines of the network's libraries say no more


def _neighbor(hub_id: str) -> str:
    """Ask whether a directory was meant that is spelled like the hub id."""
    folder = Path(hub_id).parent
    known = [str(each) for each in folder.iterdir()] if folder.is_dir() else []
    return did_you_mean(hub_id, known)
