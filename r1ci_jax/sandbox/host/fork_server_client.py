"""Start one fork server from the host, send it scripts and cells, and read their output.

A worker executes one script or cell at a time, and one thread may use it at a time, except for
`stop` and `interrupt`. A fork server that dies or stops answering is replaced before the next
request.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.sandbox.host import collected_files, jail_policy, program, seccomp, verdict
from r1ci_jax.sandbox.host.cgroup import SCRIPTS, Groups
from r1ci_jax.sandbox.host.jail_policy import JailPolicy
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.streams import Stream
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits

START_SECONDS: Final = 120.0
"""Longest time from launch to readiness, with the policy's imports on a loaded machine."""
GRACE_SECONDS: Final = 10.0
"""The fork server enforces the wall limit; the host considers it lost this much later."""
RECYCLE_AFTER: Final = 5000
"""Number of scripts after which a fork server without sessions is replaced."""
SLACK_BYTES: Final = 64 << 20
"""Allowed excess of the scripts' memory limit, which saves writing it for every script."""
LOG_TAIL: Final = 2000
MESSAGE_BYTES: Final = 1 << 16
DAY: Final = 86_400


class WorkerLost(Exception):
    """The fork server has ended or cannot start; the text gives the cause."""


@dataclasses.dataclass(kw_only=True)
class SessionProcess:
    """The host's handle of a session's process."""

    group: str
    code: int
    """Descriptor of the memory file with the cell."""
    stdout: Stream
    stderr: Stream

    def close(self) -> None:
        """Close the host's ends of the channels."""
        os.close(self.code)
        self.stdout.close()
        self.stderr.close()


class Worker:
    """One fork server in its nsjail."""

    def __init__(
        self,
        nsjail: pathlib.Path,
        python: JailPython,
        chosen: JailPolicy,
        index: int,
        groups: Groups | None,
    ):
        self.worker = index
        self.groups = groups
        self.sessions: dict[int, SessionProcess] = {}
        self._nsjail = nsjail
        self._python = python
        self._policy = chosen
        self._filter = seccomp.program(chosen.filter_text())
        self._process: subprocess.Popen[bytes] | None = None
        self._passed: tuple[int, ...] = ()
        self._served = 0
        self._last_session = 0
        self._group_bytes = self._killed = 0
        self._stopped = False
        self._executing: int | None = None
        self._lock = threading.Lock()
        self._log = os.memfd_create("nsjail-log", os.MFD_CLOEXEC)
        self._code = os.memfd_create("script", os.MFD_CLOEXEC)
        self._stdout, self._stderr, self._files = Stream(), Stream(), Stream()

    # Scripts

    def run(self, code: str, limits: Limits, collect: Sequence[str] = ()) -> ExecResult:
        """Run one script; return a failure of the sandbox as a status, too."""
        try:
            self.start()
            report, killed = self._run(code, limits, tuple(collect))
        except (WorkerLost, OSError) as error:
            return self._faulty(error)
        result = self._result(report, limits, self._stdout, self._stderr, killed)
        made = collected_files.parse(self._files.kept)
        return dataclasses.replace(result, files=made)

    def _run(
        self, code: str, limits: Limits, collect: tuple[str, ...]
    ) -> tuple[dict[str, Any], int]:
        size = _write(self._code, code)
        self._files.begin(collected_files.room(collect, limits.file_bytes))
        self._make_room(limits)
        request = {
            "op": "run",
            "size": size,
            "cpu": limits.cpu_seconds,
            "wall": limits.wall_seconds,
            "limits": jail_policy.child_limits(self._policy, limits),
            "group": "",
            "collect": collect,
        }
        report = self._execute(request, limits, (self._stdout, self._stderr), (self._files,))
        self._served += 1
        killed = 0
        if self.groups is not None and report.get("wait_status") == signal.SIGKILL:
            before, self._killed = self._killed, self._kills(SCRIPTS)
            killed = self._killed - before
        return report, killed

    def _make_room(self, limits: Limits) -> None:
        """Limit the scripts' group to the memory it holds now plus that of one script.

        Most of the present memory is the fork server's. It changes constantly: the Linux kernel
        charges namespaces and page tables to their creator, and frees namespaces with a delay.
        """
        if self.groups is None:
            return
        wanted = self.groups.used_bytes(SCRIPTS) + limits.memory_bytes
        if not wanted <= self._group_bytes <= wanted + SLACK_BYTES:
            self._group_bytes = wanted + SLACK_BYTES // 2
            self.groups.limit(SCRIPTS, self._group_bytes)

    def _kills(self, group: str) -> int:
        return self.groups.kills(group) if self.groups else 0

    # Sessions

    def open(self, limits: Limits) -> int:
        """Start a session's process; return the session's number.

        Raises:
            WorkerLost, OSError: The process could not be started.
        """
        self.start()
        self._make_room(limits)
        number = self._last_session = self._last_session + 1
        group = f"session-{number}" if self.groups else ""
        if self.groups:
            self.groups.add(group, limits.memory_bytes)
        session = SessionProcess(
            group=group,
            code=os.memfd_create("cell", os.MFD_CLOEXEC),
            stdout=Stream(),
            stderr=Stream(),
        )
        self.sessions[number] = session
        request = {
            "op": "open",
            "session": number,
            # CPU time is counted for each cell, not for the whole session.
            "limits": jail_policy.child_limits(self._policy, limits) | {"cpu": DAY},
            "group": group,
        }
        sent = (session.code, session.stdout.writing.fileno(), session.stderr.writing.fileno())
        try:
            reply = self._ask(request, sent)
        except WorkerLost:
            self.stop_server()
            raise
        if "setup" in reply:
            self._forget(number)
            raise WorkerLost(f"the session's process could not be set up: {reply['setup']}")
        session.stdout.writing.close()
        session.stderr.writing.close()
        return number

    def cell(self, number: int, code: str, limits: Limits) -> ExecResult:
        """Run one cell of a session that is open on this worker."""
        session = self.sessions[number]
        try:
            size = _write(session.code, code)
            killed_before = self._kills(session.group)
            request = {
                "op": "cell",
                "session": number,
                "size": size,
                "cpu": limits.cpu_seconds,
                "wall": limits.wall_seconds,
            }
            report = self._execute(request, limits, (session.stdout, session.stderr), (), number)
            killed = self._kills(session.group) - killed_before
        except (WorkerLost, OSError) as error:
            return dataclasses.replace(self._faulty(error), state_lost=True)
        finally:
            with self._lock:
                self._executing = None
        result = self._result(report, limits, session.stdout, session.stderr, killed)
        if result.state_lost:
            self._forget(number)
        return result

    def close_session(self, number: int) -> None:
        """End a session's process if it still runs."""
        if number not in self.sessions:
            return
        try:
            self._ask({"op": "close", "session": number})
        except (WorkerLost, OSError):
            self.stop_server()
            return
        self._forget(number)

    def interrupt(self, number: int) -> None:
        """Interrupt the session's cell if it is running; any thread may call this."""
        with self._lock, contextlib.suppress(OSError):
            if self._executing == number:
                self._control.send(json.dumps({"op": "interrupt"}).encode())

    def _forget(self, number: int) -> None:
        session = self.sessions.pop(number)
        session.close()
        if self.groups and session.group:
            self.groups.remove(session.group)

    # The fork server

    @property
    def pid(self) -> int | None:
        """Return the process id of the fork server's nsjail."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the fork server unless it is ready already.

        Raises:
            WorkerLost: The fork server does not start.
        """
        if self._process is not None and self._process.poll() is not None:
            self.stop_server()
        if self._served >= RECYCLE_AFTER and not self.sessions:
            self.stop_server()
        if self._process is not None:
            return
        with self._lock:
            if self._stopped:
                raise WorkerLost("the sandbox is closing")
            boot = self._launch()
        try:
            with boot:
                self._place_in_group()
                self._send_program(boot)
            self._ask(None, deadline=START_SECONDS)
        except (WorkerLost, OSError) as error:
            said = self._log_tail()
            self.stop_server()
            raise WorkerLost(f"the fork server did not start ({error}): {said}") from error
        self._served = self._group_bytes = 0
        self._killed = self._kills(SCRIPTS)

    def _launch(self) -> socket.socket:
        """Start nsjail; return the socket over which it receives its program."""
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        directory = self.groups.directory if self.groups else None
        text = jail_policy.render(
            self._policy, "fork_server", self._python.root, Limits(), directory
        )
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot, their_boot = socket.socketpair()
        config = os.memfd_create("nsjail-config", os.MFD_CLOEXEC)
        try:
            os.write(config, text.encode())
            streams = (self._stdout, self._stderr, self._files)
            written = (stream.writing.fileno() for stream in streams)
            passed = self._passed = (theirs.fileno(), self._code, *written)
            options = ["--config", f"/proc/self/fd/{config}"]
            options += [word for fd in passed for word in ("--pass_fd", str(fd))]
            inside = [self._python.interpreter, *program.OPTIONS]
            self._process = subprocess.Popen(
                [str(self._nsjail), *options, "--", *inside],
                stdin=their_boot.fileno(),
                stdout=self._log,
                stderr=self._log,
                pass_fds=(config, *passed),
            )
        finally:
            os.close(config)
            their_boot.close()
            theirs.close()
        return boot

    def _place_in_group(self) -> None:
        """Move the fork server into its group before it gets its program and uses memory."""
        if self.groups is None:
            return
        assert self._process is not None
        children = pathlib.Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + GRACE_SECONDS
        while not (listed := children.read_text().split()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise WorkerLost("nsjail started nothing")
            time.sleep(0.005)
        self.groups.hold(int(listed[0]))

    def _send_program(self, boot: socket.socket) -> None:
        names = ("control_fd", "code_fd", "stdout_fd", "stderr_fd", "files_fd")
        settings = {
            **dict(zip(names, self._passed, strict=True)),
            "filter": self._filter,
            "preload": self._policy.preload,
            "warm_up": self._policy.warm_up,
        }
        boot.settimeout(START_SECONDS)
        boot.sendall(program.message(program.FORK_SERVER, self._python, (settings,)))

    def stop_server(self) -> None:
        """End the fork server with all its processes; sessions lose their state."""
        process, self._process = self._process, None
        if process is None:
            return
        with self._lock:
            self._control.close()
        if process.poll() is None:
            process.terminate()  # nsjail kills its jail
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()
        process.wait()
        for number in list(self.sessions):
            self._forget(number)

    def stop(self) -> None:
        """End the running execution, from another thread; its result is `infra_error`."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Release everything. No execution may be in progress."""
        self.stop_server()
        for stream in (self._stdout, self._stderr, self._files):
            stream.close()
        os.close(self._log)
        os.close(self._code)
        if self.groups is not None:
            self.groups.close()

    # Messages to the fork server

    def _ask(
        self,
        request: dict[str, Any] | None,
        fds: Sequence[int] = (),
        deadline: float = GRACE_SECONDS,
    ) -> dict[str, Any]:
        """Send a request that executes no foreign code, and wait for the answer."""
        self._control.settimeout(deadline)
        try:
            if request is not None:
                socket.send_fds(self._control, [json.dumps(request).encode()], list(fds))
            data = self._control.recv(MESSAGE_BYTES)
        except (OSError, TimeoutError) as error:
            raise WorkerLost(f"no answer: {error}") from error
        if not data:
            raise WorkerLost("it ended")
        return json.loads(data)

    def _execute(
        self,
        request: dict[str, Any],
        limits: Limits,
        capped: tuple[Stream, Stream],
        further: tuple[Stream, ...],
        session: int | None = None,
    ) -> dict[str, Any]:
        """Send a request that runs foreign code; move its output until the report arrives.

        Raises:
            WorkerLost: No report arrived.
        """
        for stream in capped:
            stream.begin(limits.output_bytes)
        streams = {stream.reading.fileno(): stream for stream in (*capped, *further)}
        poll = select.poll()
        for fd in (*streams, self._control.fileno()):
            poll.register(fd, select.POLLIN)
        self._control.settimeout(GRACE_SECONDS)
        deadline = time.monotonic() + limits.wall_seconds + GRACE_SECONDS
        said_stop = False
        try:
            self._control.send(json.dumps(request).encode())
            with self._lock:
                self._executing = session  # it can be interrupted from here on
            while True:
                left = deadline - time.monotonic()
                events = poll.poll(max(0, math.ceil(left * 1000)))
                if not events and left <= 0:
                    raise WorkerLost("no report")
                for fd, _ in events:
                    if fd not in streams:
                        return self._report(streams.values())
                    if not streams[fd].pump():
                        poll.unregister(fd)
                if not said_stop and any(stream.overflow for stream in capped):
                    said_stop = True
                    self._control.send(b'{"op": "kill"}')
        except (WorkerLost, OSError) as error:
            said = self._log_tail()
            self.stop_server()
            raise WorkerLost(f"{error}; {said}") from error

    def _report(self, streams: Any) -> dict[str, Any]:
        data = self._control.recv(MESSAGE_BYTES)
        if not data:
            raise WorkerLost("it ended")
        for stream in streams:
            stream.drain()
        return json.loads(data)

    def _result(
        self, report: dict[str, Any], limits: Limits, stdout: Stream, stderr: Stream, kills: int
    ) -> ExecResult:
        if "setup" in report:
            return ExecResult(status=Status.SETUP_ERROR, detail=report["setup"], worker=self.worker)
        parsed = verdict.check(report)
        if parsed is None:
            return self._faulty(WorkerLost("the fork server's report is malformed"))
        overflow = stdout.overflow or stderr.overflow
        result = verdict.result_of_report(parsed, limits, overflow=overflow, memory_kills=kills)
        return dataclasses.replace(
            result,
            stdout=stdout.text(),
            stderr=stderr.text(),
            stdout_truncated=stdout.overflow,
            stderr_truncated=stderr.overflow,
            worker=self.worker,
        )

    def _faulty(self, error: Exception) -> ExecResult:
        return ExecResult(status=Status.INFRA_ERROR, detail=str(error), worker=self.worker)

    def _log_tail(self) -> str:
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, LOG_TAIL, max(0, size - LOG_TAIL))
        return " | ".join(tail.decode("utf-8", "replace").split("\n")).strip(" |")


def _write(fd: int, code: str) -> int:
    """Write the code into a memory file; return its size in bytes."""
    data = code.encode("utf-8", "surrogatepass")
    left = memoryview(data)
    offset = 0
    while left:
        count = os.pwrite(fd, left, offset)
        left, offset = left[count:], offset + count
    return len(data)
