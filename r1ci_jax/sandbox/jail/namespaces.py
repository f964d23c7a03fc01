"""Make fresh namespaces inside a worker's jail, and move a child into them for good.

clone(2) with CLONE_VM makes process 1 of the new namespaces. It shares the fork server's memory, so
its creation copies no page tables. It runs no Python; it only sleeps. The script is forked as
process 2, as under a cold jail's supervisor. When process 1 is killed, the Linux kernel ends every
process of the pid namespace.

A script can neither signal process 1 (the Linux kernel protects it) nor trace it: process 1 holds
capabilities in their user namespace, and the script holds none.
"""

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import struct
from collections.abc import Iterable

from r1ci_jax.sandbox.jail import script

CLONE_VM = 0x100
CLONE_FILES = 0x400
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_ENTERED = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
_STACK_BYTES = 16 << 10

_HUGE_BYTES = 2 << 20
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_RLIMIT_SIGPENDING = 11
_CAPABILITY_VERSION = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

# The complete program of process 1. It avoids libc, whose variables it would share with the fork
# server. It waits for every orphan, so that its own resource usage contains theirs. SIGCHLD is
# blocked: a signal that arrives before the wait for it stays pending.
_REAP = bytes.fromhex(
    "4889fb"  # mov rbx, rdi      the argument, a signal set with SIGCHLD
    "4889fe"  # mov rsi, rdi
    "31ff"  # xor edi, edi      SIG_BLOCK
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "b80e000000"  # mov eax, 14       rt_sigprocmask
    "0f05"  # syscall
    # wait:
    "4889df"  # mov rdi, rbx
    "31f6"  # xor esi, esi
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "b880000000"  # mov eax, 128      rt_sigtimedwait
    "0f05"  # syscall
    # reap:
    "48c7c7ffffffff"  # mov rdi, -1
    "31f6"  # xor esi, esi
    "ba01000040"  # mov edx, WNOHANG | __WALL
    "4531d2"  # xor r10d, r10d
    "b83d000000"  # mov eax, 61       wait4
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7fe4"  # jg reap
    "ebce"  # jmp wait
)
_SIGNALS = struct.pack("Q", 1 << (signal.SIGCHLD - 1))


def refused(call: str) -> OSError:
    """Return the error of a call of libc that failed."""
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def _code_page() -> int:
    """Return the address of the code in a page that is executable and no longer writable."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(_REAP.ljust(1024, b"\xcc") + _SIGNALS)
    anchor = ctypes.c_char.from_buffer(page)  # keeps the page forever
    _kept.append(anchor)
    if libc.mprotect(ctypes.addressof(anchor), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise refused("mprotect")
    return ctypes.addressof(anchor)


_kept: list[object] = []
_CODE = _code_page()


class Namespaces:
    """Fresh user, mount, pid, net, ipc and uts namespaces, held by a sleeping process 1."""

    def __init__(self) -> None:
        # The mapping is private: a script's copy of it must not be the stack of process 1 itself.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._stack = mmap.mmap(-1, _STACK_BYTES, flags=private)
        anchor = ctypes.c_char.from_buffer(self._stack)
        top = ctypes.addressof(anchor) + _STACK_BYTES - 64
        del anchor  # otherwise the stack could not be unmapped
        # It shares the descriptors, too, so it keeps no pipe open by a copy of its own.
        flags = CLONE_VM | CLONE_FILES | CLONE_NEWPID | _ENTERED | signal.SIGCHLD
        self.pid: int = libc.clone(_CODE, top, flags, _CODE + 1024)
        if self.pid < 0:
            raise refused("clone")
        self.pidfd = os.pidfd_open(self.pid)
        for file, content in (
            ("setgroups", "deny"),
            ("gid_map", f"{os.getegid()} {os.getegid()} 1"),
            ("uid_map", f"{os.geteuid()} {os.geteuid()} 1"),
        ):
            with open(f"/proc/{self.pid}/{file}", "w") as opened:
                opened.write(content)

    def end(self) -> float:
        """Kill all processes in the namespaces and wait until they have ended.

        Returns:
            CPU seconds of all processes that process 1 waited for: the orphans, with those that
            end now, and their children.
        """
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        _, _, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        self._stack.close()
        return usage.ru_utime + usage.ru_stime

    def others(self, known: int) -> list[int]:
        """List the visible processes in them, except process 1 and `known`."""
        found: list[int] = []
        unseen = [self.pid, known]
        while unseen:
            children = [pid for pid in _children(unseen.pop()) if pid != known]
            found += children
            unseen += children
        return found


def use_huge_pages() -> None:
    """Collapse this process's private memory: fork(2) then copies far fewer page-table entries.

    Linux kernels before 6.1 refuse this, and forks then take some milliseconds longer.
    """
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    for span, permissions, *_, name in (line if len(line) > 5 else [*line, ""] for line in lines):
        if permissions == "rw-p" and name in ("", "[heap]"):
            first, last = (int(end, 16) for end in span.split("-"))
            first = -(-first // _HUGE_BYTES) * _HUGE_BYTES
            last = last // _HUGE_BYTES * _HUGE_BYTES
            for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE) if first < last else ():
                libc.madvise(first, last - first, advice)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as listed:
                children += map(int, listed.read().split())
    return children


def fork_into(namespaces: Namespaces, own_pid_namespace: int) -> int:
    """Fork a child into the pid namespace; it enters the other namespaces by `enter`."""
    os.setns(namespaces.pidfd, CLONE_NEWPID)
    child = os.fork()
    if child:
        os.setns(own_pid_namespace, CLONE_NEWPID)
    return child


def enter(pidfd: int, limits: dict[str, int], program: ctypes.Array[ctypes.c_char]) -> None:
    """Move this child into the namespaces of `pidfd` and drop all rights that lead out again.

    Args:
        pidfd: The pidfd of process 1 of the namespaces.
        limits: The resource limits; see `jail_policy.child_limits`.
        program: The system-call filter as classic BPF.
    """
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    os.setsid()
    os.setns(pidfd, _ENTERED)
    held = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    options = f"size={limits['scratch']},nr_inodes={limits['inodes']},mode=1777"
    _mount_tmpfs(script.SCRATCH, held, options)
    # The working directory is empty, as a script expects.
    _mount_tmpfs(script.DIRECTORY, held, f"size={limits['scratch']},nr_inodes=2,mode=1777")
    _mount_tmpfs("/proc", held | _MS_RDONLY, "size=4k,nr_inodes=2,mode=555")
    os.chdir(script.SCRATCH)
    _confine(limits, program)


def follow(pidfd: int, limits: dict[str, int], program: ctypes.Array[ctypes.c_char]) -> None:
    """Move a second child into the namespaces of an earlier child, with as few rights."""
    os.setns(pidfd, _ENTERED)
    _confine(limits, program)


def _confine(limits: dict[str, int], program: ctypes.Array[ctypes.c_char]) -> None:
    _limit_resources(limits)
    _drop_capabilities()
    _filter_calls(program)


def _mount_tmpfs(where: str, flags: int, options: str) -> None:
    if libc.mount(b"tmpfs", where.encode(), b"tmpfs", flags, options.encode()):
        raise refused(f"mount {where}")


def _limit_resources(limits: dict[str, int]) -> None:
    both: Iterable[tuple[int, int]] = (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["cpu"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_STACK, limits["stack"]),
        # Queued signals count for the user who made the namespaces, too.
        (_RLIMIT_SIGPENDING, limits["signals"]),
        (resource.RLIMIT_CORE, 0),
    )
    for which, most in both:
        resource.setrlimit(which, (most, most))


def _drop_capabilities() -> None:
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    if libc.capset(header, bytes(24)):
        raise refused("capset")


def _filter_calls(program: ctypes.Array[ctypes.c_char]) -> None:
    """Install the seccomp program; it applies to this process and all its children."""
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise refused("no_new_privs")
    instructions = len(program) // 8
    pointer = struct.pack("HxxxxxxP", instructions, ctypes.addressof(program))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0):
        raise refused("seccomp")
