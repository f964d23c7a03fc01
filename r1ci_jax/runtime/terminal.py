"""Standard streams that take any text, and text that cannot control a terminal."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from r1ci_jax.errors import UserError

# The escaped characters are terminal controls (C1, and C0 without line feed and tab), controls of
# the writing direction, invisible characters, and lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff\ud800-\udfff]"
)


def escape_control(text: str) -> str:
    r"""Escape characters that could control a terminal, such as `\x1b`."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shown(text: str, stream: TextIO) -> str:
    """Return text of a script, a model or a file as it may go to this stream.

    A terminal gets it escaped; a file or a pipe gets it as it is.
    """
    return escape_control(text) if stream.isatty() else text


def prepare_streams() -> None:
    """Make the standard streams take and give any text, whatever the locale and the caller left.

    Characters that the encoding lacks are written as escapes; bytes that are not in the encoding
    are read as replacement characters. A closed stderr is replaced by nothing.

    Raises:
        UserError: standard output is closed.
    """
    # A file that is opened later must not become one of the standard streams.
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
        raise UserError("standard output is closed; redirect it to a file or to /dev/null")
    for stream, errors in (
        (sys.stdin, "replace"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):  # tests put others in their place
            stream.reconfigure(errors=errors)


@contextlib.contextmanager
def reading_stdin() -> Iterator[TextIO]:
    """Yield standard input; if it is closed, or cannot be read, that is one line.

    Raises:
        UserError: It is closed, a directory, or a terminal that is gone.
    """
    if sys.stdin is None:
        raise UserError("standard input is closed; give a file, or redirect it from one")
    try:
        yield sys.stdin
    except OSError as error:
        raise UserError(
            f"cannot read standard input: {error.strerror}; redirect it from a file"
        ) from error


def finish_streams() -> OSError | None:
    """Write what is buffered; return the error if standard output does not take it.

    After a failure the stream leads nowhere, so that the interpreter does not try again.
    """
    failures = [_flush(stream) for stream in (sys.stdout, sys.stderr)]
    return failures[0]


def _flush(stream: TextIO) -> OSError | None:
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


def say(text: str) -> None:
    """Print a line on standard error, where nothing in it can control the terminal."""
    with contextlib.suppress(OSError):  # the reader is gone, so nobody can be told
        print(escape_control(text), file=sys.stderr)
