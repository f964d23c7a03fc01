"""Limits of tests that hold on a machine however busy.

A verdict never depends on the clock: a test waits for an event, and gives up only so that a stall
fails instead of hanging. What must be fast is bounded in processor time of its own thread, far
above what it takes, so that only another order of growth fails.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

PATIENCE = 600.0
"""Seconds after which an event that never came counts as a stall."""


def wait_until(condition: Callable[[], bool], what: str = "the event") -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def at_most(cpu_seconds: float) -> Iterator[None]:
    """Bound the processor time of this thread."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < cpu_seconds
