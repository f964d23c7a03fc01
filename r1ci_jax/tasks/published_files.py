"""The data folder of published questions: its path, reading, downloading."""

import dataclasses
import hashlib
import os
import pathlib
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator

from r1ci_jax.errors import UserError

VARIABLE = "R1CI_DATA"
FETCH = "r1ci data fetch"
"""The command that fills the folder; every error names it."""

_SCHEMES = frozenset({"https", "http", "file"})
_TIMEOUT_SECONDS = 60
_MAX_BYTES = 64 * 1024 * 1024
"""More than any file of the tasks; an endless answer of a broken proxy ends here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
    """A published file."""

    path: str
    """Its place inside the data folder."""
    url: str
    sha256: str


def data_folder(explicit: pathlib.Path | None = None) -> pathlib.Path:
    """The data folder: the one given (`--data-dir`), else $R1CI_DATA, else the user's cache."""
    if explicit is not None:
        return explicit
    if chosen := os.environ.get(VARIABLE):
        return pathlib.Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "r1ci_jax" / "tasks"


def choose_folder(explicit: pathlib.Path) -> None:
    """Make `--data-dir` the folder of this process and of those it starts."""
    if not explicit.is_dir():
        raise UserError(f"no data folder {explicit}; name another, or run {FETCH} --data-dir DIR")
    os.environ[VARIABLE] = str(explicit.absolute())


def read(path: str, data: pathlib.Path, *, sha256: str | None = None) -> bytes:
    """A file of the data folder.

    Args:
        path: Its place inside the folder.
        data: The folder.
        sha256: What the content must hash to; None where the content is free.

    Raises:
        UserError: it is missing, unreadable or another file than the published one.
    """
    target = data / path
    try:
        content = target.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{target} is missing; run {FETCH}, or name a folder by --data-dir or ${VARIABLE}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {target}: {error.strerror}; mend it or run {FETCH}") from None
    if sha256 is not None and _digest(content) != sha256:
        raise UserError(f"{target} is not the published file; delete it and run {FETCH}")
    return content


def fetch(remote: Remote, data: pathlib.Path) -> bool:
    """Download a file unless the right one is there; returns whether it was downloaded.

    Raises:
        UserError: no connection, no room, or other content than the published one.
    """
    target = data / remote.path
    if target.is_file() and _digest(target.read_bytes()) == remote.sha256:
        return False
    content = _download(remote.url)
    if _digest(content) != remote.sha256:
        raise UserError(
            f"{remote.url} is not the published file (sha256 {_digest(content)[:12]}...); "
            f"run {FETCH} again, or put the file at {target}"
        )
    write(remote.path, data, content)
    return True


def fetch_all(remotes: Iterable[Remote], data: pathlib.Path) -> Iterator[tuple[Remote, bool]]:
    """Fetch one by one; yields each file with whether it was downloaded, for a progress line."""
    for remote in remotes:
        yield remote, fetch(remote, data)


def write(path: str, data: pathlib.Path, content: bytes) -> None:
    """Write a file of the data folder; nobody ever sees half of it."""
    target = data / path
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            partial = pathlib.Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)  # temporary files are the owner's alone
        partial.replace(target)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {target}: {error.strerror}; name another folder by --data-dir"
        ) from None


def _download(url: str) -> bytes:
    if urllib.parse.urlsplit(url).scheme not in _SCHEMES:
        raise UserError(f"cannot download {url}: not a web address; mend the source's URL")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            content = response.read(_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise _unreachable(url, f"status {error.code}") from None
    except urllib.error.URLError as error:
        raise _unreachable(url, _one_line(error.reason)) from None
    except (OSError, ValueError) as error:
        raise _unreachable(url, _one_line(error)) from None
    if len(content) > _MAX_BYTES:
        raise _unreachable(url, f"longer than {_MAX_BYTES} bytes")
    return content


def _unreachable(url: str, why: str) -> UserError:
    return UserError(
        f"cannot download {url}: {why}; run {FETCH} where there is a network, "
        f"or name a filled folder by --data-dir or ${VARIABLE}"
    )


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
