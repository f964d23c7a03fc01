"""Checkpoints in a local directory or in a snapshot of a Hugging Face repository."""

import re
from pathlib import Path

from r1ci_jax.errors import UserError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


def resolve(path_or_hub_id: str | Path) -> Path:
    """Return the checkpoint's directory; download a hub id into the Hugging Face cache."""
    path = Path(path_or_hub_id)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{path} is a file; give the directory of the checkpoint")
    name = str(path_or_hub_id)
    if isinstance(path_or_hub_id, Path) or not _HUB_ID.fullmatch(name):
        raise UserError(
            f"{path} does not exist; give a checkpoint directory or a hub id (owner/name), or make "
            f"the directory: r1ci weights import FILE.gguf {path}"
        )
    return _snapshot(name)


def _snapshot(hub_id: str) -> Path:
    import huggingface_hub  # slow to import, and needed only here
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=_FILES))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise UserError(
            f"{hub_id} is neither a directory here nor a repository open to you; check the name or "
            "log in with `hf auth login`"
        ) from error
    except (errors.HFValidationError, OSError) as error:
        raise UserError(
            f"{hub_id} is not a directory here and cannot be downloaded; go online or give a local "
            "checkpoint directory"
        ) from error
