"""Run one script in one nsjail: start it, exchange messages with the supervisor, read the output.

A run has these channels. Descriptor 0 of the jail is a socket between host and supervisor, and only
messages on it decide the verdict. Descriptor 1 is the script's stdout. Descriptor 2 is nsjail's log
until the script starts. The script's stderr, and the pipe for collected files, arrive as further
descriptors. The script itself holds only stdout and stderr.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Final

from r1ci_jax.sandbox.host import collected_files, jail_policy, program, verdict
from r1ci_jax.sandbox.host.cgroup import Groups
from r1ci_jax.sandbox.host.jail_policy import JailPolicy
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.streams import Stream
from r1ci_jax.sandbox.host.worker_user import WorkerUser
from r1ci_jax.sandbox.jail.script import SCRATCH
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits

SETUP_SECONDS: Final = 30.0
"""Longest time from launch to the script's start."""
GRACE_SECONDS: Final = 0.5
"""The supervisor enforces the wall limit; the host enforces it this much later."""
NUDGE_SECONDS: Final = 0.03
"""nsjail can miss the end of its child and sleep for a second; a SIGCHLD wakes it."""
REAP_SECONDS: Final = 5.0
"""nsjail is killed when it takes longer than this to exit; its jail ends with it."""
LOG_TAIL: Final = 2000
CONFIGS_KEPT: Final = 8


class JailSession:
    """The host's side of one run, from launch to the supervisor's last message."""

    def __init__(self, control: socket.socket, streams: tuple[Stream, ...], message: bytes):
        self.control = control
        self.streams = streams
        self.unsent = memoryview(message)
        self.begin = time.monotonic()
        self.started = False
        self.report: bytes | None = None
        self.late = False
        self._received = b""

    @property
    def overflow(self) -> bool:
        """Return whether a stream exceeded its limit."""
        return any(stream.overflow for stream in self.streams)

    def pump(self, pidfd: int, wall_seconds: float) -> None:
        """Move bytes until a report, an overflow, the end of the jail, or the end of the time."""
        poll = select.poll()
        by_fd = {stream.reading.fileno(): stream for stream in self.streams}
        for fd in (*by_fd, pidfd):
            poll.register(fd, select.POLLIN)
        poll.register(self.control, select.POLLIN | select.POLLOUT)
        gone = False
        while not (gone or self.overflow or self.late or self.report is not None):
            allowed = wall_seconds + GRACE_SECONDS if self.started else SETUP_SECONDS
            left = self.begin + allowed - time.monotonic()
            events = poll.poll(max(0, math.ceil(left * 1000)))
            self.late = not events and left <= 0
            for fd, mask in events:
                if fd == pidfd:
                    gone = True
                elif fd in by_fd:
                    if not by_fd[fd].pump():
                        poll.unregister(fd)
                else:
                    if mask & select.POLLOUT and self.unsent:
                        self._send()
                        if not self.unsent:
                            poll.modify(self.control, select.POLLIN)
                    if mask & ~select.POLLOUT and not self._receive():
                        poll.unregister(self.control)
        self._receive()
        for stream in self.streams:
            stream.drain()

    def _send(self) -> None:
        try:
            self.unsent = self.unsent[self.control.send(self.unsent) :]
        except (BrokenPipeError, ConnectionResetError):
            self.unsent = self.unsent[:0]  # the jail is gone; its exit status shows why

    def _receive(self) -> bool:
        """Read a message of the supervisor; return False when none waits or none will follow."""
        try:
            data = self.control.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            return False
        if data and not self.started:
            self.started, self.begin = True, time.monotonic()
            data = data[1:]
        self._received += data
        if self._received.endswith(b"\n"):
            self.report = self._received
        return bool(data) or not self._received


class ColdJail:
    """A worker that runs one script at a time, each in a new jail; one thread may use it."""

    def __init__(
        self,
        nsjail: pathlib.Path | None,
        python: JailPython,
        chosen: JailPolicy,
        worker: int,
        groups: Groups | None = None,
    ):
        """Prepare the worker; with `nsjail` None it runs scripts without any isolation."""
        self._groups = groups
        self.worker = worker
        self.user = WorkerUser.reserve()
        self._nsjail = nsjail
        self._python = python
        self._policy = chosen
        # In a jail, a file system of its own is mounted there.
        # Without one, the script's file lies beside its working directory.
        self._unsafe = "" if nsjail else tempfile.mkdtemp(prefix="r1ci-unsafe-")
        self._scratch = SCRATCH if nsjail else f"{self._unsafe}/scratch"
        if self._unsafe:
            os.mkdir(self._scratch)
        self._log = os.memfd_create("nsjail-log", os.MFD_CLOEXEC)
        self._configs: dict[Limits, int] = {}
        self._running = -1
        self._stopped = False
        self._running_lock = threading.Lock()

    def run(self, code: str, limits: Limits, collect: Sequence[str] = ()) -> ExecResult:
        """Run one script; return a failure of the sandbox as a status, too."""
        try:
            return self._run(code, limits, tuple(collect))
        except OSError as error:  # no descriptor, process or memory left on the host
            return ExecResult(
                status=Status.INFRA_ERROR,
                detail=f"the host cannot start a jail: {error}",
                worker=self.worker,
            )

    def _run(self, code: str, limits: Limits, collect: tuple[str, ...]) -> ExecResult:
        request = {
            "code": code.encode("utf-8", "surrogatepass"),
            "cpu": float(limits.cpu_seconds),
            "wall": float(limits.wall_seconds),
            "collect": collect,
            "scratch": self._scratch,
            "file_bytes": limits.file_bytes,
            "isolated": self._nsjail is not None,
            "memory": limits.memory_bytes,
            "cpu_backstop": math.ceil(limits.cpu_seconds) + 1,
            "signals": jail_policy.QUEUED_SIGNALS,
        }
        message = program.message(program.COLD, self._python, (request,))
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        with contextlib.ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.setblocking(False)
            room = (*2 * (limits.output_bytes,), collected_files.room(collect, limits.file_bytes))
            stdout, stderr, made = (stack.enter_context(Stream(limit)) for limit in room)
            talk = JailSession(ours, (stdout, stderr, made), message)
            process = self._launch(theirs, (stdout, stderr, made), limits)
            for end in (theirs, stdout.writing, stderr.writing, made.writing):
                end.close()
            seen = self._supervise(process, talk, limits)
        return dataclasses.replace(
            verdict.make_result(seen, limits),
            stdout=stdout.text(),
            stderr=stderr.text(),
            stdout_truncated=stdout.overflow,
            stderr_truncated=stderr.overflow,
            files=collected_files.parse(made.kept),
            worker=self.worker,
        )

    def stop(self) -> None:
        """End the run in progress, from another thread; its result is `infra_error`."""
        with self._running_lock:
            self._stopped = True
            if self._running >= 0:
                signal.pidfd_send_signal(self._running, signal.SIGTERM)

    def close(self) -> None:
        """Release the descriptors. No run may be in progress."""
        for fd in (self._log, *self._configs.values()):
            os.close(fd)
        self._configs.clear()
        self.user.release()
        if self._groups is not None:
            self._groups.close()
        if self._nsjail is None:
            shutil.rmtree(self._unsafe, ignore_errors=True)

    def _launch(
        self, control: socket.socket, streams: tuple[Stream, Stream, Stream], limits: Limits
    ) -> subprocess.Popen[bytes]:
        stdout, *further = streams
        passed = [stream.writing.fileno() for stream in further]
        numbers = [str(fd) for fd in passed]
        if self._nsjail is None:
            command = [self._python.interpreter, *program.OPTIONS, *numbers]
            environment = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}
        else:
            config = self._config(limits)
            options = ["--config", f"/proc/self/fd/{config}"]
            options += [word for number in numbers for word in ("--pass_fd", number)]
            inside = [self._python.interpreter, *program.OPTIONS, *numbers]
            command, environment = [str(self._nsjail), *options, "--", *inside], None
            passed.append(config)
        process = subprocess.Popen(
            command,
            stdin=control.fileno(),
            stdout=stdout.writing,
            stderr=self._log,
            pass_fds=passed,
            env=environment,
            cwd=None if self._nsjail else self._scratch,
        )
        try:
            if self._groups is not None:  # long before it has read its configuration
                self._groups.hold(process.pid)
        except ProcessLookupError:
            pass  # it has ended already
        except OSError:
            process.kill()
            process.wait()
            raise
        return process

    def _config(self, limits: Limits) -> int:
        """Return a memory file with nsjail's configuration, made once for each set of limits."""
        if limits not in self._configs:
            if len(self._configs) >= CONFIGS_KEPT:
                os.close(self._configs.pop(next(iter(self._configs))))
            text = jail_policy.render(self._policy, "cold", self._python.root, limits, self.user)
            fd = os.memfd_create("nsjail-config", os.MFD_CLOEXEC)
            os.write(fd, text.encode())
            self._configs[limits] = fd
        return self._configs[limits]

    def _supervise(
        self, process: subprocess.Popen[bytes], talk: JailSession, limits: Limits
    ) -> verdict.Observed:
        """Supervise a run until its last process has ended."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise
        with self._running_lock:
            self._running = pidfd
            stopped = self._stopped
        try:
            if not stopped:
                talk.pump(pidfd, limits.wall_seconds)
            seconds = time.monotonic() - talk.begin
        finally:
            with self._running_lock:
                self._running = -1
            status, cpu_seconds = reap(process, pidfd, finished=talk.report is not None)
            os.close(pidfd)
        return verdict.Observed(
            started=talk.started,
            report=talk.report,
            overflow=talk.overflow,
            late=talk.late,
            jail_status=status,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            log=self._log_tail(),
        )

    def _log_tail(self) -> str:
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, LOG_TAIL, max(0, size - LOG_TAIL))
        return " | ".join(tail.decode("utf-8", "replace").split("\n")).strip(" |")


def reap(process: subprocess.Popen[bytes], pidfd: int, *, finished: bool) -> tuple[int, float]:
    """Wait until nsjail and its jail have ended; return nsjail's wait status and CPU seconds.

    Args:
        process: The process of nsjail.
        pidfd: The pidfd of that process.
        finished: The supervisor is about to exit; otherwise nsjail receives a signal to end it.
    """
    wake = signal.SIGCHLD if finished else signal.SIGTERM
    if not finished:
        signal.pidfd_send_signal(pidfd, wake)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + REAP_SECONDS
    while not poll.poll(NUDGE_SECONDS * 1000):
        urgent = time.monotonic() > deadline
        signal.pidfd_send_signal(pidfd, signal.SIGKILL if urgent else wake)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except ChildProcessError:  # the host program ignores SIGCHLD or waits for every child itself
        process.returncode = 0
        return 0, 0.0
    process.returncode = os.waitstatus_to_exitcode(status)
    return status, usage.ru_utime + usage.ru_stime
