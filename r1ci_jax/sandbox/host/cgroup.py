"""Control groups of a worker: one for the fork server and its scripts, one for each session.

A worker's processes together have the CPU weight of one process, so that a script with many
processes leaves the trainer its cores. Memory is limited for each group. A session is frozen
between two cells; the freezer belongs to version 2, which a machine with version 1 mounts beside
it. Root makes and keeps all groups, and moves processes into them; a jail sees none.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Final, Self

SCRIPTS: Final = "scripts"
"""Name of the group of the fork server and its scripts."""
PREFIX: Final = "r1ci_jax-"
UNLIMITED: Final = 1 << 50
REMOVAL_SECONDS: Final = 2.0
"""Longest wait for the Linux kernel to release a group whose last process has just ended."""


_counter = itertools.count(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """The control groups of one worker, in one directory of each hierarchy."""

    directory: pathlib.Path
    """The directory that limits memory."""
    cpu: pathlib.Path
    """The directory that gives the worker's CPU weight; that of memory in version 2."""
    freezer: pathlib.Path | None
    """The directory that freezes sessions; None where version 2 is not mounted."""
    version: int

    @classmethod
    def create(cls) -> Self:
        """Make the directories, and remove those of processes that were killed.

        Raises:
            OSError: This user or this machine cannot make groups; the text names the failed step.
        """
        if os.geteuid() != 0:
            raise PermissionError(1, "memory control groups need root")
        version, parent, cpu, freezer = _hierarchies()
        for above in {parent, cpu, freezer} - {None}:
            _sweep(above)
        name = f"{PREFIX}{os.getpid()}-{next(_counter)}"
        groups = cls(
            directory=parent / name,
            cpu=cpu / name,
            freezer=freezer / name if freezer else None,
            version=version,
        )
        try:
            for directory in groups._directories():
                directory.mkdir()
            if version == 2:
                (groups.directory / "cgroup.subtree_control").write_text("+memory")
            groups.add(SCRIPTS, 1 << 30)
        except OSError:
            groups.close()
            raise
        return groups

    def _directories(self) -> Iterator[pathlib.Path]:
        yield from dict.fromkeys(
            path for path in (self.directory, self.cpu, self.freezer) if path is not None
        )

    def add(self, group: str, memory_bytes: int) -> None:
        """Create a group with a memory limit."""
        (self.directory / group).mkdir()
        if self.freezer not in (None, self.directory):
            (self.freezer / group).mkdir()
        self.limit(group, memory_bytes)

    def join(self, group: str, pid: int) -> None:
        """Move a process into a group."""
        (self.directory / group / "cgroup.procs").write_text(str(pid))
        if self.freezer not in (None, self.directory):
            (self.freezer / group / "cgroup.procs").write_text(str(pid))

    def freeze(self, group: str, *, frozen: bool) -> None:
        """Stop all threads of a group's processes, or let them continue."""
        if self.freezer is not None:
            (self.freezer / group / "cgroup.freeze").write_text(str(int(frozen)))

    def limit(self, group: str, memory_bytes: int) -> None:
        """Limit the group's total memory: that of its processes and of its files in tmpfs."""
        path = self.directory / group
        if self.version == 2:
            (path / "memory.max").write_text(str(memory_bytes))
            with contextlib.suppress(FileNotFoundError):  # Linux without swap accounting
                (path / "memory.swap.max").write_text("0")
            return
        with_swap = path / "memory.memsw.limit_in_bytes"
        if with_swap.exists():  # never below the other limit: raise it first
            with_swap.write_text("-1")
        (path / "memory.limit_in_bytes").write_text(str(memory_bytes))
        if with_swap.exists():
            with_swap.write_text(str(memory_bytes))

    def kills(self, group: str) -> int:
        """Count the group's processes that the Linux kernel has killed for memory so far."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.directory / group / file).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        raise FileNotFoundError(2, f"{file} has no oom_kill count")

    def hold(self, pid: int) -> None:
        """Move a fork server, or a cold jail's nsjail, into the scripts' group without a limit."""
        self.limit(SCRIPTS, UNLIMITED)
        self.join(SCRIPTS, pid)
        if self.version == 1:
            (self.cpu / "cgroup.procs").write_text(str(pid))

    def used_bytes(self, group: str) -> int:
        """Return the memory that the group holds now."""
        file = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.directory / group / file).read_text())

    def remove(self, group: str) -> None:
        """Remove an empty group."""
        for directory in self._directories():
            if (directory / group).is_dir():
                _remove(directory / group)

    def close(self) -> None:
        """Remove all groups of the worker."""
        for directory in self._directories():
            if not directory.is_dir():
                continue
            for path in directory.iterdir():
                if path.is_dir():
                    _remove(path)
            _remove(directory)


def _sweep(parent: pathlib.Path) -> None:
    """Remove the groups of hosts that were killed and could not remove them."""
    for directory in parent.glob(f"{PREFIX}*"):
        owner = directory.name.removeprefix(PREFIX).split("-")[0]
        if pathlib.Path("/proc", owner).exists():
            continue
        with contextlib.suppress(OSError):  # it is not empty, or another host removed it first
            for path in directory.iterdir():
                if path.is_dir():
                    path.rmdir()
            directory.rmdir()


def _remove(path: pathlib.Path) -> None:
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _hierarchies() -> tuple[int, pathlib.Path, pathlib.Path, pathlib.Path | None]:
    """Return the version, and this process's own groups for memory, CPU weight and freezing."""
    own: dict[str, str] = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    base = pathlib.Path("/sys/fs/cgroup")
    if "memory" in own:
        cpu = _existing(base / "cpu", own.get("cpu", "/"))
        unified = base / "unified"
        freezer = _existing(unified, own.get("", "/")) if unified.is_dir() else None
        return 1, _existing(base / "memory", own["memory"]), cpu, freezer
    parent = _existing(base, own.get("", "/"))
    enabled = (parent / "cgroup.subtree_control").read_text().split()
    missing = [name for name in ("memory", "cpu") if name not in enabled]
    if missing:
        wanted = " ".join(f"+{name}" for name in missing)
        (parent / "cgroup.subtree_control").write_text(wanted)
    return 2, parent, parent, parent


def _existing(base: pathlib.Path, path: str) -> pathlib.Path:
    """Return the group, or the root where a container shows a path that does not exist here."""
    group = base / path.lstrip("/")
    return group if group.is_dir() else base
