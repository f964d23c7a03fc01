"""Files that a script made, as the host receives them: names and bytes from a pipe."""

import pathlib
from collections.abc import Sequence

from r1ci_jax.errors import UserError

_NUMBER = 10


def check(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names if a caller may request them.

    Raises:
        UserError: A name is not a relative path below the scratch directory.
    """
    for name in names:
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UserError(f"cannot collect {name!r}: it is no file name") from error
        parts = pathlib.PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name:
            raise UserError(f"cannot collect {name!r}; name a file below the working directory")
    return tuple(dict.fromkeys(str(pathlib.PurePosixPath(name)) for name in names))


def room(names: Sequence[str], file_bytes: int) -> int:
    """Return the largest number of bytes that a correct answer for these names can have."""
    return sum(
        2 * _NUMBER + len(name.encode("utf-8", "surrogateescape")) + file_bytes for name in names
    )


def parse(data: bytes) -> dict[str, bytes]:
    """Parse the files that `collect.send` wrote; leave out a part that was cut off."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + _NUMBER
        at = begin + int(data[begin - _NUMBER : begin])
        if at > len(data):
            break
        parts.append(data[begin:at])
    names = (name.decode("utf-8", "surrogateescape") for name in parts[0::2])
    return dict(zip(names, parts[1::2], strict=False))
