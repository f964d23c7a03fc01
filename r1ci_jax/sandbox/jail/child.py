"""The fork server's handle of one child: a script or a session's process, with its namespaces."""

import _signal  # pyright: ignore[reportMissingImports]  # see script.py
import contextlib
import ctypes
import dataclasses
import mmap
import os
import time
from typing import Any

from r1ci_jax.sandbox.jail import namespaces

STRAY_ROUNDS = 100
QUIET_ROUNDS = 3
"""A chain of forks may pass by one list of processes: each lives for an instant only."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Units of a second in /proc/PID/stat."""
_MADV_DONTFORK = 10


class Flag:
    """A byte that one child and the fork server share; no other child's memory contains it.

    It has no descriptor, so a script that writes to every descriptor cannot change it by chance. A
    script can set it on purpose without a gain: it turns one failure into another.
    """

    def __init__(self) -> None:
        libc = namespaces.libc
        shared = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        readable = mmap.PROT_READ | mmap.PROT_WRITE
        # An mmap object would also exist in later children, without the memory it refers to.
        self._address: int = libc.mmap(None, mmap.PAGESIZE, readable, shared, -1, 0)
        if self._address == ctypes.c_void_p(-1).value:
            raise namespaces.refused("mmap")

    @property
    def byte(self) -> ctypes.Array[ctypes.c_ubyte]:
        """The byte, as an array of one."""
        return (ctypes.c_ubyte * 1).from_address(self._address)

    def hide(self) -> None:
        """Leave it out of the memory of children that are forked from here on."""
        if namespaces.libc.madvise(self._address, mmap.PAGESIZE, _MADV_DONTFORK):
            raise namespaces.refused("madvise")

    def close(self) -> None:
        """Unmap the page."""
        namespaces.libc.munmap(self._address, mmap.PAGESIZE)


@dataclasses.dataclass(kw_only=True)
class Child:
    """A running script or a session's process."""

    pid: int
    pidfd: int
    own_namespaces: namespaces.Namespaces
    exception: Flag
    """The byte is 1 when an exception reached the top of the script."""
    setup_error_fd: int = -1
    gate_fd: int = -1
    requests_fd: int = -1
    done_fd: int = -1
    nonce: bytes = b""
    """The first bytes of the answer to the cell."""
    stopped_cpu: float = 0.0
    """CPU seconds of a session when its last cell ended."""

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and its threads."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def all_cpu_seconds(self) -> float:
        """Return the CPU time of all processes that were ever in its namespaces."""
        others = [_ticks(pid) for pid in self.own_namespaces.others(self.pid)]
        inside = sum(own + waited for own, waited in others)
        waited = _ticks(self.pid)[1] + _ticks(self.own_namespaces.pid)[1]
        return self.cpu_seconds() + (inside + waited) / TICKS

    def setup_error(self) -> str:
        """Return the reason why it did not start; empty when it started."""
        try:
            said = os.read(self.setup_error_fd, 1000).decode(errors="replace")
        except BlockingIOError:
            said = "its set-up did not end"
        os.close(self.setup_error_fd)
        self.setup_error_fd = -1
        return said

    def open_gate(self, size: int) -> None:
        """Let it continue with a script of `size` bytes."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; the watching code notices
            os.write(self.gate_fd, size.to_bytes(8, "little"))

    def ended(self) -> bool:
        """Return whether it has ended and waits to be reaped."""
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def discard(self) -> None:
        """End it and all processes in its namespaces."""
        self.signal(_signal.SIGKILL)
        self.reap()
        self.close()

    def signal(self, number: int) -> None:
        """Send a signal to this process unless it has just ended."""
        with contextlib.suppress(ProcessLookupError):
            _signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> tuple[int, Any]:
        """Wait until it ends; return wait status and resource usage. Its namespaces stay."""
        _, wait_status, usage = os.wait4(self.pid, 0)
        return wait_status, usage

    def close(self) -> float:
        """End the remaining processes in its namespaces, and release its descriptors.

        It must have been reaped before: the end of a pid namespace waits for that.

        Returns:
            CPU seconds of the processes that it did not wait for.
        """
        # Those that still run are ended without anybody who waits for them.
        strays = sum(sum(_ticks(pid)) for pid in self.own_namespaces.others(self.pid)) / TICKS
        orphans = self.own_namespaces.end()
        for fd in (self.pidfd, self.setup_error_fd, self.gate_fd, self.requests_fd, self.done_fd):
            if fd >= 0:
                os.close(fd)
        self.exception.close()
        return orphans + strays

    def end_strays(self) -> bool:
        """End processes that a cell or script left; return False when they multiply faster."""
        quiet = 0
        for _ in range(STRAY_ROUNDS):
            strays = [pid for pid in self.own_namespaces.others(self.pid) if not _ended(pid)]
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, _signal.SIGKILL)
            quiet = 0 if strays else quiet + 1
            if quiet == QUIET_ROUNDS:
                return True
        return False

    def peak_kib(self) -> int:
        """Return its largest resident memory so far; 0 when it has just ended."""
        with open(f"/proc/{self.pid}/status") as status:
            lines = (line.split() for line in status)
            return next((int(words[1]) for words in lines if words[0] == "VmHWM:"), 0)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none when the process has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _ticks(pid: int) -> tuple[int, int]:
    """Return CPU ticks of a process, and of its children that it waited for."""
    fields = _stat(pid)
    if not fields:
        return 0, 0
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return user + system, waited_user + waited_system


def _ended(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] == "Z"
