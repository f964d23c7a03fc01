"""The data folder of published questions: its path, reading, downloading."""

import dataclasses
import hashlib
import http.client
import os
import pathlib
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from r1ci_jax.errors import UserError

if TYPE_CHECKING:
    import tenacity

VARIABLE = "R1CI_DATA"
FETCH = "r1ci data fetch"
"""The command that fills the folder; every error message names it."""

_SCHEMES = frozenset({"https", "http", "file"})
_TIMEOUT_SECONDS = 60
_TRIES = 4
_PAUSE_SECONDS = 1.0
"""Mean of the pause before the second try; each further one is twice as long."""
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be another one a moment later."""
_MAX_BYTES = 64 * 1024 * 1024
"""Larger than any file of the tasks; stops the endless reply of a broken proxy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
    """A published file."""

    path: str
    """The path inside the data folder."""
    url: str
    sha256: str


def data_folder(explicit: pathlib.Path | None = None) -> pathlib.Path:
    """Return the data folder: the given one (`--data-dir`), $R1CI_DATA or the user's cache."""
    if explicit is not None:
        return explicit
    if chosen := os.environ.get(VARIABLE):
        return pathlib.Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "r1ci_jax" / "tasks"


def choose_folder(explicit: pathlib.Path) -> None:
    """Make `--data-dir` the folder of this process and of its child processes."""
    if not explicit.is_dir():
        raise UserError(f"no data folder {explicit}; name another, or run {FETCH} --data-dir DIR")
    os.environ[VARIABLE] = str(explicit.absolute())


def read(
    path: str, data: pathlib.Path, *, sha256: str | None = None, command: str = FETCH
) -> bytes:
    """Read a file of the data folder.

    Args:
        path: The path inside the folder.
        data: The folder.
        sha256: The required hash of the content; None where the content is free.
        command: The command that fetches the file, for messages.

    Raises:
        UserError: The file is missing, unreadable or not the published one.
    """
    target = data / path
    try:
        content = target.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{target} is missing; run {command}, or set ${VARIABLE} to a folder that has it"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot read {target}: {error.strerror}; mend it or run {command}"
        ) from None
    if sha256 is not None and _digest(content) != sha256:
        raise UserError(f"{target} is not the published file; delete it and run {command}")
    return content


def fetch(remote: Remote, data: pathlib.Path) -> bool:
    """Download a file unless the right one exists; return True if it was downloaded.

    Raises:
        UserError: There is no connection or no space, or the content is not the published one.
    """
    target = data / remote.path
    if target.is_file() and _digest(target.read_bytes()) == remote.sha256:
        return False
    content = _download_patiently(remote.url)
    if _digest(content) != remote.sha256:
        raise UserError(
            f"{remote.url} is not the published file (sha256 {_digest(content)[:12]}...); "
            f"run {FETCH} again, or put the file at {target}"
        )
    write(remote.path, data, content)
    return True


def fetch_all(remotes: Iterable[Remote], data: pathlib.Path) -> Iterator[tuple[Remote, bool]]:
    """Fetch one by one; yield each file and True if it was downloaded, for a progress line."""
    for remote in remotes:
        yield remote, fetch(remote, data)


def write(path: str, data: pathlib.Path, content: bytes) -> None:
    """Write a file of the data folder atomically."""
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
        partial.chmod(0o644)  # Temporary files are readable by their owner only.
        partial.replace(target)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {target}: {error.strerror}; name another folder by --data-dir"
        ) from None


class _PassingFault(UserError):
    """A download failed in a way that may not happen again."""


def _download_patiently(url: str) -> bytes:
    """Download, and try again after faults that may pass.

    The workers of a launch all begin at once, so the pauses are random.
    """
    import tenacity  # 0.2 seconds, and only a download needs it

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_PassingFault),
        stop=tenacity.stop_after_attempt(_TRIES),
        wait=tenacity.wait_exponential(multiplier=_PAUSE_SECONDS / 2)
        + tenacity.wait_random(0, _PAUSE_SECONDS),
        before_sleep=_report,
        reraise=True,
    )
    return retrying(_download, url)


def _report(state: "tenacity.RetryCallState") -> None:
    fault = state.outcome and state.outcome.exception()
    why = str(fault).partition(";")[0]
    seconds = state.upcoming_sleep
    print(f"{why}; trying again in {seconds:.0f} s", file=sys.stderr, flush=True)


def _download(url: str) -> bytes:
    if urllib.parse.urlsplit(url).scheme not in _SCHEMES:
        raise UserError(f"cannot download {url}: not a web address; mend the source's URL")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            content = response.read(_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        kind = _PassingFault if error.code in _PASSING_STATUS else UserError
        raise kind(_unreachable(url, f"status {error.code}")) from None
    except urllib.error.URLError as error:
        kind = _PassingFault if url.startswith("http") else UserError
        raise kind(_unreachable(url, _one_line(error.reason))) from None
    except (OSError, http.client.HTTPException) as error:
        raise _PassingFault(_unreachable(url, _one_line(error))) from None
    except ValueError as error:
        raise UserError(_unreachable(url, _one_line(error))) from None
    if len(content) > _MAX_BYTES:
        raise UserError(_unreachable(url, f"longer than {_MAX_BYTES} bytes"))
    return content


def _unreachable(url: str, why: str) -> str:
    return (
        f"cannot download {url}: {why}; run {FETCH} where there is a network, "
        f"or set ${VARIABLE} to a filled folder"
    )


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
