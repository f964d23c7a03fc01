"""Turn a policy of `sandboxes/` and the limits of a run into nsjail's configuration."""

import math
import os
import pathlib
import re

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.config import Limits

NET_SECONDS = 60
"""nsjail's own time limit lies this far behind the wall limit."""


def policies_directory() -> pathlib.Path:
    """`sandboxes/` stands beside the package, in a checkout and in an installation alike."""
    return pathlib.Path(__file__).parents[2] / "sandboxes"


def read_template(name: str) -> str:
    """The text of a policy.

    Raises:
        UserError: there is no such policy.
    """
    directory = policies_directory()
    template = directory / f"{name}.cfg"
    if not template.is_file() or not (directory / f"{name}.kafel").is_file():
        known = ", ".join(sorted(path.stem for path in directory.glob("*.cfg"))) or "none"
        raise UserError(
            f"no sandbox policy {name!r} in {directory} (needs .cfg and .kafel; known: {known})"
        )
    return template.read_text()


def render(name: str, root: pathlib.Path, limits: Limits) -> str:
    """The configuration for one set of limits."""
    as_root = os.geteuid() == 0
    values = {
        "NET_SECONDS": math.ceil(limits.wall_seconds) + NET_SECONDS,
        # Root maps nobody; another user may map only himself. Either is 65534 inside.
        "UID": 65534 if as_root else os.geteuid(),
        "GID": 65534 if as_root else os.getegid(),
        "MEMORY_MIB": _mebibytes(limits.memory_bytes),
        "CPU_SECONDS": math.ceil(limits.cpu_seconds) + 1,
        "FILE_MIB": _mebibytes(limits.file_bytes),
        "PROCESSES": limits.processes + 1,  # the supervisor counts
        "SCRATCH_BYTES": 2 * limits.file_bytes,
        "ROOT": _quote(str(root)),
        "KAFEL": _quote(str(policies_directory() / f"{name}.kafel")),
    }
    return re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), read_template(name))


def _mebibytes(count: int) -> int:
    return math.ceil(count / (1 << 20))


def _quote(text: str) -> str:
    """Escape for a quoted string of the text-protobuf format."""
    escaped = (
        f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\' else chr(byte)
        for byte in os.fsencode(text)
    )
    return "".join(escaped)
