"""Atomic writes: a reader never sees half of a file."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str | bytes) -> None:
    """Write a temporary file and rename it; on failure the old file is unchanged.

    Text is written as UTF-8; half characters, which UTF-8 cannot hold, become escapes.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write one readable JSON document atomically."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
