"""A map over threads: its order, its errors, and an interrupt that does not wake the caller."""

import signal
import sys
import threading
import time
import traceback

import pytest

from r1ci_jax.data.external.daemon_map import map_in_threads
from tests.load import PATIENCE


def test_results_come_in_the_order_of_the_items() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(PATIENCE)
        if item == 1:
            second.set()
        return 10 * item

    assert list(map_in_threads(work, range(5), threads=2)) == [0, 10, 20, 30, 40]


def test_an_error_is_raised_where_its_result_is_due() -> None:
    results = map_in_threads(lambda item: 1 // item, [1, 0, 1], threads=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("when", ["threads start", "the caller waits"])
def test_an_interrupt_that_wakes_nobody_ends_the_wait(when: str) -> None:
    """A worker gets the signal, so that it does not end the main thread's wait."""
    over, begun, ended = threading.Event(), list[int](), list[int]()
    caller = threading.get_ident()

    def work(item: int) -> None:
        begun.append(item)
        if item > 0:
            return
        while when == "the caller waits" and not is_waiting(caller):
            time.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        over.wait(PATIENCE)
        ended.append(item)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(map_in_threads(work, range(9), threads=1))
        assert not ended
        over.set()
        for thread in threading.enumerate():
            if thread.name == "endpoint":
                thread.join(PATIENCE)
        assert begun == [0]
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)


def is_waiting(thread: int) -> bool:
    """Return True if a thread waits, and not only for another one to start."""
    frame = sys._current_frames()[thread]
    codes = [each.f_code for each, _ in traceback.walk_stack(frame)]
    is_starting = threading.Thread.start.__code__ in codes
    return codes[0] is threading.Condition.wait.__code__ and not is_starting
