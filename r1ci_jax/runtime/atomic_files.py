"""Writing a file so that a reader never sees half of it."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str | bytes) -> None:
    """Write beside `path`, text as UTF-8, and rename; on failure the old file stays as it was."""
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
