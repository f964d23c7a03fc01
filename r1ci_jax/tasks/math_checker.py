"""Comparing LaTeX expressions in a child process that can be killed."""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time

from r1ci_jax.errors import UserError

SECONDS = 2.0
"""For one answer."""
_START_SECONDS = 120.0
"""Importing the parser takes a second; a loaded machine may need many."""


class Checker:
    """One child, started when first asked, killed when it is late, then started again.

    Threads take turns. A forked process starts a child of its own.
    """

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def equal(self, expected: str, given: str) -> bool | None:
        """Whether both are the same value; None where telling took too long.

        Raises:
            UserError: the parser is not installed.
        """
        request = json.dumps([expected, given]).encode() + b"\n"
        with self._lock:
            child = self._running()
            reply = self._ask(child, request)
            if reply is None:
                self._stop()
            return None if reply is None else reply == b"1\n"

    def close(self) -> None:
        """Stop the child."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._owner == os.getpid() and self._child.poll() is None:
            return self._child
        self._stop()
        self._child = child = subprocess.Popen(
            [sys.executable, "-m", "r1ci_jax.tasks.math_worker", str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", "")},
            bufsize=0,
        )
        self._owner = os.getpid()
        if _line(child, _START_SECONDS) != b"ready\n":
            self._stop()
            raise UserError(
                "math-verify does not start; install it: pip install -r requirements.txt"
            )
        return child

    def _ask(self, child: subprocess.Popen[bytes], request: bytes) -> bytes | None:
        assert child.stdin is not None
        try:
            child.stdin.write(request)  # shorter than a pipe's buffer, so it never blocks
        except BrokenPipeError:
            return None
        return _line(child, self._seconds)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if self._owner == os.getpid():  # a forked process must not kill its parent's child
            child.kill()
            child.wait()
        else:
            child.returncode = 0  # not ours to wait for
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _line(child: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The next line of the child, or None when it is late or gone."""
    assert child.stdout is not None
    end, line = time.monotonic() + seconds, b""
    watched = select.poll()  # unlike select() it takes any file number
    watched.register(child.stdout, select.POLLIN)
    while not line.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not watched.poll(1000 * left):
            return None
        chunk = os.read(child.stdout.fileno(), 4096)
        if not chunk:
            return None
        line += chunk
    return line


CHECKER = Checker()
"""The process's own: a parser costs 100 MB."""
atexit.register(CHECKER.close)
os.register_at_fork(after_in_child=lambda: setattr(CHECKER, "_lock", threading.Lock()))
