"""The reader of JSON that others wrote: configs, checkpoints, demonstrations, logs.

Whatever a file holds, it is read or refused in one line: text that is not UTF-8 or not JSON,
nesting that would exhaust the stack, and half characters (lone surrogates), which no UTF-8 file,
tokenizer or terminal takes.
"""

import json
from pathlib import Path
from typing import Any

from r1ci_jax.errors import UserError

MAX_DEPTH = 100
"""Levels of lists and objects that are read; code that walks through a value stays far from the
interpreter's limit."""


class JsonError(UserError, ValueError):
    """The content is not JSON that this program reads; the message is one line."""


def parse(data: str | bytes, source: object, *, allow_surrogates: bool = False) -> Any:
    """Parse one JSON document; `source` names it in errors.

    Args:
        data: The document; bytes must be UTF-8.
        source: File, or file and line.
        allow_surrogates: True for logs of our own, which hold whatever a script printed.

    Raises:
        JsonError: It is not UTF-8 or not JSON, is nested too deeply, or holds half characters.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise JsonError(f"{source} is not UTF-8 (byte {error.start}); convert it") from None
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as error:
        raise JsonError(f"{source} is not JSON ({error}); repair or replace it") from None
    if not _is_shallow(value):
        raise _too_deep(source)
    if not allow_surrogates and "\\u" in text and _has_surrogate(value):
        raise JsonError(
            f"{source} holds half a character (a surrogate such as \\ud800 without its partner); "
            "remove it"
        )
    return value


def read(path: Path, *, allow_surrogates: bool = False) -> Any:
    """Parse the JSON document in a file; see `parse`.

    Raises:
        OSError: The file cannot be read.
    """
    return parse(path.read_bytes(), path, allow_surrogates=allow_surrogates)


def read_object(path: Path) -> dict[str, Any]:
    """Parse the JSON object in a file.

    Raises:
        JsonError: The file holds no JSON object.
        OSError: The file cannot be read.
    """
    value = read(path)
    if not isinstance(value, dict):
        raise JsonError(f"{path} is not a JSON object; repair or replace it")
    return value


def load_object(path: Path, remedy: str) -> dict[str, Any]:
    """Parse the JSON object in a file that the user can replace.

    Args:
        path: The file.
        remedy: Advice to the user, such as "fetch the checkpoint again".

    Raises:
        UserError: The file cannot be read, or holds no JSON object.
    """
    try:
        return read_object(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except JsonError as error:
        raise UserError(f"{error}, or {remedy}") from error


def _too_deep(source: object) -> JsonError:
    return JsonError(f"{source} is nested more than {MAX_DEPTH} levels deep; flatten it")


def _is_shallow(value: Any) -> bool:
    """Go through the levels one by one, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def _has_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
