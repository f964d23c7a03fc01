"""Heartbeats between hosts, so that none waits forever for a lost one.

Each host writes a heartbeat to the key-value store of `jax.distributed` every few seconds and reads
those of the others. A host that ends with an error writes that too. A host that misses another, or
reads that it ended, ends its own process with one line, whatever its main thread is doing: that may
be a device operation that waits for the lost host.

The store is in the process of host 0. When that is gone, JAX ends the others by abort(), which no
setting prevents; a SIGABRT handler then prints what happened, below JAX's own report.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import threading
import time
from typing import Any, Final, Protocol

from r1ci_jax.errors import (
    INTERRUPTED_EXIT_STATUS,
    RESUME_EXIT_STATUS,
    USER_ERROR_EXIT_STATUS,
    Resume,
    UserError,
)

RESUME_HINT: Final = "the same command on all hosts resumes"
_PREFIX: Final = "r1ci/life/"
_MAX_INTERVAL: Final = 2.0
"""Longest time in seconds between two heartbeats."""


class Store(Protocol):
    """The methods that are used of JAX's key-value client."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Write a value."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Read all values whose key begins with `key`."""
        ...


class Heartbeat:
    """Publishes the heartbeat of one host and detects lost ones."""

    def __init__(
        self, store: Store, coordinator: str, index: int, count: int, timeout: float
    ) -> None:
        """Start; a host is lost after `timeout` seconds. Main thread only: a signal is handled."""
        self._store = store
        self._coordinator = coordinator
        self._index = index
        self._others = [host for host in range(count) if host != index]
        self._timeout = timeout
        self._interval = min(timeout / 10, _MAX_INTERVAL)
        self._ended: tuple[int, str] | None = None
        """Exit status and message with which this host ends."""
        self._heard = {host: (time.monotonic(), "") for host in self._others}
        """Time and text of the last new heartbeat of each other host."""
        self._watching = True
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=task, name=f"heartbeat{task.__name__}", daemon=True)
            for task in (self._publish_and_poll, self._detect_lost_hosts)
        ]
        self._handler = _call_on_abort(self._explain_abort)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, after the run has ended on all hosts."""
        self._watching = False
        self._closed.set()
        for thread in self._threads:
            thread.join()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def leave(self, error: BaseException) -> None:
        """Publish why this host ends, and return when it may exit.

        The loss of another host may have caused the error, so this waits until all others are
        known to be alive; if one is not, `_detect_lost_hosts` ends the process and names it.
        """
        if not isinstance(error, Resume | KeyboardInterrupt):
            # The first heartbeat may be older than the error; the second is not.
            for _ in range(2):
                self._poll_all(since=time.monotonic())
        self._watching = False
        self._leave(*_status(error))

    def _poll_all(self, since: float) -> None:
        while any(heard <= since for heard, _ in self._heard.values()):
            time.sleep(self._interval / 4)

    def _leave(self, status: int, message: str) -> None:
        self._ended = status, message
        with contextlib.suppress(RuntimeError):  # the store is gone with host 0
            self._publish(0)
        if self._index == 0:
            # The store ends with this process: the others must read it first.
            deadline = time.monotonic() + 5 * self._interval
            while time.monotonic() < deadline and not all(
                _ending(text) for _, text in self._heard.values()
            ):
                time.sleep(self._interval / 4)

    def _publish_and_poll(self) -> None:
        beat = 0
        while True:
            beat += 1
            with contextlib.suppress(RuntimeError):  # the store is gone, and with it all heartbeats
                self._publish(beat)
                for key, text in self._store.key_value_dir_get(_PREFIX):
                    host = int(key.rpartition("/")[2])
                    if host != self._index and text != self._heard[host][1]:
                        self._heard[host] = (time.monotonic(), text)
            if self._closed.wait(self._interval):
                return

    def _publish(self, beat: int) -> None:
        text = json.dumps({"beat": beat, "ended": self._ended})
        self._store.key_value_set(f"{_PREFIX}{self._index}", text, allow_overwrite=True)

    def _detect_lost_hosts(self) -> None:
        """Run in a thread of its own: a call to a store that is gone may not return."""
        silence = dict.fromkeys(self._others, 0.0)
        """Seconds in which this process ran and heard nothing new of that host."""
        last_text = dict.fromkeys(self._others, "")
        last_look = time.monotonic()
        while not self._closed.wait(self._interval / 4):
            now = time.monotonic()
            # Who was stopped, or on a machine that stood still, could hear nobody meanwhile.
            passed, last_look = min(now - last_look, self._interval), now
            for host, (_, text) in self._heard.items():
                silence[host] = silence[host] + passed if text == last_text[host] else 0.0
                last_text[host] = text
                if not self._watching:
                    continue
                if (ended := _ending(text)) is not None:
                    self._end(ended[0], f"host {host} ended the run: {ended[1]}")
                if silence[host] > self._timeout:
                    self._end(
                        RESUME_EXIT_STATUS,
                        f"host {host} is lost: no heartbeat for {self._timeout:g} s; {RESUME_HINT}",
                    )

    def _end(self, status: int, line: str) -> None:
        self._leave(status, line)
        _print_line(line)
        os._exit(status)

    def _explain_abort(self) -> None:
        """Explain JAX's abort of a host that lost its coordinator; any other abort is a defect."""
        if self._ended is not None:
            os._exit(self._ended[0])
        host, _, port = self._coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
        except OSError:
            _print_line(f"host 0, the coordinator, is lost; {RESUME_HINT}")
            os._exit(RESUME_EXIT_STATUS)


def _status(error: BaseException) -> tuple[int, str]:
    text = " ".join(str(error).split())
    match error:
        case Resume():
            return RESUME_EXIT_STATUS, text
        case KeyboardInterrupt():
            return INTERRUPTED_EXIT_STATUS, "interrupted"
        case UserError():
            return USER_ERROR_EXIT_STATUS, text
    return 1, f"{type(error).__name__}: {text[:300]}"


def _ending(text: str) -> tuple[int, str] | None:
    ended = json.loads(text)["ended"] if text else None
    return None if ended is None else (ended[0], ended[1])


def _print_line(line: str) -> None:
    """Write to stderr without `print`, whose lock another thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"\nr1ci: {line}\n".encode())


def _call_on_abort(act: Any) -> Any:
    """Call `act` when any thread aborts the process; the caller must keep the returned handler.

    Python's own signal handlers run later, in the main thread, which abort() does not allow.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _number: act())
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    return handler
