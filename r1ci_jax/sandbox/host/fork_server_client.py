"""Send scripts and cells to one fork server, and read their output.

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
import time
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.sandbox.host import collected_files, jail_policy, verdict
from r1ci_jax.sandbox.host.cgroup import SCRIPTS, Groups
from r1ci_jax.sandbox.host.fork_server_process import ANSWER_SECONDS, ForkServer, WorkerLost
from r1ci_jax.sandbox.host.jail_policy import JailPolicy
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.streams import Stream
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult, Status
from r1ci_jax.sandbox.settings import Limits

GRACE_SECONDS: Final = 0.8
"""The fork server enforces the wall limit; the host does it this much later."""
INTERRUPT_SECONDS: Final = 0.5
"""A cell that reaches a limit is interrupted first, and ended this much later."""
FAULTS: Final = 2
"""Number of failures in a row after which the fork server is replaced."""
RECYCLE_AFTER: Final = 5000
"""Number of scripts after which a fork server without sessions is replaced."""
SLACK_BYTES: Final = 64 << 20
"""Allowed excess of the scripts' memory limit, which saves writing it for every script."""
DAY: Final = 86_400


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
        self._policy = chosen
        self._server = ForkServer(nsjail, python, chosen, groups)
        self._served = self._faults = 0
        self._last_session = 0
        self._group_bytes = self._killed = 0
        self._executing: int | None = None

    # Scripts

    def run(self, code: str, limits: Limits, collect: Sequence[str] = ()) -> ExecResult:
        """Run one script; return a failure of the sandbox as a status, too."""
        try:
            self.start()
            result = self._run(code, limits, tuple(collect))
        except (WorkerLost, OSError) as error:
            result = self._faulty(error)
        self._faults = self._faults + 1 if result.status in SANDBOX_FAULTS else 0
        if self._faults >= FAULTS:
            self.stop_server()
        return result

    def _run(self, code: str, limits: Limits, collect: tuple[str, ...]) -> ExecResult:
        size = _write(self._server.code, code)
        self._server.files.begin(collected_files.room(collect, limits.file_bytes))
        self._make_room(limits)
        request = {
            "op": "run",
            "size": size,
            "cpu": limits.cpu_seconds,
            "wall": limits.wall_seconds,
            "limits": jail_policy.child_limits(self._policy, limits),
            "collect": collect,
        }
        coming = (Stream(), Stream())
        sent = [stream.writing.fileno() for stream in coming]
        assert self._server.output is not None
        (stdout, stderr), self._server.output = self._server.output, coming
        with stdout, stderr:
            report = self._execute(request, limits, (stdout, stderr), (self._server.files,), sent)
            for stream in coming:
                stream.writing.close()
            self._served += 1
            killed = 0
            if self.groups is not None and report.get("wait_status") == signal.SIGKILL:
                before, self._killed = self._killed, self._kills(SCRIPTS)
                killed = self._killed - before
            result = self._result(report, limits, stdout, stderr, killed)
        made = collected_files.parse(self._server.files.kept)
        return dataclasses.replace(result, files=made)

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
        }
        sent = (session.code, session.stdout.writing.fileno(), session.stderr.writing.fileno())
        try:
            pid = self._server.ask(request, sent)["pid"]
            if self.groups:
                self.groups.join(group, self._server.host_pid(pid))
            reply = self._server.ask({"op": "start", "session": number})
        except (WorkerLost, OSError):
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
            self._freeze(session, frozen=False)
            request = {
                "op": "cell",
                "session": number,
                "size": size,
                "cpu": limits.cpu_seconds,
                "wall": limits.wall_seconds,
            }
            streams = (session.stdout, session.stderr)
            report = self._execute(request, limits, streams, (), session=number)
            killed = 0
            if number in self.sessions:  # else the fork server had to be ended
                killed = self._kills(session.group) - killed_before
                self._freeze(session, frozen=True)
        except (WorkerLost, OSError) as error:
            return dataclasses.replace(self._faulty(error), state_lost=True)
        finally:
            with self._server.lock:
                self._executing = None
        result = self._result(report, limits, session.stdout, session.stderr, killed)
        if result.state_lost and number in self.sessions:
            self._forget(number)
        return result

    def close_session(self, number: int) -> None:
        """End a session's process if it still runs."""
        if number not in self.sessions:
            return
        try:
            self._freeze(self.sessions[number], frozen=False)
            self._server.ask({"op": "close", "session": number})
        except (WorkerLost, OSError):
            self.stop_server()
            return
        self._forget(number)

    def interrupt(self, number: int) -> None:
        """Interrupt the session's cell if it is running; any thread may call this."""
        with self._server.lock, contextlib.suppress(OSError):
            if self._executing == number:
                self._server.control.send(json.dumps({"op": "interrupt"}).encode())

    def _freeze(self, session: SessionProcess, *, frozen: bool) -> None:
        """Keep all threads of a session from running between two cells."""
        if self.groups and session.group:
            self.groups.freeze(session.group, frozen=frozen)

    def _forget(self, number: int) -> None:
        session = self.sessions.pop(number)
        session.close()
        if self.groups and session.group:
            self.groups.remove(session.group)

    # The fork server

    @property
    def pid(self) -> int | None:
        """Return the process id of the fork server's nsjail."""
        return self._server.pid

    def start(self) -> None:
        """Start the fork server unless it is ready already.

        Raises:
            WorkerLost: The fork server does not start.
        """
        used_up = self._served >= RECYCLE_AFTER and not self.sessions
        if used_up or self._server.has_ended:
            self.stop_server()
        if self._server.pid is not None:
            return
        self._server.start()
        self._served = self._faults = self._group_bytes = 0
        self._killed = self._kills(SCRIPTS)

    def stop_server(self) -> None:
        """End the fork server with all its processes; sessions lose their state."""
        self._server.end()
        for number in list(self.sessions):
            self._forget(number)

    def stop(self) -> None:
        """End the running execution, from another thread; its result is `infra_error`."""
        self._server.stop()

    def close(self) -> None:
        """Release everything. No execution may be in progress."""
        self.stop_server()
        self._server.close()
        if self.groups is not None:
            self.groups.close()

    # Executions

    def _execute(
        self,
        request: dict[str, Any],
        limits: Limits,
        capped: tuple[Stream, Stream],
        further: tuple[Stream, ...],
        fds: Sequence[int] = (),
        session: int | None = None,
    ) -> dict[str, Any]:
        """Send a request that runs foreign code; move its output until the report arrives.

        A fork server that does not report the end of the wall time is ended, and that is the end of
        the wall time, too: a script cannot delay its verdict by holding up the fork server.

        Raises:
            WorkerLost: The fork server ended, or did not start the script.
        """
        for stream in capped:
            stream.begin(limits.output_bytes)
        streams = {stream.reading.fileno(): stream for stream in (*capped, *further)}
        poll = select.poll()
        for fd in (*streams, self._server.control.fileno()):
            poll.register(fd, select.POLLIN)
        self._server.control.settimeout(ANSWER_SECONDS)
        begin: float | None = None if session is None else time.monotonic()
        deadline = time.monotonic() + ANSWER_SECONDS
        allowed = limits.wall_seconds + GRACE_SECONDS
        if session is not None:
            allowed += INTERRUPT_SECONDS
        said_stop = False
        try:
            socket.send_fds(self._server.control, [json.dumps(request).encode()], list(fds))
            with self._server.lock:
                self._executing = session  # it can be interrupted from here on
            while True:
                if begin is not None:
                    deadline = begin + allowed
                left = deadline - time.monotonic()
                events = poll.poll(max(0, math.ceil(left * 1000)))
                if not events and left <= 0:
                    return self._give_up(begin, limits, lost=session is not None)
                for fd, _ in events:
                    if fd in streams:
                        if not streams[fd].pump():
                            poll.unregister(fd)
                        continue
                    report = self._server.message()
                    if "started" not in report:
                        for stream in streams.values():
                            stream.drain()
                        return report
                    begin = time.monotonic() - report["started"]
                if not said_stop and any(stream.overflow for stream in capped):
                    said_stop = True
                    self._server.control.send(b'{"op": "kill"}')
        except (WorkerLost, OSError) as error:
            said = self._server.log_tail()
            self.stop_server()
            raise WorkerLost(f"{error}; {said}") from error

    def _give_up(self, begin: float | None, limits: Limits, *, lost: bool) -> dict[str, Any]:
        """End the fork server; return the report of a script that used up its wall time."""
        if begin is None:
            raise WorkerLost("it did not start the script")
        self.stop_server()
        return {
            "limit": "wall",
            "wait_status": int(signal.SIGKILL),
            "cpu": 0.0,
            "rss_kib": 0,
            "wall": limits.wall_seconds,
            "exception": 0,
            "lost": lost,
        }

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
        return ExecResult(
            status=Status.INFRA_ERROR,
            detail=str(error) or type(error).__name__,
            worker=self.worker,
        )


def _write(fd: int, code: str) -> int:
    """Write the code into a memory file; return its size in bytes."""
    data = code.encode("utf-8", "surrogatepass")
    left = memoryview(data)
    offset = 0
    while left:
        count = os.pwrite(fd, left, offset)
        left, offset = left[count:], offset + count
    return len(data)
