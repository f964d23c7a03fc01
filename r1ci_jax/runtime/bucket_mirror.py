"""Mirror of a run: a local directory whose files are copied to `gs://bucket/runs/name`.

The files of a run grow line by line, which objects in a bucket cannot. So a run writes to a local
directory, and its small files are copied to the URL when a stage ends, every 20 seconds in between,
and at the end. Checkpoints are large and written directly to the URL. A machine that does not have
the run downloads it first.

Each copy has a random name, in `mirror.json` at the URL and in a note next to the local files. If
both are equal, the local files continue that copy; otherwise they belong to another launch and are
replaced. A machine that vanishes loses the lines since its last copy; a killed process, none.
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
from r1ci_jax.install_advice import install_extra
from r1ci_jax.runtime import atomic_files, json_reader, progress

PUSH_INTERVAL_SECONDS = 20.0
MANIFEST = "mirror.json"
NOTE = ".mirror.json"
CHECKPOINTS = "checkpoints"
STAGES = "stages.json"
SCHEMES = ("gs", "file")

State = tuple[int, int]
"""Size and modification time of a file."""


def is_url(location: str | Path) -> bool:
    """True for gs://bucket/path, and for file:///path on a shared disk."""
    return "://" in str(location)


class BucketMirror:
    """Copies the local directory of one run to a URL, and back."""

    def __init__(
        self,
        url: str,
        local: Path | None = None,
        *,
        is_writer: bool = True,
        interval_seconds: float = PUSH_INTERVAL_SECONDS,
    ) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest.strip("/"):
            raise UserError(
                f"unsupported --workdir URL {url!r}; use gs://bucket/runs/name, "
                "or file:///path on a disk that every worker sees"
            )
        self.url = url.rstrip("/")
        self.remote = epath.Path(rest if scheme == "file" else self.url)
        self.local = local or Path("runs", "mirrored", rest.strip("/"))
        self._is_writer = is_writer
        """False on all hosts but the first, which alone copies."""
        self._interval_seconds = interval_seconds
        self._names: tuple[str | None, ...] = (None,)
        """Expected names of the copy at the URL: two while a copy is being made."""
        self._copied: dict[str, State] = {}
        self._busy = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def checkpoints(self) -> epath.Path:
        """Directory to which Orbax writes."""
        return self.remote / CHECKPOINTS

    def pull(self) -> None:
        """Replace the local files by those at the URL, unless the local ones continue them."""
        with self._translate_errors():
            manifest = self._manifest()
            if manifest is None:
                if self._is_writer:
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
        """Copy changed files. Raises UserError when another process has written to the URL."""
        if not self._is_writer:
            return
        with self._busy, self._translate_errors():
            present = _states(self.local)
            manifest = self._manifest()
            found = manifest["name"] if manifest else None
            if found not in self._names:
                raise UserError(
                    f"{self.url} was written by another process: a run has one writer; stop "
                    "one of them, then run the same command again"
                )
            if present == self._copied and manifest is not None:
                return
            name = uuid.uuid4().hex
            self._names = (found, name)
            self._write_note()
            # The list of finished stages is copied last: it implies the other files.
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
        if not self._is_writer:
            return
        self._thread = threading.Thread(target=self._push_at_intervals, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the background thread and copy a last time."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.push()

    def _push_at_intervals(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self.push()
            except UserError as error:
                progress.warn(f"{error} (retry in {self._interval_seconds:.0f} s)")

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate the many exceptions of cloud libraries into UserError."""
        try:
            yield
        except UserError:
            raise
        except ImportError as error:
            raise UserError(
                f"{self.url} needs the package gcsfs; run: {install_extra('gcs')}"
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(f"{self.url} cannot be read or written: {reason}") from error

    def _manifest(self) -> dict[str, Any] | None:
        path = self.remote / MANIFEST
        return json_reader.parse(path.read_bytes(), path) if path.exists() else None

    def _require_same_run(self) -> None:
        if self.remote.is_dir() and any(self.remote.iterdir()):
            raise UserError(
                f"{self.url} holds files but no run ({MANIFEST} is missing): "
                "name another URL with --workdir"
            )

    def _clear(self) -> None:
        self.local.mkdir(parents=True, exist_ok=True)
        (self.local / NOTE).unlink(missing_ok=True)
        for path in self.local.iterdir():
            if path.name.startswith("."):
                continue  # the lock of this process
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _upload(self, name: str) -> None:
        try:
            content = (self.local / name).read_bytes()
        except FileNotFoundError:
            return  # replaced or removed since it was listed; the next copy has it
        self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        target = self.remote / name
        if "://" in os.fspath(target):
            target.write_bytes(content)  # objects are written atomically
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_atomic(Path(target), content)

    def _write_note(self) -> None:
        atomic_files.write_json(self.local / NOTE, {"url": self.url, "names": self._names})


def _noted_names(note: Path) -> tuple[str | None, ...]:
    try:
        return tuple(json_reader.read(note)["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _states(local: Path) -> dict[str, State]:
    """Find size and time of all files except hidden ones and checkpoints."""
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
