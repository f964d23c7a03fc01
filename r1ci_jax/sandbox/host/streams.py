"""One output stream of a script: a pipe of its own, of which the host keeps head and tail."""

import io
import os
from typing import Final, Self

from r1ci_jax import utf8

CHUNK: Final = 1 << 16
PARTS: Final = 1 << 8
"""Largest number of buffers of an unprivileged user's pipe, a mebibyte in pages.

A pipe in packet mode (O_DIRECT) gives one packet, and so one buffer, to each read.
"""


class Stream:
    """A pipe that the host reads; as a context manager it closes both ends."""

    def __init__(self, limit: int = 0):
        reading, writing = os.pipe()
        self.reading = io.FileIO(reading, "rb")
        self.writing = io.FileIO(writing, "wb")
        os.set_blocking(reading, False)
        self.begin(limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both ends."""
        self.reading.close()
        self.writing.close()

    def begin(self, limit: int) -> None:
        """Discard the bytes read so far; keep at most `limit` of the bytes that follow."""
        self.limit = limit
        self._head = bytearray()
        self._tail = bytearray()
        self._count = 0

    @property
    def overflow(self) -> bool:
        """Return whether more bytes than the limit have arrived."""
        return self._count > self.limit

    def pump(self) -> bool:
        """Read once from the pipe; return False at the end of the stream or when nothing waits."""
        try:
            data = os.read(self.reading.fileno(), CHUNK)
        except BlockingIOError:
            return False
        self._count += len(data)
        room = self.limit - len(self._head)
        self._head += data[:room]
        if len(data) > room:
            self._tail += data[room:]
            del self._tail[: -self.limit]
        return bool(data)

    def drain(self) -> None:
        """Read all waiting bytes, up to a bound: a pipe has at most `PARTS` buffers."""
        for _ in range(PARTS):
            if not self.pump():
                return

    @property
    def kept(self) -> bytes:
        """Return all bytes, or head and tail with a note between, at most half the limit each.

        A character of UTF-8 that the cut would split is left out.
        """
        if not self.overflow:
            return bytes(self._head)
        half = self.limit // 2
        head = utf8.drop_cut_end(bytes(self._head[:half]))
        tail = bytes((self._head + self._tail)[-half:]) if half else b""
        # The limit ended the script while it wrote, so the end may be cut too.
        tail = utf8.drop_cut_end(utf8.drop_cut_start(tail))
        note = b"\n... [%d bytes left out] ...\n" % (self._count - len(head) - len(tail))
        return head + note + tail

    def text(self) -> str:
        """Return the kept bytes as text, with invalid UTF-8 replaced."""
        return self.kept.decode("utf-8", "replace")
