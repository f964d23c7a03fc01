"""Tokens that end a turn, as the files of a checkpoint name them.

The reference samples until one of `eos_token_id` in generation_config.json, an id or a list of ids;
without that file it takes the key from config.json. The tokenizer's files spell one more.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader

GENERATION_FILE = "generation_config.json"
_MODEL_FILE = "config.json"
REMEDY = "fetch the checkpoint again"
"""Advice where a file of a checkpoint is damaged."""
_KEY = "eos_token_id"


def read(directory: Path) -> tuple[int, ...]:
    """Return the ids that a checkpoint's files name; none if there are no such files.

    Raises:
        UserError: A file is damaged, or what it names is no id.
    """
    for name in (GENERATION_FILE, _MODEL_FILE):
        path = directory / name
        if path.is_file():
            return _parse(json_reader.load_object(path, REMEDY).get(_KEY), path)
    return ()


def require_known(ids: tuple[int, ...], vocab_size: int, source: object) -> None:
    """Refuse ids outside the vocabulary.

    Raises:
        UserError: There is one; `source` names where it comes from.
    """
    for index in ids:
        if not 0 <= index < vocab_size:
            raise UserError(
                f"{source}: {_KEY} names {index}, but there are the ids 0 to {vocab_size - 1}; "
                f"correct {GENERATION_FILE} or {_MODEL_FILE}"
            )


def spelling(config: Mapping[str, Any], source: object, name: str = "eos_token") -> str | None:
    """Return a special token that a tokenizer_config.json names, a string or an object."""
    token = config.get(name)
    if isinstance(token, Mapping):
        token = token.get("content")
    if token is None or isinstance(token, str):
        return token
    raise UserError(f"{source}: {name} is {token!r}, not a token's text; correct it")


def _parse(value: Any, path: Path) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for index in ids:
        if not isinstance(index, int) or isinstance(index, bool):
            raise UserError(
                f"{path}: {_KEY} is {value!r}; it must be a token's id or a list of ids"
            )
    return tuple(ids)
