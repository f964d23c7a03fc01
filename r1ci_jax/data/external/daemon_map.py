"""A map over threads that an interrupted process does not wait for."""

import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_WAKE_SECONDS: Final = 0.5
"""A signal that arrives just before a thread begins to wait does not wake it: the handler runs when
the wait ends. So no wait is longer than this."""


def map_in_threads[T, R](
    function: Callable[[T], R], items: Sequence[T], *, threads: int
) -> Iterator[R]:
    """Yield the results in the order of the items, `threads` of which are worked on at a time.

    The threads of `concurrent.futures` would keep an interrupted process from ending until the
    slowest request is answered; these end with it. When the caller stops early, no further item is
    begun.
    """
    futures = [concurrent.futures.Future[R]() for _ in items]
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                number = waiting.get_nowait()
                if not futures[number].set_running_or_notify_cancel():
                    continue
                try:
                    futures[number].set_result(function(items[number]))
                except BaseException as error:
                    futures[number].set_exception(error)

    try:
        for _ in range(min(threads, len(items))):
            threading.Thread(target=work, name="endpoint", daemon=True).start()
        for future in futures:
            while not future.done():
                concurrent.futures.wait([future], timeout=_WAKE_SECONDS)
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
