"""Count resources of this process and its descendants: memory, descriptors, mounts, files."""

import dataclasses
import os
import pathlib
import threading
import time
from collections.abc import Mapping
from typing import Final

from r1ci_jax.sandbox.host import cgroup

STILL_BYTES: Final = 1 << 20
"""Memory that differs by less between two measurements is as it was."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory at one moment, in bytes."""

    available: int
    """Available memory of the whole machine."""
    host: int
    """Resident memory of this process."""
    pss: int | None
    """Memory of all descendants, shared pages divided by their users; None if unreadable."""
    written: int | None
    """The part of `pss` without file pages: an unrelated process that maps or unmaps the same
    libraries changes this process's fraction of file pages, but not this part."""

    @classmethod
    def now(cls) -> "Memory":
        """Measure the memory now."""
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
    """List the process ids of all descendants, including dead ones that were not yet reaped."""
    return list(_parents())


def _parents() -> dict[int, int]:
    """Map every descendant to its parent, parents first."""
    children: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may contain spaces and parentheses itself.
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
    """Read /proc on each descendant's memory, every memory once; None when unreadable."""
    read: dict[int, str] = {}
    parents = _parents()
    for pid in parents:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has ended, or belongs to another user
            continue
        if text:
            read[pid] = text
    return each_memory_once(read, parents) if read or not parents else None


def each_memory_once(read: Mapping[int, str], parents: Mapping[int, int]) -> list[str]:
    """Leave out the texts of processes that share their parent's memory, which it counts already.

    Process 1 of a script's namespaces is one. All of its own pages are its parent's: the sizes of
    both texts are equal, except that any program of the machine may map or unmap a file of theirs
    between the two readings, which changes their shares of it.
    """
    own = {pid: [_kib(text, key) for key in ("Rss:", "Anonymous:", "Pss_Anon:", "Pss_Shmem:")]
           for pid, text in read.items()}  # fmt: skip
    return [text for pid, text in read.items() if own[pid] != own.get(parents[pid])]


def _kib(text: str, key: str) -> int:
    """Return the number of a line `key   N kB` of a file of /proc, in bytes."""
    for line in text.splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise ValueError(f"/proc has no {key} here")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Census:
    """The resources at one moment without a running script, memory in bytes."""

    fds: int
    """Number of open descriptors of this process."""
    fds_below: int
    """Number of open descriptors of its descendants, where readable."""
    threads: int
    processes: int
    """Number of descendants of this process."""
    mounts: int
    """Number of mounts in this process's mount namespace."""
    mounts_below: int
    """Number of mounts of its descendants, each counted separately, where readable."""
    cgroups: int
    """Number of control-group directories of this process's workers."""
    temp_files: int
    memory: Memory

    @classmethod
    def take(cls, temporary: pathlib.Path) -> "Census":
        """Count; `temporary` is the directory that the sandbox uses for temporary files."""
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
        """Return the counts that are larger than before, with their differences."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "memory"]
        changes = {name: getattr(self, name) - getattr(since, name) for name in names}
        return {name: change for name, change in changes.items() if change > 0}

    def as_before(self, before: "Census") -> bool:
        """Whether nothing has come or gone since, as while a worker starts or a script ends."""
        now, then = self.memory.written or 0, before.memory.written or 0
        counts = dataclasses.replace(self, memory=before.memory)
        return counts == before and abs(now - then) < STILL_BYTES

    @classmethod
    def take_when_still(
        cls, temporary: pathlib.Path, seconds: float, since: "Census | None" = None
    ) -> "Census":
        """Count until two counts in succession are equal and no larger than `since`.

        Starts and ends take a moment, longer on a busy machine; after so many seconds the last
        count is returned as it is.
        """
        deadline = time.monotonic() + seconds
        now = cls.take(temporary)
        while time.monotonic() < deadline:
            time.sleep(0.2)
            before, now = now, cls.take(temporary)
            if now.as_before(before) and not (since and now.growth(since)):
                break
        return now


def _entries(directory: str) -> int:
    try:
        return len(os.listdir(directory))
    except OSError:  # it has just ended, or belongs to another user
        return 0


def _lines(file: str) -> int:
    try:
        return pathlib.Path(file).read_bytes().count(b"\n")
    except OSError:  # for the same reasons
        return 0


def _cgroups() -> int:
    own = f"/{cgroup.PREFIX}{os.getpid()}-"  # other processes may have sandboxes
    return sum(1 for path, _, _ in os.walk("/sys/fs/cgroup") if own in path)
