"""Hosts of a run watch each other, so that none waits for ever for one that is gone.

Each host says every few seconds that it lives, in the store of `jax.distributed`, and reads what
the others say. Whoever ends with an error says that too. A host that misses another, or reads that
it ended, ends its own process with one line, wherever its main thread stands: that may be an
operation of the devices that waits for the lost host.

The store lives in the first host's process. When that is gone, JAX ends the others by abort(),
which no setting prevents; a handler of SIGABRT then says what happened, below JAX's own report.
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

from r1ci_jax.errors import INTERRUPTED, RESUME, USER_ERROR, Resume, UserError

RESUME_HINT: Final = "the same command on all hosts resumes"
_PREFIX: Final = "r1ci/life/"
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two signs of life, at most."""


class Store(Protocol):
    """What is used of JAX's client of its key-value store."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Write."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Read all that begins with `key`."""
        ...


class Heartbeat:
    """The signs of life of one host, and what it hears of the others."""

    def __init__(
        self, store: Store, coordinator: str, index: int, count: int, silence: float
    ) -> None:
        """A host counts as lost after `silence` seconds. Main thread: it handles a signal."""
        self._store = store
        self._coordinator = coordinator
        self._index = index
        self._others = [host for host in range(count) if host != index]
        self._silence = silence
        self._pause = min(silence / 10, _LONGEST_PAUSE)
        self._ended: tuple[int, str] | None = None
        """Status and message with which this host ends."""
        self._heard = {host: (time.monotonic(), "") for host in self._others}
        """When each of the others last said something new, and what."""
        self._watching = True
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=task, name=f"lifeline{task.__name__}", daemon=True)
            for task in (self._publish_and_poll, self._detect_lost_hosts)
        ]
        self._handler = _call_on_abort(self._explain_abort)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop: the run has ended on all hosts."""
        self._watching = False
        self._closed.set()
        for thread in self._threads:
            thread.join()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def leave(self, error: BaseException) -> None:
        """Tell the others why this host ends; returns when it may.

        An error that the loss of another host may have caused waits until they all are known to
        live; else `_watch` ends the process and names the one that is lost.
        """
        if not isinstance(error, Resume | KeyboardInterrupt):
            # What is heard first may have been said before the error; what follows it was not.
            for _ in range(2):
                self._poll_all(since=time.monotonic())
        self._watching = False
        self._leave(*_status(error))

    def _poll_all(self, since: float) -> None:
        while any(heard <= since for heard, _ in self._heard.values()):
            time.sleep(self._pause / 4)

    def _leave(self, status: int, message: str) -> None:
        self._ended = status, message
        with contextlib.suppress(RuntimeError):  # the store is gone with its host
            self._publish(0)
        if self._index == 0:
            # The store ends with this process: the others must have read it before.
            deadline = time.monotonic() + 5 * self._pause
            while time.monotonic() < deadline and not all(
                _ending(text) for _, text in self._heard.values()
            ):
                time.sleep(self._pause / 4)

    def _publish_and_poll(self) -> None:
        beat = 0
        while True:
            beat += 1
            with contextlib.suppress(RuntimeError):  # the store is gone: all are silent
                self._publish(beat)
                for key, text in self._store.key_value_dir_get(_PREFIX):
                    host = int(key.rpartition("/")[2])
                    if host != self._index and text != self._heard[host][1]:
                        self._heard[host] = (time.monotonic(), text)
            if self._closed.wait(self._pause):
                return

    def _publish(self, beat: int) -> None:
        text = json.dumps({"beat": beat, "ended": self._ended})
        self._store.key_value_set(f"{_PREFIX}{self._index}", text, allow_overwrite=True)

    def _detect_lost_hosts(self) -> None:
        """In a thread of its own: a call to a store that is gone may not return."""
        while not self._closed.wait(self._pause / 4):
            now = time.monotonic()
            for host, (heard, text) in self._heard.items():
                if not self._watching:
                    continue
                if (ended := _ending(text)) is not None:
                    self._end(ended[0], f"host {host} ended the run: {ended[1]}")
                if now - heard > self._silence:
                    self._end(
                        RESUME,
                        f"host {host} is lost: nothing was heard of it for {self._silence:g} s; "
                        f"{RESUME_HINT}",
                    )

    def _end(self, status: int, line: str) -> None:
        self._leave(status, line)
        _say(line)
        os._exit(status)

    def _explain_abort(self) -> None:
        """A host without its coordinator is aborted by JAX; any other abort is a defect."""
        if self._ended is not None:
            os._exit(self._ended[0])
        host, _, port = self._coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
        except OSError:
            _say(f"host 0, which coordinates the others, is lost; {RESUME_HINT}")
            os._exit(RESUME)


def _status(error: BaseException) -> tuple[int, str]:
    text = " ".join(str(error).split())
    match error:
        case Resume():
            return RESUME, text
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
        case UserError():
            return USER_ERROR, text
    return 1, f"{type(error).__name__}: {text[:300]}"


def _ending(text: str) -> tuple[int, str] | None:
    ended = json.loads(text)["ended"] if text else None
    return None if ended is None else (ended[0], ended[1])


def _say(line: str) -> None:
    """Not print: another thread may stand within one."""
    with contextlib.suppress(OSError):
        os.write(2, f"\nr1ci: {line}\n".encode())


def _call_on_abort(act: Any) -> Any:
    """Have `act` called when the process aborts, by whatever thread; returns what must be kept.

    Python's own handlers run in the main thread later, but abort() allows no later.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _number: act())
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    return handler
