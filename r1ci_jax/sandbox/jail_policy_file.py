"""Read the policies' files in `sandboxes/` as tables."""

import pathlib
import tomllib
from typing import Any

from r1ci_jax import bundled
from r1ci_jax.errors import UserError


def directory() -> pathlib.Path:
    """Return `sandboxes/` of the checkout or of the installation."""
    return bundled.ROOT / "sandboxes"


def names() -> list[str]:
    """List the names of the existing policies."""
    return sorted(path.stem for path in directory().glob("*.toml"))


def content(name: str) -> dict[str, Any]:
    """Read the tables of a policy.

    Raises:
        UserError: There is no such policy, or its file cannot be read.
    """
    file = directory() / f"{name}.toml"
    if not file.is_file():
        known = ", ".join(names()) or "none"
        raise UserError(f"no sandbox policy {name!r} in {directory()} (known: {known})")
    try:
        return _tables(file)
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(f"{file} is no sandbox policy: {error}; compare default.toml") from error


def _tables(file: pathlib.Path) -> dict[str, Any]:
    """Read the file's tables and merge them into those of the policy that it extends."""
    own: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    if (base := own.pop("extends", None)) is None:
        return own
    under = _tables(file.with_name(f"{base}.toml"))
    tables = {key: {**under[key], **own.get(key, {})} for key in ("limits", "jail")}
    return {**under, **own, **tables}
