"""A host that meets an error waits until it knows whether another one is the cause."""

import itertools
import json
import threading
import time
import types
from collections.abc import Iterator
from typing import override

import pytest

from r1ci_jax.errors import RESUME_EXIT_STATUS
from r1ci_jax.runtime import heartbeat
from r1ci_jax.runtime.heartbeat import Heartbeat
from tests.load import wait_until

PAUSE = 0.1
"""Seconds between two signs of life."""


class Store:
    """Two hosts' texts; the test speaks for the second."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.beat = 0

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self.texts[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [item for item in self.texts.items() if item[0].startswith(key)]

    def other_speaks(self) -> None:
        self.beat += 1
        self.texts["r1ci/life/1"] = json.dumps({"beat": self.beat, "ended": None})


class Watched(Heartbeat):
    """Notes how it would have ended the process."""

    end: tuple[int, str] | None = None

    @override
    def _end(self, status: int, line: str) -> None:
        self.end = status, line
        self._watching = False


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def lifeline(store: Store) -> Iterator[Watched]:
    made = Watched(store, "localhost:1", index=0, count=2, timeout=10 * PAUSE)
    yield made
    made.close()


def parting(lifeline: Heartbeat) -> threading.Thread:
    thread = threading.Thread(target=lifeline.leave, args=(ValueError("lost it"),), daemon=True)
    thread.start()
    return thread


def test_the_last_word_of_a_lost_host_is_no_sign_of_life(store: Store, lifeline: Watched) -> None:
    thread = parting(lifeline)
    store.other_speaks()  # said before it died, read after the error
    wait_until(lambda: lifeline.end is not None)
    assert lifeline.end is not None and thread.is_alive()
    assert lifeline.end[0] == RESUME_EXIT_STATUS and "host 1 is lost" in lifeline.end[1]
    while thread.is_alive():  # lets the thread go
        store.other_speaks()
        time.sleep(PAUSE)


def test_a_process_that_stood_still_does_not_take_the_others_for_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand seconds between any two looks, as if it were stopped each time."""
    looks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 1000.0 * next(looks), sleep=time.sleep)
    monkeypatch.setattr(heartbeat, "time", clock)
    watching = Watched(store, "localhost:1", index=0, count=2, timeout=10 * PAUSE)
    wait_until(lambda: watching.end is not None)
    watching.close()
    assert watching.end is not None and "host 1 is lost: no heartbeat for 1 s" in watching.end[1]
    assert next(looks) > 10, "each look counts for a tenth of the time at most"


def test_an_error_of_this_host_alone_ends_it(store: Store, lifeline: Watched) -> None:
    thread = parting(lifeline)
    while thread.is_alive():
        store.other_speaks()
        time.sleep(PAUSE / 10)
    assert lifeline.end is None
    assert json.loads(store.texts["r1ci/life/0"])["ended"] == [1, "ValueError: lost it"]
