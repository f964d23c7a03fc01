"""A run that is kept at a URL: worked on in a local directory, mirrored to `gs://bucket/runs/name`.

Files of a run grow line by line, which objects in a bucket cannot. So a run writes here, and its
small files are copied to the URL when a stage has ended, every 20 seconds between, and at the end.
CheckpointManager are not small: they are written straight to the URL. A machine without the run takes it
from there first.

Each copy has a name, in `mirror.json` at the URL and in a note beside the local files. If they are
the same, the local files came from that copy and go on; else they are of another life and are
replaced. A machine that vanishes loses the lines since its last copy; one that is killed, none.
"""

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, progress

SECONDS_BETWEEN = 20.0
MANIFEST = "mirror.json"
NOTE = ".mirror.json"
CHECKPOINTS = "checkpoints"
STAGES = "stages.json"
SCHEMES = ("gs", "file")

State = tuple[int, int]
"""Size and time of change of a file."""


def is_url(where: str | Path) -> bool:
    """Whether a run is to be kept elsewhere: gs://bucket/path, or file:///path of a shared disk."""
    return "://" in str(where)


class BucketMirror:
    """The copy at a URL of one run's local directory."""

    def __init__(
        self,
        url: str,
        local: Path | None = None,
        *,
        writes: bool = True,
        seconds_between: float = SECONDS_BETWEEN,
    ) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest.strip("/"):
            raise UserError(
                f"{url!r} is no place for a run; write gs://bucket/runs/name, "
                "or file:///path on a disk that every worker sees"
            )
        self.url = url.rstrip("/")
        self.remote = epath.Path(rest if scheme == "file" else self.url)
        self.local = local or Path("runs", "mirrored", rest.strip("/"))
        self._writes = writes
        """False: one of several processes of a run, of which another one copies."""
        self._seconds_between = seconds_between
        self._names: tuple[str | None, ...] = (None,)
        """What the copy at the URL may be called: two names while a copy is being made."""
        self._copied: dict[str, State] = {}
        self._busy = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def checkpoints(self) -> epath.Path:
        """Where Orbax writes."""
        return self.remote / CHECKPOINTS

    def pull(self) -> None:
        """Make the local files those of the run at the URL, unless they are its continuation."""
        with self._translate_errors():
            manifest = self._manifest()
            if manifest is None:
                if self._writes:
                    self._require_same_run()
                self._clear()
                return
            self._names = _noted_names(self.local / NOTE)
            if manifest["name"] in self._names:
                return
            self._clear()
            self._names = (manifest["name"],)
            for name in manifest["files"]:
                target = self.local / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with (self.remote / name).open("rb") as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        self._copied = _states(self.local)
        self._write_note()

    def push(self) -> None:
        """Copy what has changed. Raises UserError when somebody else has written to the URL."""
        if not self._writes:
            return
        with self._busy, self._translate_errors():
            present = _states(self.local)
            manifest = self._manifest()
            found = manifest["name"] if manifest else None
            if found not in self._names:
                raise UserError(
                    f"{self.url} was written by another process: one run has one launch; stop "
                    "either, then run the same command again"
                )
            if present == self._copied and manifest is not None:
                return
            name = uuid.uuid4().hex
            self._names = (found, name)
            self._write_note()
            # The list of finished stages goes last: it promises the other files.
            for changed in sorted(present, key=lambda path: (path == STAGES, path)):
                if present[changed] != self._copied.get(changed):
                    self._upload(changed)
            for gone in self._copied.keys() - present.keys():
                (self.remote / gone).unlink(missing_ok=True)
            self._write(MANIFEST, json.dumps({"name": name, "files": sorted(present)}).encode())
            self._names = (name,)
            self._write_note()
            self._copied = present

    def start(self) -> None:
        """Copy now, and then at intervals in the background."""
        self.push()
        if not self._writes:
            return
        self._thread = threading.Thread(target=self._push_at_intervals, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The last copy."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.push()

    def _push_at_intervals(self) -> None:
        while not self._closing.wait(self._seconds_between):
            try:
                self.push()
            except UserError as error:
                progress.warn(f"{error} (tried again in {self._seconds_between:.0f} s)")

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Libraries of a cloud raise what they like: each is a place that was not reached."""
        try:
            yield
        except UserError:
            raise
        except ImportError as error:
            raise UserError(
                f"{self.url} needs the package gcsfs; run: pip install 'r1ci_jax[gcs]'"
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(f"{self.url} cannot be read or written: {reason}") from error

    def _manifest(self) -> dict[str, Any] | None:
        path = self.remote / MANIFEST
        return json.loads(path.read_text()) if path.exists() else None

    def _require_same_run(self) -> None:
        if self.remote.is_dir() and any(self.remote.iterdir()):
            raise UserError(
                f"{self.url} holds files but no run ({MANIFEST} is missing): "
                "name another place with --workdir"
            )

    def _clear(self) -> None:
        self.local.mkdir(parents=True, exist_ok=True)
        (self.local / NOTE).unlink(missing_ok=True)
        for path in self.local.iterdir():
            if path.name.startswith("."):
                continue  # the lock, which this process holds
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _upload(self, name: str) -> None:
        try:
            content = (self.local / name).read_bytes()
        except FileNotFoundError:
            return  # replaced or removed since it was listed; the next copy sees to it
        self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        target = self.remote / name
        if "://" in os.fspath(target):
            target.write_bytes(content)  # an object appears whole or not at all
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_atomic(Path(target), content)

    def _write_note(self) -> None:
        atomic_files.write_json(self.local / NOTE, {"url": self.url, "names": self._names})


def _noted_names(note: Path) -> tuple[str | None, ...]:
    try:
        return tuple(json.loads(note.read_text(encoding="utf-8"))["names"])
    except (OSError, ValueError, KeyError):
        return ()


def _states(local: Path) -> dict[str, State]:
    """Every file but hidden ones and checkpoints."""
    found: dict[str, State] = {}
    for path in sorted(local.rglob("*")):
        relative = path.relative_to(local)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or relative.parts[0] == CHECKPOINTS or relative.parts == (MANIFEST,):
            continue
        with contextlib.suppress(FileNotFoundError):  # a file renamed into place meanwhile
            if path.is_file():
                state = path.stat()
                found[relative.as_posix()] = (state.st_size, state.st_mtime_ns)
    return found
