"""Remove the host's paths from a prepared tree: a script could read who runs it, and where.

An interpreter and its libraries contain the directory where they were installed, as text in
`_sysconfigdata`, as strings in executables, in bytecode, and in pip's records. Bytecode is removed
before and compiled anew. Text gets the path inside the jail. In a binary file, where every other
byte must stay in its place, slashes replace the path; nothing uses it, because Python and its
libraries are found from the executable.
"""

import os
import pathlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Final

from r1ci_jax.errors import UserError

JAIL_PYTHON: Final = "/python"
JAIL_HOME: Final = "/scratch"
COMMON: Final = frozenset(
    ("/usr", "/usr/local", "/opt", "/home", "/tmp", "/var", "/var/tmp", "/etc", "/lib", "/mnt")
)
"""Directories of every machine, which tell nothing; libraries look for files there."""
RECORDS: Final = ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED")
"""pip's records of an installation; scripts can still ask for versions."""


def of_this_host(further: Iterable[pathlib.Path]) -> dict[str, str]:
    """Return the host's directories and the path that replaces each inside the jail.

    Args:
        further: More directories of the host, such as the one that is built.
    """
    pythons = [sys.base_prefix, sys.base_exec_prefix, sys.prefix]
    settings = ("abs_srcdir", "abs_builddir", "srcdir", "prefix")
    pythons += [str(sysconfig.get_config_var(name) or "") for name in settings]
    checkout = pathlib.Path(__file__).parents[3]
    homes = [os.path.expanduser("~"), *map(str, (checkout, *further))]
    found: dict[str, str] = {}
    for paths, inside in ((homes, JAIL_HOME), (pythons, JAIL_PYTHON)):
        for path in paths:
            for known in (path.rstrip("/"), os.path.realpath(path) if path else ""):
                if known.startswith("/") and known != "/" and known not in COMMON:
                    found[known] = inside
    return found


def remove(root: pathlib.Path, paths: Mapping[str, str]) -> None:
    """Remove pip's records, and replace the paths in all files below `root`.

    Raises:
        UserError: A path is left; the message names the file.
    """
    for name in RECORDS:
        for record in root.glob(f"**/*.dist-info/{name}"):
            record.unlink()
    pattern = _pattern(paths)
    for file in _files(root):
        content = file.read_bytes()
        if pattern.search(content) is None:
            continue
        changed = replaced(content, paths)
        if pattern.search(changed) is not None:
            raise UserError(f"{file} still names a directory of this host; please report it")
        # A new file: the old one may be a hard link of another tree's.
        beside = file.with_name(f".{file.name}.new")
        beside.write_bytes(changed)
        beside.chmod(file.stat().st_mode)
        beside.replace(file)


def replaced(content: bytes, paths: Mapping[str, str]) -> bytes:
    """Return the content with every path replaced; a binary file keeps its length."""
    binary = b"\0" in content

    def inside(match: re.Match[bytes]) -> bytes:
        path = match[0]
        if not binary:
            return os.fsencode(paths[os.fsdecode(path)])
        # A linker stores "3.12.1" once, as the end of "/…/versions/3.12.1": the end stays.
        kept = path.rpartition(b"/")[2] if paths[os.fsdecode(path)] == JAIL_PYTHON else b""
        return kept.rjust(len(path), b"/")

    return _pattern(paths).sub(inside, content)


def _pattern(paths: Mapping[str, str]) -> re.Pattern[bytes]:
    """Match a path, the longest first, where no longer name follows."""
    words = sorted(map(os.fsencode, paths), key=len, reverse=True)
    # `/root` may also be the middle of `tree/root/leaf`, but not in a compiler's `-I/root/include`.
    alone = rb"(?:(?<![\w.)}-])|(?<=-[IL]))"
    choices = (
        re.escape(word) if word.count(b"/") > 1 else alone + re.escape(word) for word in words
    )
    return re.compile(b"(?:" + b"|".join(choices) + rb")(?![\w.-])")


def _files(root: pathlib.Path) -> Iterable[pathlib.Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            file = pathlib.Path(directory, name)
            if file.is_file() and not file.is_symlink():
                yield file
