"""Send files that a script made to the host; this code runs inside the jail and follows no link.

It runs after every process of the script has ended. The host sees only bytes on a pipe: it opens
no file that a script has touched.
"""

import os
import stat


def send(scratch: str, names: tuple[str, ...], file_bytes: int, fd: int) -> None:
    """Write each regular file below `scratch` as (name, content), each part after its length."""
    for name in names:
        content = read(scratch, name, file_bytes)
        if content is not None:
            for part in (name.encode("utf-8", "surrogateescape"), content):
                write(fd, b"%010d" % len(part))
                write(fd, part)
    os.close(fd)


def read(scratch: str, name: str, file_bytes: int) -> bytes | None:
    """Read one file; return None when it is missing, not plain, below a link, or too large."""
    *directories, last = name.split("/")
    opened = []
    try:
        here = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        opened.append(here)
        for directory in directories:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            here = os.open(directory, flags, dir_fd=here)
            opened.append(here)
        # Without O_NONBLOCK, opening a FIFO would wait for its other end.
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        opened.append(file)
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > file_bytes:
            return None
        parts = []
        while part := os.read(file, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        for fd in opened:
            os.close(fd)


def write(fd: int, data: bytes) -> None:
    """Write all of `data`."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
