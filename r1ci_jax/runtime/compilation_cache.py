"""JAX's persistent compilation cache, used safely.

JAX writes an entry in place and reads it without a check, and an entry for a CPU is machine code.
Here an entry is written to a temporary file and renamed, starts with a checksum, and is read only
if that is right; a damaged one is removed, and the program is compiled again. A directory belongs
to one kind of processor and one build of jaxlib, and no other user may write to it: whoever can,
chooses the code that runs.
"""

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
import time
from pathlib import Path
from typing import override

import jax
import jaxlib
import jaxlib.version
from jax._src import compilation_cache  # neither the interface nor the way to set one is public
from jax._src.compilation_cache_interface import CacheInterface

from r1ci_jax.runtime import hosts

VARIABLE = "R1CI_COMPILATION_CACHE"
"""Environment variable: the directory of all caches, or "off"."""
MAX_BYTES = 4 << 30
"""The entries that were used last are kept, so many bytes of them in each directory."""
MIN_COMPILE_SECONDS = 0.1
"""Programs that compile faster are not kept."""

_SUFFIX = ".program"
_MAGIC = b"r1ci compiled 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


def enable() -> Path | None:
    """Keep compiled programs from now on; return the directory, or None if they are not kept.

    They are not kept with `R1CI_COMPILATION_CACHE=off`, where JAX has a cache of its own already
    (`JAX_COMPILATION_CACHE_DIR`), on several hosts, or where no private directory can be made.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "off" or jax.config.jax_compilation_cache_dir or hosts.count() > 1:
        return None
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "r1ci_jax"
    directory = (Path(chosen) if chosen else default / "compiled") / machine_key()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(directory):
            return None
        _remove_oldest(directory)
    except OSError:
        return None  # without a home, or on a full disk: programs are compiled as ever
    compilation_cache.get_file_cache = lambda path: (ProgramStore(Path(path)), path)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return directory


class ProgramStore(CacheInterface):
    """Compiled programs in files, each complete or not there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory

    @override
    def get(self, key: str) -> bytes | None:
        """Return a program; None if there is none, or a damaged one."""
        path = self._path / f"{key}{_SUFFIX}"
        try:
            data = path.read_bytes()
            value = _unsealed(data)
            if value is None:
                path.unlink()
            else:
                os.utime(path)
        except OSError:
            return None
        return value

    @override
    def put(self, key: str, value: bytes) -> None:
        """Write a program; a failure is none of the caller's."""
        with contextlib.suppress(OSError):
            handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._path)
            try:
                with open(handle, "wb") as file:
                    file.write(_sealed(value))
                os.replace(part, self._path / f"{key}{_SUFFIX}")
            except BaseException:
                os.unlink(part)
                raise


def machine_key() -> str:
    """Name what compiled programs depend on besides the program and JAX's own key.

    The processor's model and features, the versions, the very file of jaxlib, and the flags.
    """
    facts = [platform.machine(), *_processor(), jax.__version__, jaxlib.version.__version__]
    for library in sorted(Path(jaxlib.__file__).parent.glob("*.so")):
        status = library.stat()
        facts.append(f"{library.name} {status.st_size} {status.st_mtime_ns}")
    facts += [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _processor() -> list[str]:
    """Return model and features of all kinds of processors of this machine."""
    wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return sorted({line for line in lines if line.split("\t")[0].split(":")[0].strip() in wanted})


def _is_private(directory: Path) -> bool:
    status = directory.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.getuid() and not status.st_mode & others


def _remove_oldest(directory: Path) -> None:
    """Remove what is beyond MAX_BYTES, and what a killed process left half written."""
    used, now = 0, time.time()
    files = [(path.stat(), path) for path in directory.iterdir()]
    for status, path in sorted(files, key=lambda each: -each[0].st_mtime):
        used += status.st_size
        is_left_over = path.suffix == ".part" and now - status.st_mtime > 3600
        if used > MAX_BYTES or is_left_over:
            path.unlink(missing_ok=True)


def _sealed(value: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(value).digest() + value


def _unsealed(data: bytes) -> bytes | None:
    start = len(_MAGIC) + _DIGEST_BYTES
    value = data[start:]
    return value if _sealed(value)[:start] == data[:start] else None
