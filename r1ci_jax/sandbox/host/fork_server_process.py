"""The process of a fork server in its nsjail: its launch, its messages, and its end."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.sandbox.host import jail_policy, program
from r1ci_jax.sandbox.host.cgroup import Groups
from r1ci_jax.sandbox.host.jail_policy import JailPolicy
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.streams import Stream
from r1ci_jax.sandbox.host.worker_user import WorkerUser
from r1ci_jax.sandbox.seccomp import bpf
from r1ci_jax.sandbox.settings import Limits

START_SECONDS: Final = 120.0
"""Longest time from launch to readiness, with the policy's imports on a loaded machine."""
STALL_SECONDS: Final = 20.0
"""Longest time of a start in which the fork server uses no CPU time."""
ANSWER_SECONDS: Final = 10.0
"""Longest time for an answer that needs no foreign code."""
LOG_TAIL: Final = 2000
MESSAGE_BYTES: Final = 1 << 16


class WorkerLost(Exception):
    """The fork server has ended or cannot start; the text gives the cause."""


class ForkServer:
    """One fork server; it can be started again after its end."""

    def __init__(
        self,
        nsjail: pathlib.Path,
        python: JailPython,
        chosen: JailPolicy,
        groups: Groups | None,
    ):
        self._nsjail = nsjail
        self._python = python
        self._policy = chosen
        self._user = WorkerUser.reserve()
        self._groups = groups
        self._filter = bpf.program(chosen.system_calls())
        self._process: subprocess.Popen[bytes] | None = None
        self._inner_pid = 0
        self._passed: tuple[int, ...] = ()
        self._stopped = False
        self._log = os.memfd_create("nsjail-log", os.MFD_CLOEXEC)
        self.lock = threading.Lock()
        """Held while the socket is replaced or another thread uses it."""
        self.code = os.memfd_create("script", os.MFD_CLOEXEC)
        """Descriptor of the memory file with the script."""
        self.files = Stream()
        self.output: tuple[Stream, Stream] | None = None
        """The pipes of the next script, which the fork server has already."""

    @property
    def pid(self) -> int | None:
        """Return the process id of its nsjail; None when none runs."""
        return self._process.pid if self._process else None

    @property
    def has_ended(self) -> bool:
        """Return whether its process ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            WorkerLost: It does not start.
        """
        with self.lock:
            if self._stopped:
                raise WorkerLost("the sandbox is closing")
            boot = self._launch()
        try:
            with boot:
                self._place_in_group()
                self._send_program(boot)
            self._await_ready()
        except (WorkerLost, OSError) as error:
            said = self.log_tail()
            self.end()
            raise WorkerLost(f"the fork server did not start ({error}): {said}") from error

    def _launch(self) -> socket.socket:
        """Start nsjail; return the socket over which it receives its program."""
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        text = jail_policy.render(
            self._policy, "fork_server", self._python.root, Limits(), self._user
        )
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot, their_boot = socket.socketpair()
        config = os.memfd_create("nsjail-config", os.MFD_CLOEXEC)
        self.output = (Stream(), Stream())
        try:
            os.write(config, text.encode())
            written = (stream.writing.fileno() for stream in (*self.output, self.files))
            passed = self._passed = (theirs.fileno(), self.code, *written)
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
        except BaseException:
            boot.close()
            self.control.close()
            self._close_output()
            raise
        finally:
            os.close(config)
            their_boot.close()
            theirs.close()
        for stream in self.output:
            stream.writing.close()
        return boot

    def _close_output(self) -> None:
        output, self.output = self.output, None
        for stream in output or ():
            stream.close()

    def _place_in_group(self) -> None:
        """Move the fork server into its group before it gets its program and uses memory."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + ANSWER_SECONDS
        while not (listed := _children(process.pid)):
            if time.monotonic() > deadline or process.poll() is not None:
                raise WorkerLost("nsjail started nothing")
            time.sleep(0.005)
        self._inner_pid = listed[0]
        if self._groups is not None:
            self._groups.hold(self._inner_pid)

    def _await_ready(self) -> None:
        """Wait until the fork server has loaded its modules.

        Raises:
            WorkerLost: It ended, it was stopped, or it makes no progress.
        """
        begin = moved = time.monotonic()
        used = -1
        while True:
            with contextlib.suppress(TimeoutError):
                self.ask(None, deadline=1.0)
                return
            now = time.monotonic()
            state, ticks = _state_and_ticks(self._inner_pid)
            if ticks > used:
                used, moved = ticks, now
            if state in "Tt":
                raise WorkerLost("its process was stopped")
            if now - moved > STALL_SECONDS or now - begin > START_SECONDS:
                raise WorkerLost(f"it was not ready after {now - begin:.0f} s")

    def _send_program(self, boot: socket.socket) -> None:
        names = ("control_fd", "code_fd", "stdout_fd", "stderr_fd", "files_fd")
        settings = {
            **dict(zip(names, self._passed, strict=True)),
            "filter": self._filter,
            "preload": self._policy.preload,
            "warm_up": self._policy.warm_up,
        }
        boot.settimeout(STALL_SECONDS)
        boot.sendall(program.message(program.FORK_SERVER, self._python, (settings,)))

    def end(self) -> None:
        """End it with all its processes."""
        process, self._process = self._process, None
        if process is None:
            return
        with self.lock:
            self.control.close()
        self._close_output()
        if process.poll() is None:
            process.terminate()  # nsjail kills its jail
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER_SECONDS)
            process.kill()
        process.wait()

    def stop(self) -> None:
        """End it for good, from another thread."""
        with self.lock:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Release everything."""
        self.end()
        self.files.close()
        self._user.release()
        os.close(self._log)
        os.close(self.code)

    def ask(
        self,
        request: dict[str, Any] | None,
        fds: Sequence[int] = (),
        deadline: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Send a request that executes no foreign code, and wait for the answer.

        Raises:
            TimeoutError: The answer did not arrive in time.
            WorkerLost: The fork server has ended.
        """
        self.control.settimeout(deadline)
        try:
            if request is not None:
                socket.send_fds(self.control, [json.dumps(request).encode()], list(fds))
            return self.message()
        except TimeoutError:
            raise
        except OSError as error:
            raise WorkerLost(f"no answer: {error}") from error

    def message(self) -> dict[str, Any]:
        """Receive its next message.

        Raises:
            WorkerLost: It has ended.
        """
        data = self.control.recv(MESSAGE_BYTES)
        if not data:
            raise WorkerLost("it ended")
        return json.loads(data)

    def host_pid(self, pid: int) -> int:
        """Return the host's number of a child of the fork server, which knows it by `pid`."""
        for child in _children(self._inner_pid):
            status = pathlib.Path(f"/proc/{child}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            # Its numbers in the host's namespace, in nsjail's, and in its own.
            if numbers.split()[2] == str(pid):
                return child
        raise WorkerLost("the session's process ended at once")

    def log_tail(self) -> str:
        """Return the end of its log, and nsjail's, as one line."""
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, LOG_TAIL, max(0, size - LOG_TAIL))
        return " | ".join(tail.decode("utf-8", "replace").split("\n")).strip(" |")


def _children(pid: int) -> list[int]:
    try:
        listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in listed.split()]


def _state_and_ticks(pid: int) -> tuple[str, int]:
    """Return the state and the CPU ticks of a process; it counts as ended when it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0], int(fields[11]) + int(fields[12])
