"""One output of a script: read from its pipe, kept up to a limit, its head and its tail."""

import fcntl
import io
import os
from typing import Final, Self

CHUNK: Final = 1 << 16


class Stream:
    """The host's end of a pipe; as a context manager it closes both ends."""

    def __init__(self, limit: int = 0):
        reading, writing = os.pipe()
        self.reading = io.FileIO(reading, "rb")
        self.writing = io.FileIO(writing, "wb")
        os.set_blocking(reading, False)
        self._pipe_bytes = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
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
        """Forget what was read; keep at most `limit` bytes of what follows."""
        self.limit = limit
        # The jail's user opens it by its name in /proc. The last script may have changed its mode,
        # where it runs as its owner, and its size.
        os.fchmod(self.reading.fileno(), 0o622)
        if fcntl.fcntl(self.reading, fcntl.F_GETPIPE_SZ) != self._pipe_bytes:
            fcntl.fcntl(self.reading, fcntl.F_SETPIPE_SZ, self._pipe_bytes)
        self._head = bytearray()
        self._tail = bytearray()
        self._count = 0

    @property
    def overflow(self) -> bool:
        """More than the limit has arrived."""
        return self._count > self.limit

    def pump(self) -> bool:
        """Read what is there, once; False at the end of the stream or when nothing waits."""
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
        """Read what waits, within reason: a pipe holds a mebibyte at most."""
        for _ in range(1 + (1 << 20) // CHUNK):
            if not self.pump():
                return

    @property
    def kept(self) -> bytes:
        """Everything, or the first and the last half of the limit with a note between them."""
        if not self.overflow:
            return bytes(self._head)
        half = self.limit // 2
        tail = (self._head + self._tail)[-half:] if half else b""
        left_out = self._count - half - len(tail)
        note = b"\n... [%d bytes left out] ...\n" % left_out
        return bytes(self._head[:half]) + note + bytes(tail)

    def text(self) -> str:
        """What was kept, invalid UTF-8 replaced."""
        return self.kept.decode("utf-8", "replace")
