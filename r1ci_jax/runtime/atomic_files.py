"""Atomic writes: a reader never sees half of a file."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str | bytes) -> None:
    """Write a temporary file and rename it; text is UTF-8. On failure the old file is unchanged."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(text.encode("utf-8") if isinstance(text, str) else text)
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
