"""Preemption: after SIGTERM the run saves its state, then stops.

Preemptible TPUs and batch queues send SIGTERM some seconds before they take the machine. Ctrl-C and
SIGKILL end a run at once; it still resumes from its last checkpoint.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from r1ci_jax.errors import Resume
from r1ci_jax.runtime import hosts

_requested = False
"""Module-level because a signal is sent to the process; only `handle_sigterm` sets it."""
_NOTICE = b"r1ci: SIGTERM: saving, then stopping; a second one ends the run at once\n"


@contextlib.contextmanager
def handle_sigterm() -> Iterator[None]:
    """Make the first SIGTERM request a stop; a second one acts as before. Main thread only."""
    global _requested

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        _requested = True
        signal.signal(signal.SIGTERM, before)
        # Not `print`: the signal may interrupt one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _NOTICE)

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested = False


def is_requested() -> bool:
    """True if a host got SIGTERM. A barrier: every host must call it."""
    return hosts.any_flag("stop", _requested)


def raise_if_preempted() -> None:
    """Raise `Resume` on every host if one got SIGTERM. A barrier: every host must call it."""
    if is_requested():
        raise preempted_error()


def raise_if_preempted_locally() -> None:
    """Raise `Resume` if this host got SIGTERM; the others end when they read of it."""
    if _requested:
        raise preempted_error()


def preempted_error(after: str = "") -> Resume:
    """Make the exception that ends a preempted run."""
    where = f" after {after}" if after else ""
    return Resume(f"stopped by SIGTERM{where}; the same command resumes")
