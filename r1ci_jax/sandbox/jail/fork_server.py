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
import json
import os
import select
import socket
import sys
import time
from typing import Any, NoReturn

from r1ci_jax.sandbox.jail import collect, namespaces, preload, script, session_process
from r1ci_jax.sandbox.jail.child import Child, Flag

INTERRUPT_SECONDS = 0.5
"""Time between the interrupt of a cell and the end of its process."""
COLLECT_SECONDS = 10.0
LONGEST_WAIT = 0.5
SHORTEST_WAIT = 0.005
"""Bounds of the time between two readings of the CPU clock."""
ALONE_SECONDS = 0.2
"""After this time the host is told that a script runs, and the clocks of all processes count."""
IDLE_SECONDS = 0.05
"""CPU time between two cells that ends a session: it found a way to run while it is stopped."""
MESSAGE_BYTES = 1 << 16


class EnterScript(BaseException):
    """Exception that unwinds a new child's stack: a script has as much of it as in a cold jail."""

    def __init__(self, session_fds: tuple[int, ...], code: bytes, exception: Flag):
        self.session_fds = session_fds
        self.code = code
        self.exception = exception


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
        self.output_fds: tuple[int, ...] = (boot["stdout_fd"], boot["stderr_fd"])
        """The pipes of the next script; each script has pipes of its own."""
        program: bytes = boot["filter"]
        self.filter = ctypes.create_string_buffer(program, len(program))
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.cores = len(os.sched_getaffinity(0))
        self.loaded_bytes = 0
        self.sessions: dict[int, Child] = {}
        self.ready: Child | None = None
        """Made ahead: set up under `ready_limits`, waiting for its script."""
        self.ready_limits: dict[str, int] = {}

    def serve(self) -> None:
        """Answer requests until the host has ended."""
        self.loaded_bytes = preload.loaded_bytes()
        self.send({"ready": True, "modules": len(sys.modules)})
        while True:
            data, fds, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 3)
            if not data:
                os._exit(0)  # this is process 1: all of this jail ends with it
            request = json.loads(data)
            match request["op"]:
                case "run":
                    self.send(self.run(request, tuple(fds)))
                case "open":
                    self.send(self.open(request, *fds))
                case "start":
                    self.send(self.start(request["session"]))
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

    def take(self, limits: dict[str, int]) -> Child:
        """Return a child that waits for a script under these limits."""
        child, self.ready = self.ready, None
        if child is not None and (self.ready_limits != limits or child.ended()):
            child.discard()
            child = None
        return child or self.fork(limits, self.output_fds)

    def run(self, request: dict[str, Any], next_fds: tuple[int, ...]) -> dict[str, Any]:
        """Run one script from its first instruction to the end of its last process.

        Args:
            request: The request with the script's size and limits.
            next_fds: The pipes of the script after this one.
        """
        child = self.take(request["limits"])
        for fd in self.output_fds:
            os.close(fd)
        self.output_fds = next_fds
        begin, cpu_before = time.monotonic(), child.cpu_seconds()
        child.open_gate(request["size"])
        # Fork the next script's child while this script runs.
        self.ready, self.ready_limits = self.fork(request["limits"], next_fds), request["limits"]
        seen = self.watch(child, request, begin, cpu_before)
        if seen.limit:
            child.signal(_signal.SIGKILL)
        wait_status, usage = child.reap()
        wall = time.monotonic() - begin
        if problem := child.setup_error():
            child.close()
            return {"setup": problem}
        if request["collect"] and child.end_strays():
            self.collect(child.own_namespaces, request)
        exception = child.exception.byte[0]
        cpu = usage.ru_utime + usage.ru_stime - cpu_before + child.close()
        return {
            "limit": seen.limit or ("cpu" if cpu >= request["cpu"] else ""),
            "wait_status": wait_status,
            "cpu": max(0.0, cpu),
            "rss_kib": usage.ru_maxrss,
            "wall": wall,
            "exception": exception,
        }

    def open(
        self, request: dict[str, Any], code_fd: int, stdout_fd: int, stderr_fd: int
    ) -> dict[str, Any]:
        """Fork a session's process; it waits for `start` while the host moves it into its group."""
        theirs, requests = os.pipe()
        done, says = os.pipe()
        fds = (theirs, says, code_fd)
        child = self.fork(request["limits"], (stdout_fd, stderr_fd), fds)
        for fd in (*fds, stdout_fd, stderr_fd):
            os.close(fd)
        child.requests_fd, child.done_fd = requests, done
        self.sessions[request["session"]] = child
        return {"pid": child.pid}

    def start(self, session: int) -> dict[str, Any]:
        """Let a session's process begin to wait for cells."""
        child = self.sessions[session]
        child.open_gate(0)
        os.set_blocking(child.setup_error_fd, True)
        if problem := child.setup_error():
            self.sessions.pop(session).discard()
            return {"setup": problem}
        child.stopped_cpu = child.all_cpu_seconds()
        return {}

    def cell(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one cell of a session; remove the session if it ended."""
        child = self.sessions[request["session"]]
        begin, cpu_before = time.monotonic(), child.all_cpu_seconds()
        if cpu_before - child.stopped_cpu > IDLE_SECONDS:
            return self.kill_session(request["session"], Watched())
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
        child.signal(_signal.SIGSTOP)
        child.stopped_cpu = child.all_cpu_seconds()
        seen.cpu = child.stopped_cpu - cpu_before
        if not child.end_strays():
            return self.kill_session(request["session"], seen)
        child.stopped_cpu = child.all_cpu_seconds()
        return {
            "limit": seen.verdict,
            "wait_status": 0,
            "cpu": seen.cpu,
            "rss_kib": child.peak_kib(),
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
        output: tuple[int, ...],
        session_fds: tuple[int, ...] = (),
    ) -> Child:
        """Fork a child into fresh namespaces, where it waits at its gate.

        It reports an error over a pipe that it closes before any foreign code runs.
        """
        own_namespaces, exception = namespaces.Namespaces(), Flag()
        errors, says = os.pipe()
        gate, opens = os.pipe()
        pid = namespaces.fork_into(own_namespaces, self.own_pid_namespace)
        if pid == 0:
            fds = (*output, *session_fds)
            self.become(own_namespaces, limits, fds, (says, gate), exception)
        exception.hide()
        for fd in (says, gate):
            os.close(fd)
        os.set_blocking(errors, False)
        return Child(
            pid=pid,
            pidfd=os.pidfd_open(pid),
            own_namespaces=own_namespaces,
            exception=exception,
            setup_error_fd=errors,
            gate_fd=opens,
        )

    def become(
        self,
        own_namespaces: namespaces.Namespaces,
        limits: dict[str, int],
        fds: tuple[int, ...],
        own_fds: tuple[int, int],
        exception: Flag,
    ) -> NoReturn:
        """Do a child's last trusted steps; `own_fds` are the pipe for errors and the gate."""
        setup_error_fd, gate_fd = own_fds
        try:
            kept = (os.open("/dev/null", os.O_RDONLY), *fds)
            place_descriptors((*kept, *own_fds, own_namespaces.pidfd, self.code_fd))
            setup_error_fd, gate_fd, pidfd, code_fd = range(len(kept), len(kept) + 4)
            memory = limits["memory"] + self.loaded_bytes
            namespaces.enter(pidfd, {**limits, "memory": memory}, self.filter)
        except BaseException as error:
            os.write(setup_error_fd, f"{type(error).__name__}: {error}".encode())
            os.read(gate_fd, 8)
            os._exit(1)
        if "numpy.random" in sys.modules:
            seed = int.from_bytes(os.urandom(4))  # `random` reseeds itself
            sys.modules["numpy.random"].seed(seed)
        size = os.read(gate_fd, 8)
        if len(size) != 8:
            os._exit(0)
        # Only the child reads the code: later children could find it in the fork server's memory.
        code = os.pread(code_fd, int.from_bytes(size, "little"), 0)
        for fd in (setup_error_fd, gate_fd, pidfd, code_fd):
            os.close(fd)
        raise EnterScript(tuple(range(3, len(kept))), code, exception)

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
        announced = request["op"] != "run"
        while True:
            seen.wall = time.monotonic() - begin
            if not announced and seen.wall >= ALONE_SECONDS:
                # Most scripts end before, and so cost the host no second message.
                announced = True
                self.send({"started": seen.wall})
            clock = child.cpu_seconds if seen.wall < ALONE_SECONDS else child.all_cpu_seconds
            try:
                seen.cpu = clock() - cpu_before
            except OSError:  # it has just ended
                return seen
            cpu_left, wall_left = request["cpu"] - seen.cpu, request["wall"] - seen.wall
            if cpu_left <= 0 or wall_left <= 0:
                seen.limit = "cpu" if cpu_left <= 0 else "wall"
                return seen
            pause = min(LONGEST_WAIT, wall_left, max(cpu_left / self.cores, SHORTEST_WAIT))
            if not announced:
                pause = min(pause, max(ALONE_SECONDS - seen.wall, SHORTEST_WAIT))
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


def main(boot: dict[str, Any]) -> None:
    """Prepare the fork server, then answer requests. This function never returns."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.chdir(script.SCRATCH)
    preload.preload(boot["preload"], boot["warm_up"])
    server = Server(boot)
    gc.collect()
    preload.make_immortal()
    gc.freeze()  # else a collection in a child would touch, and so copy, every object
    namespaces.use_huge_pages()
    try:
        server.serve()
    except EnterScript as script_start:
        session_fds, code = script_start.session_fds, script_start.code
        exception = script_start.exception
    # Inside the handler, this exception would be the context of every exception of a script.
    del server  # scripts must not see the numbers of other sessions
    if not session_fds:
        script.run_script(code, exception.byte)
    del exception  # only the scripts use it
    session_process.serve(*session_fds)
