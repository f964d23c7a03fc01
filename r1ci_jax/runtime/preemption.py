"""Preemption: after SIGTERM or SIGHUP the run saves its state, then stops.

Preemptible TPUs and batch queues send SIGTERM some seconds before they take the machine; SIGHUP
comes when the terminal is closed or the connection is lost. Ctrl-C and SIGKILL end a run at once;
it still resumes from its last checkpoint.
"""

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from types import FrameType

from r1ci_jax.errors import Resume
from r1ci_jax.runtime import hosts

_requested = False
"""Module-level because a signal is sent to the process; only `handle_sigterm` sets it."""
_signal_name = "SIGTERM"
"""Signal that this host got; of another host's only the fact is known, and most are SIGTERM."""
_HANG_UP_NOTICE = b"r1ci: SIGHUP: saving, then stopping\n"
_NOTICE = b"r1ci: SIGTERM: saving, then stopping; a second one ends the run at once\n"


@contextlib.contextmanager
def handle_sigterm() -> Iterator[None]:
    """Make the first SIGTERM request a stop; a second one acts as before. Main thread only.

    SIGHUP does the same, however often it comes: the terminal and the shell may each send one. It
    stays ignored where it was (nohup).
    """
    global _requested, _signal_name

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        _requested = True
        signal.signal(signal.SIGTERM, before)
        # Not `print`: the signal may interrupt one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _NOTICE)

    def hang_up(number: int, frame: FrameType | None) -> None:
        global _requested, _signal_name
        _requested, _signal_name = True, "SIGHUP"
        _drop_lost_terminal()
        with contextlib.suppress(OSError):
            os.write(2, _HANG_UP_NOTICE)

    before = signal.getsignal(signal.SIGTERM)
    before_hang_up = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGTERM, request)
    if before_hang_up != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, before_hang_up)
        _requested, _signal_name = False, "SIGTERM"


def _drop_lost_terminal() -> None:
    """Lead streams to a terminal that is gone nowhere; else the next progress line is an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):  # the stream is closed
            # A lost terminal is still a device, but does not answer as a terminal any more.
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere, stream)
    os.close(nowhere)


def is_requested() -> bool:
    """True if a host got one of the signals. A barrier: every host must call it."""
    return hosts.any_flag("stop", _requested)


def raise_if_preempted() -> None:
    """Raise `Resume` on every host if one got a signal. A barrier: every host must call it."""
    if is_requested():
        raise preempted_error()


def raise_if_preempted_locally() -> None:
    """Raise `Resume` if this host got a signal; the others end when they read of it."""
    if _requested:
        raise preempted_error()


def preempted_error(after: str = "") -> Resume:
    """Make the exception that ends a preempted run; it names the signal."""
    where = f" after {after}" if after else ""
    return Resume(f"stopped by {_signal_name}{where}; the same command resumes")
