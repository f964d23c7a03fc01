"""A stop that loses nothing: SIGTERM asks for it, and the work ends where it is saved.

Machines that are taken back (preemptible TPUs, batch queues) send SIGTERM some seconds before they
are. Interrupt (Ctrl-C) and SIGKILL end a run at once; it resumes all the same, from its last
checkpoint.
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
_NOTICE = b"r1ci: SIGTERM: saving, then stopping; a second one ends the run at once\n"


@contextlib.contextmanager
def handle_sigterm() -> Iterator[None]:
    """Within, the first SIGTERM only asks; a second one does what it did before. Main thread."""
    global _requested  # a signal reaches the process, not an object

    def ask(number: int, frame: FrameType | None) -> None:
        global _requested
        _requested = True
        signal.signal(signal.SIGTERM, before)
        # Not print: the signal may have come within one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _NOTICE)

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested = False


def is_requested() -> bool:
    """Whether the run should stop at this point, to which every host comes."""
    return hosts.any_flag("stop", _requested)


def raise_if_preempted() -> None:
    """End the run here if it was asked to stop: nothing is lost that was finished."""
    if is_requested():
        raise preempted_error()


def raise_if_preempted_locally() -> None:
    """`heed` where this host is by itself; the others end when they hear of it."""
    if _requested:
        raise preempted_error()


def preempted_error(after: str = "") -> Resume:
    """What ends a run that was asked to stop."""
    where = f" after {after}" if after else ""
    return Resume(f"stopped by SIGTERM{where}; the same command resumes")
