"""The fork server of a worker: process 1 of an nsjail and parent of every script's process.

It has loaded the policy's modules (numpy, sympy), so a script that imports them starts within
milliseconds. Each script, and each session's process, is a forked child in fresh namespaces
(`namespaces.py`) that drops its capabilities and installs the system-call filter before it reads
foreign code. The fork server reads nothing that a script wrote: it counts time, waits, and reports
to the host over a socket that no child holds. A session's process is stopped between two cells.
"""

import _signal  # pyright: ignore[reportMissingImports]  # see script.py
import contextlib
import ctypes
import dataclasses
import fcntl
import gc
import importlib
import json
import mmap
import os
import select
import socket
import sys
import time
from typing import Any, NoReturn

from r1ci_jax.sandbox.jail import collect, namespaces, script, session_process

INTERRUPT_SECONDS = 0.5
"""Time between the interrupt of a cell and the end of its process."""
STRAY_ROUNDS = 100
BARE_BYTES = 16 << 20
"""Address space of an interpreter that has loaded nothing."""
COLLECT_SECONDS = 10.0
LONGEST_WAIT = 0.5
SHORTEST_WAIT = 0.005
"""Bounds of the time between two readings of the CPU clock."""
MESSAGE_BYTES = 1 << 16


@dataclasses.dataclass(kw_only=True)
class Child:
    """A running script or a session's process."""

    pid: int
    pidfd: int
    own_namespaces: namespaces.Namespaces
    setup_error_fd: int = -1
    gate_fd: int = -1
    requests_fd: int = -1
    done_fd: int = -1
    nonce: bytes = b""
    """The first bytes of the answer to the cell."""

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and its threads."""
        return time.clock_gettime((~self.pid << 3) | 2)

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

    def close(self) -> None:
        """End the remaining processes in its namespaces, and release its descriptors.

        It must have been reaped before: the end of a pid namespace waits for that.
        """
        self.own_namespaces.end()
        for fd in (self.pidfd, self.setup_error_fd, self.gate_fd, self.requests_fd, self.done_fd):
            if fd >= 0:
                os.close(fd)


class EnterScript(BaseException):
    """Exception that unwinds a new child's stack: a script has as much of it as in a cold jail."""

    def __init__(self, session_fds: tuple[int, ...], code: bytes):
        self.session_fds = session_fds
        self.code = code


@dataclasses.dataclass(kw_only=True)
class Watched:
    """The end of an execution, as seen from outside."""

    limit: str = ""
    done: int = -1
    """The last byte of a cell's answer; -1 when the process ended instead."""
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def verdict(self) -> str:
        """Return the limit that counts against the code; an interrupt is an ordinary exception."""
        return "" if self.limit == "interrupt" else self.limit


class Server:
    """A server that answers the host's requests, one after the other."""

    def __init__(self, boot: dict[str, Any]) -> None:
        self.control = socket.socket(fileno=boot["control_fd"])
        self.files_fd: int = boot["files_fd"]
        self.code_fd: int = boot["code_fd"]
        self.output_fds: tuple[int, int] = (boot["stdout_fd"], boot["stderr_fd"])
        program: bytes = boot["filter"]
        self.filter = ctypes.create_string_buffer(program, len(program))
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.cores = len(os.sched_getaffinity(0))
        self.page = mmap.mmap(-1, 1)
        self.loaded_bytes = 0
        self.sessions: dict[int, Child] = {}
        self.ready: Child | None = None
        """Made ahead: set up under `ready_limits`, waiting for its script."""
        self.ready_limits: dict[str, int] = {}

    def serve(self) -> None:
        """Answer requests until the host has ended."""
        # A script may map as much as in a cold jail, where it loads the modules itself.
        self.loaded_bytes = max(0, mapped_bytes() - BARE_BYTES)
        self.send({"ready": True, "modules": len(sys.modules)})
        while True:
            data, fds, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 3)
            if not data:
                os._exit(0)  # this is process 1: all of this jail ends with it
            request = json.loads(data)
            match request["op"]:
                case "run":
                    self.send(self.run(request))
                case "open":
                    self.send(self.open(request, *fds))
                case "cell":
                    self.send(self.cell(request))
                case "close":
                    self.sessions.pop(request["session"]).discard()
                    self.send({})
                case "kill" | "interrupt":
                    pass  # it came after the end of the execution it was for

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the host."""
        self.control.send(json.dumps(message).encode())

    def fresh_output(self) -> tuple[int, ...]:
        """Open streams anew for a child, so that flags set by the last child do not affect it."""
        return tuple(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY) for fd in self.output_fds)

    def take(self, limits: dict[str, int]) -> Child:
        """Return a child that waits for a script under these limits."""
        child, self.ready = self.ready, None
        if child is not None and (self.ready_limits != limits or child.ended()):
            child.discard()
            child = None
        return child or self.fork(limits, "", self.fresh_output())

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one script from its first instruction to the end of its last process."""
        child = self.take(request["limits"])
        self.page[0] = 0
        output = self.fresh_output()  # before the script could change their mode
        begin, cpu_before = time.monotonic(), child.cpu_seconds()
        child.open_gate(request["size"])
        # Fork the next script's child while this script runs.
        self.ready, self.ready_limits = self.fork(request["limits"], "", output), request["limits"]
        seen = self.watch(child, request, begin, cpu_before)
        if seen.limit:
            child.signal(_signal.SIGKILL)
        wait_status, usage = child.reap()
        wall = time.monotonic() - begin
        if problem := child.setup_error():
            child.close()
            return {"setup": problem}
        if request["collect"] and end_strays(child):
            self.collect(child.own_namespaces, request)
        child.close()
        return {
            "limit": seen.limit,
            "wait_status": wait_status,
            "cpu": max(0.0, usage.ru_utime + usage.ru_stime - cpu_before),
            "rss_kib": usage.ru_maxrss,
            "wall": wall,
            "exception": self.page[0],
        }

    def open(
        self, request: dict[str, Any], code_fd: int, stdout_fd: int, stderr_fd: int
    ) -> dict[str, Any]:
        """Start a session's process."""
        theirs, requests = os.pipe()
        done, says = os.pipe()
        fds = (theirs, says, code_fd)
        child = self.fork(request["limits"], request["group"], (stdout_fd, stderr_fd), fds)
        for fd in fds:
            os.close(fd)
        child.open_gate(0)
        os.set_blocking(child.setup_error_fd, True)
        if problem := child.setup_error():
            child.discard()
            os.close(requests)
            os.close(done)
            return {"setup": problem}
        child.requests_fd, child.done_fd = requests, done
        self.sessions[request["session"]] = child
        return {}

    def cell(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one cell of a session; remove the session if it ended."""
        child = self.sessions[request["session"]]
        begin, cpu_before = time.monotonic(), child.cpu_seconds()
        child.signal(_signal.SIGCONT)
        child.nonce = os.urandom(8)  # earlier cells' output is no answer
        with contextlib.suppress(BrokenPipeError):  # a cell closed it; watch anyway
            os.write(child.requests_fd, request["size"].to_bytes(8, "little") + child.nonce)
        seen = self.watch(child, request, begin, cpu_before)
        if seen.limit in ("cpu", "wall", "interrupt"):
            child.signal(_signal.SIGINT)
            grace = {**request, "cpu": 1e9, "wall": seen.wall + INTERRUPT_SECONDS}
            seen.done = self.watch(child, grace, begin, cpu_before).done
        if seen.done < 0:
            return self.kill_session(request["session"], seen)
        seen.cpu = child.cpu_seconds() - cpu_before
        child.signal(_signal.SIGSTOP)
        if not end_strays(child):
            return self.kill_session(request["session"], seen)
        return {
            "limit": seen.verdict,
            "wait_status": 0,
            "cpu": seen.cpu,
            "rss_kib": peak_kib(child.pid),
            "wall": seen.wall,
            "exception": seen.done,
            "cell": True,
        }

    def kill_session(self, session: int, seen: Watched) -> dict[str, Any]:
        """End a session that cannot continue; its state is lost."""
        child = self.sessions.pop(session)
        child.signal(_signal.SIGKILL)
        wait_status, usage = child.reap()
        child.close()
        return {
            "limit": seen.verdict,
            "wait_status": wait_status,
            "cpu": seen.cpu,
            "rss_kib": usage.ru_maxrss,
            "wall": seen.wall,
            "exception": 0,
            "cell": True,
            "lost": True,
        }

    def fork(
        self,
        limits: dict[str, int],
        group: str,
        output: tuple[int, ...],
        session_fds: tuple[int, ...] = (),
    ) -> Child:
        """Fork a child into fresh namespaces, where it waits at its gate; close `output`.

        It reports an error over a pipe that it closes before any foreign code runs.
        """
        own_namespaces = namespaces.Namespaces()
        errors, says = os.pipe()
        gate, opens = os.pipe()
        pid = namespaces.fork_into(own_namespaces, self.own_pid_namespace)
        if pid == 0:
            self.become(own_namespaces, limits, group, (*output, *session_fds), (says, gate))
        for fd in (says, gate, *output):
            os.close(fd)
        os.set_blocking(errors, False)
        child = Child(pid=pid, pidfd=os.pidfd_open(pid), own_namespaces=own_namespaces)
        child.setup_error_fd, child.gate_fd = errors, opens
        return child

    def become(
        self,
        own_namespaces: namespaces.Namespaces,
        limits: dict[str, int],
        group: str,
        fds: tuple[int, ...],
        own_fds: tuple[int, int],
    ) -> NoReturn:
        """Do a child's last trusted steps; `own_fds` are the pipe for errors and the gate."""
        setup_error_fd, gate_fd = own_fds
        try:
            kept = (os.open("/dev/null", os.O_RDONLY), *fds)
            place_descriptors((*kept, *own_fds, own_namespaces.pidfd, self.code_fd))
            setup_error_fd, gate_fd, pidfd, code_fd = range(len(kept), len(kept) + 4)
            memory = limits["memory"] + self.loaded_bytes
            namespaces.enter(pidfd, {**limits, "memory": memory}, self.filter, group)
        except BaseException as error:
            os.write(setup_error_fd, f"{type(error).__name__}: {error}".encode())
            os.read(gate_fd, 8)
            os._exit(1)
        size = os.read(gate_fd, 8)
        if len(size) != 8:
            os._exit(0)
        # Only the child reads the code: later children could find it in the fork server's memory.
        code = os.pread(code_fd, int.from_bytes(size, "little"), 0)
        if "numpy.random" in sys.modules and (len(fds) > 2 or b"random" in code):
            seed = int.from_bytes(os.urandom(4))  # `random` reseeds itself
            sys.modules["numpy.random"].seed(seed)
        for fd in (setup_error_fd, gate_fd, pidfd, code_fd):
            os.close(fd)
        raise EnterScript(tuple(range(3, len(kept))), code)

    def collect(self, own_namespaces: namespaces.Namespaces, request: dict[str, Any]) -> None:
        """Let a child, as confined as the script was, send the requested files.

        No process that could change a file meanwhile is left in the script's namespaces.
        """
        pid = namespaces.fork_into(own_namespaces, self.own_pid_namespace)
        if pid == 0:
            try:
                place_descriptors((self.files_fd, own_namespaces.pidfd))
                namespaces.follow(1, request["limits"], self.filter)
                names, most = tuple(request["collect"]), request["limits"]["file"]
                collect.send(script.SCRATCH, names, most, 0)
            finally:
                os._exit(0)
        pidfd = os.pidfd_open(pid)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        if not ended.poll(COLLECT_SECONDS * 1000):
            _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)

    def watch(
        self, child: Child, request: dict[str, Any], begin: float, cpu_before: float
    ) -> Watched:
        """Wait until the child ends, its cell ends, a limit is reached, or the host objects."""
        events = select.poll()
        for fd in (child.pidfd, self.control.fileno(), child.done_fd):
            if fd >= 0:
                events.register(fd, select.POLLIN)
        seen = Watched()
        said = b""
        while True:
            seen.wall = time.monotonic() - begin
            try:
                seen.cpu = child.cpu_seconds() - cpu_before
            except OSError:  # it has just ended
                return seen
            cpu_left, wall_left = request["cpu"] - seen.cpu, request["wall"] - seen.wall
            if cpu_left <= 0 or wall_left <= 0:
                seen.limit = "cpu" if cpu_left <= 0 else "wall"
                return seen
            pause = min(LONGEST_WAIT, wall_left, max(cpu_left / self.cores, SHORTEST_WAIT))
            for fd, _ in events.poll(max(1, pause * 1000)):
                if fd == child.done_fd:
                    heard = os.read(fd, 4096)
                    before, nonce, after = (said + heard).partition(child.nonce)
                    said = before[-len(child.nonce) :] + nonce + after[:1]
                    if nonce and after:
                        seen.done = after[0] & 1
                    elif not heard:
                        events.unregister(fd)
                if fd == self.control.fileno():
                    seen.limit = self.host_interrupt()
                if fd == child.pidfd or seen.limit or seen.done >= 0:
                    seen.wall = time.monotonic() - begin
                    return seen

    def host_interrupt(self) -> str:
        """Return the host's message during an execution: `kill` or `interrupt`."""
        data = self.control.recv(MESSAGE_BYTES)
        if not data:
            os._exit(0)
        said = json.loads(data)["op"]
        assert said in ("kill", "interrupt"), said
        return said


def place_descriptors(wanted: tuple[int, ...]) -> None:
    """Make `wanted` the descriptors 0, 1, 2, ... and close every other."""
    above = max(*wanted, len(wanted)) + 1
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in wanted]
    for target, fd in enumerate(lifted):
        os.dup2(fd, target)
    os.closerange(len(wanted), 1 << 30)


def peak_kib(pid: int) -> int:
    """Return a process's largest resident memory so far; 0 when it has just ended."""
    with open(f"/proc/{pid}/status") as status:
        lines = (line.split() for line in status)
        return next((int(words[1]) for words in lines if words[0] == "VmHWM:"), 0)


def mapped_bytes() -> int:
    """Return the size of this process's address space."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * mmap.PAGESIZE


def end_strays(child: Child) -> bool:
    """End processes that a cell or script left; return False when they multiply faster."""
    for _ in range(STRAY_ROUNDS):
        strays = child.own_namespaces.others(child.pid)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _signal.SIGKILL)
        if all(_ended(pid) for pid in strays):
            return True
    return False


def _ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def preload(modules: list[str], warm_up: str) -> None:
    """Import modules that scripts often need, and run code that loads their lazy parts."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = f"{sys.prefix}/lib/python{version}/site-packages"
    sys.path.append(packages)
    for module in modules:
        importlib.import_module(module)
    exec(compile(warm_up, "<warm-up>", "exec", dont_inherit=True), {"__name__": "warm_up"})
    sys.path.remove(packages)


def make_immortal() -> None:
    """Make every existing object immortal, as None is.

    Python then does not change their reference counts. So a child that uses a module does not write
    to the module's pages, and the Linux kernel does not copy them.
    """
    for_ever = ctypes.c_uint32.from_address(id(None)).value
    seen = set[int]()
    found = gc.get_objects()
    while found:
        fresh = []
        for thing in found:
            if id(thing) not in seen:
                seen.add(id(thing))
                fresh.append(thing)
        found = gc.get_referents(*fresh)
        del fresh
    for address in seen:
        ctypes.c_uint32.from_address(address).value = for_ever


def main(boot: dict[str, Any]) -> None:
    """Prepare the fork server, then answer requests. This function never returns."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.chdir(script.SCRATCH)
    preload(boot["preload"], boot["warm_up"])
    server = Server(boot)
    gc.collect()
    make_immortal()
    gc.freeze()  # else a collection in a child would touch, and so copy, every object
    namespaces.use_huge_pages()
    try:
        server.serve()
    except EnterScript as script_start:
        session_fds, code = script_start.session_fds, script_start.code
    # Inside the handler, this exception would be the context of every exception of a script.
    page = server.page
    del server  # scripts must not see the numbers of other sessions
    if not session_fds:
        script.run_script(code, page)
    page.close()  # only the scripts use it
    session_process.serve(*session_fds)
