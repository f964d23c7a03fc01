"""Memory control groups of a worker: one for the scripts, one for each session.

The fork server and its children are members of the scripts' group, because moving a process costs
the Linux kernel milliseconds. A session's process enters a group of its own, so the jail's user
owns the file for that; root keeps the limits. Versions 1 and 2 are supported; both require root.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import time
from typing import Final, Self

NOBODY: Final = 65534
SCRIPTS: Final = "scripts"
"""Name of the group of the fork server and its scripts."""
PREFIX: Final = "r1ci_jax-"
UNLIMITED: Final = 1 << 50
REMOVAL_SECONDS: Final = 2.0
"""Longest wait for the Linux kernel to release a group whose last process has just ended."""


_counter = itertools.count(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """The control groups of one worker, in one directory."""

    directory: pathlib.Path
    version: int

    @classmethod
    def create(cls) -> Self:
        """Make the directory, and remove the directories of processes that were killed.

        Raises:
            OSError: This user or this machine cannot make groups; the text names the failed step.
        """
        if os.geteuid() != 0:
            raise PermissionError(1, "memory control groups need root")
        version, parent = _hierarchy()
        _sweep(parent)
        directory = parent / f"{PREFIX}{os.getpid()}-{next(_counter)}"
        directory.mkdir()
        groups = cls(directory=directory, version=version)
        try:
            if version == 2:
                (directory / "cgroup.subtree_control").write_text("+memory")
                os.chown(directory / "cgroup.procs", NOBODY, NOBODY)
            groups.add(SCRIPTS, 1 << 30)
        except OSError:
            groups.close()
            raise
        return groups

    def add(self, group: str, memory_bytes: int) -> None:
        """Create a group with a memory limit."""
        path = self.directory / group
        path.mkdir()
        os.chown(path / "cgroup.procs", NOBODY, NOBODY)
        self.limit(group, memory_bytes)

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
        """Move the fork server's process into the scripts' group, which has no limit yet."""
        self.limit(SCRIPTS, UNLIMITED)
        (self.directory / SCRIPTS / "cgroup.procs").write_text(str(pid))

    def used_bytes(self, group: str) -> int:
        """Return the memory that the group holds now."""
        file = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.directory / group / file).read_text())

    def remove(self, group: str) -> None:
        """Remove an empty group."""
        _remove(self.directory / group)

    def close(self) -> None:
        """Remove all groups of the worker."""
        for path in self.directory.iterdir():
            if path.is_dir():
                _remove(path)
        _remove(self.directory)


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


def _hierarchy() -> tuple[int, pathlib.Path]:
    """Return the version and the directory of this process's own memory group."""
    own = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    for controllers, path in own.items():
        if "memory" in controllers.split(","):
            base = pathlib.Path("/sys/fs/cgroup/memory")
            return 1, _existing(base, path)
    parent = _existing(pathlib.Path("/sys/fs/cgroup"), own.get("", "/"))
    if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
        (parent / "cgroup.subtree_control").write_text("+memory")
    return 2, parent


def _existing(base: pathlib.Path, path: str) -> pathlib.Path:
    """Return the group, or the root where a container shows a path that does not exist here."""
    group = base / path.lstrip("/")
    return group if group.is_dir() else base
