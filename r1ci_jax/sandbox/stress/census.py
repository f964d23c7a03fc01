"""What this process and its descendants hold: memory, descriptors, mounts, files."""

import dataclasses
import os
import pathlib
import threading
import time

from r1ci_jax.sandbox.host import cgroup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory at one moment, in bytes."""

    available: int
    """Of the whole machine."""
    host: int
    """Resident, of this process."""
    pss: int | None
    """Of all descendants, shared pages divided among their users; None where unreadable."""
    written: int | None
    """The part of `pss` that is not file pages: a strange process that maps or unmaps the same
    libraries changes our share of those, but not of this."""

    @classmethod
    def now(cls) -> "Memory":
        """Look."""
        texts = _smaps_of_descendants()
        return cls(
            available=_kib(pathlib.Path("/proc/meminfo").read_text(), "MemAvailable:"),
            host=_kib(pathlib.Path("/proc/self/status").read_text(), "VmRSS:"),
            pss=None if texts is None else sum(_kib(text, "Pss:") for text in texts),
            written=None
            if texts is None
            else sum(_kib(text, "Pss_Anon:") + _kib(text, "Pss_Shmem:") for text in texts),
        )


def descendants() -> list[int]:
    """Process ids of everything this process started, dead ones not yet waited for included."""
    return list(_parents())


def _parents() -> dict[int, int]:
    """Every descendant with its parent, parents first."""
    children: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold spaces and parentheses itself.
            parent = int(path.read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):  # it has just ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found: dict[int, int] = {}
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        below = children.get(parent, [])
        found.update(dict.fromkeys(below, parent))
        waiting += below
    return found


def _smaps_of_descendants() -> list[str] | None:
    """What /proc says of each one's memory, every memory once; None when it may not be read."""
    read: dict[int, str] = {}
    parents = _parents()
    for pid, parent in parents.items():
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # gone, or another user's
            continue
        # The same to the byte: it shares its parent's memory (process 1 of a script's namespaces)
        # and would be counted twice.
        if text and text != read.get(parent):
            read[pid] = text
    return list(read.values()) if read or not parents else None


def _kib(text: str, key: str) -> int:
    """A line `key   N kB` of a file of /proc, in bytes."""
    for line in text.splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise ValueError(f"/proc has no {key} here")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Census:
    """What there is at one moment, with no script running. Memory in bytes."""

    fds: int
    """Open in this process."""
    fds_below: int
    """Open in its descendants, where readable."""
    threads: int
    processes: int
    """Descendants of this process."""
    mounts: int
    """In this process's mount namespace."""
    mounts_below: int
    """In its descendants', each counted for itself, where readable."""
    cgroups: int
    """Directories of this process's workers."""
    temp_files: int
    memory: Memory

    @classmethod
    def take(cls, temporary: pathlib.Path) -> "Census":
        """Count; `temporary` is the directory that the sandbox takes for its temporary files."""
        below = descendants()
        return cls(
            fds=len(os.listdir("/proc/self/fd")),
            fds_below=sum(_entries(f"/proc/{pid}/fd") for pid in below),
            threads=threading.active_count(),
            processes=len(below),
            mounts=_lines("/proc/self/mountinfo"),
            mounts_below=sum(_lines(f"/proc/{pid}/mountinfo") for pid in below),
            cgroups=_cgroups(),
            temp_files=sum(1 for _ in temporary.rglob("*")),
            memory=Memory.now(),
        )

    def growth(self, since: "Census") -> dict[str, int]:
        """Everything countable of which there is more than before."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "memory"]
        changes = {name: getattr(self, name) - getattr(since, name) for name in names}
        return {name: change for name, change in changes.items() if change > 0}

    def wait_until_stable(self, temporary: pathlib.Path, seconds: float) -> "Census":
        """As soon as nothing has grown since `self`, or after so long: ends may take a moment."""
        deadline = time.monotonic() + seconds
        while (now := Census.take(temporary)).growth(self) and time.monotonic() < deadline:
            time.sleep(0.1)
        return now


def _entries(directory: str) -> int:
    try:
        return len(os.listdir(directory))
    except OSError:  # just gone, or another user's
        return 0


def _lines(file: str) -> int:
    try:
        return pathlib.Path(file).read_bytes().count(b"\n")
    except OSError:  # the same
        return 0


def _cgroups() -> int:
    own = f"/{cgroup.PREFIX}{os.getpid()}-"  # other processes may have sandboxes, too
    return sum(1 for path, _, _ in os.walk("/sys/fs/cgroup") if own in path)
