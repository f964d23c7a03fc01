"""Batches through Grain: their order is deterministic, new in each epoch, and resumable."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import grain

from r1ci_jax.errors import UserError

type RandomAccess[Row] = Sequence[Row] | grain.sources.RandomAccessDataSource[Row]
"""A source of rows by index."""


class Batches[Batch]:
    """An iterator over batches whose position can be saved and restored."""

    def __init__(self, dataset: grain.MapDataset[Batch], steps: int | None) -> None:
        """Wrap a dataset of whole batches; `steps` is their number, None when they never end."""
        # The rows are in memory or one small read away, so threads would only contend for the GIL.
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator = iter(dataset.to_iter_dataset(options))
        self.steps = steps

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> bytes:
        """Return the position after the last batch taken, for a checkpoint."""
        return json.dumps(self._iterator.get_state()).encode()

    def set_state(self, state: bytes) -> None:
        """Continue from a saved position: the next batch is the one that would have followed it."""
        self._iterator.set_state(json.loads(state))


class Rows[Row]:
    """Takes rows one by one from batches; its position may lie within a batch."""

    def __init__(self, batches: Batches[list[Row]]) -> None:
        self._batches = batches
        self._start = batches.get_state()
        """State before the batch that rows are taken from."""
        self._left: list[Row] = []
        self._num_taken = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        if not self._left:
            self._start = self._batches.get_state()
            self._left, self._num_taken = list(next(self._batches)), 0
        self._num_taken += 1
        return self._left.pop(0)

    def get_state(self) -> dict[str, str | int]:
        """Return the position, as JSON; between two batches it is that of the batches alone."""
        if not self._left:
            return {"batches": self._batches.get_state().decode()}
        return {"batches": self._start.decode(), "taken": self._num_taken}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of `get_state`, which may have more entries."""
        self._batches.set_state(state["batches"].encode())
        self._left = []
        for _ in range(state.get("taken", 0)):
            next(self)


def prompt_batches[Row](
    source: RandomAccess[Row], batch_size: int, *, seed: int
) -> Batches[list[Row]]:
    """Return endless batches of rows for reinforcement learning, with every row once per epoch.

    A batch may span two epochs, so every batch is full.
    """
    if len(source) == 0:
        raise UserError("there is no question to train on; choose other groups or more questions")
    numbers = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    return _batches(source, numbers, batch_size)


def count_earlier(share: float, batch_size: int) -> int:
    """Return how many rows of a batch of `replay_batches` are earlier ones."""
    return round(share * batch_size)


def replay_batches[Row](
    new: RandomAccess[Row], earlier: RandomAccess[Row], batch_size: int, share: float, *, seed: int
) -> Batches[list[Row]]:
    """Return endless batches that take a share of their rows from `earlier`, the rest from `new`.

    The share is rounded to whole rows. These are spread evenly over a batch, so that each of its
    minibatches has its part of them. Each source gives every row once per epoch of its own.
    """
    num_earlier = count_earlier(share, batch_size)
    if num_earlier in (0, batch_size):
        return prompt_batches(earlier if num_earlier else new, batch_size, seed=seed)
    if len(new) == 0 or len(earlier) == 0:
        raise UserError("there is no question to train on; choose other groups or more questions")
    is_earlier = [
        (place + 1) * num_earlier // batch_size > place * num_earlier // batch_size
        for place in range(batch_size)
    ]

    def numbers(source: RandomAccess[Row], size: int) -> grain.MapDataset[list[int]]:
        shuffled = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
        return shuffled.batch(size, drop_remainder=True, batch_fn=list)  # endless: no remainder

    earlier_numbers = numbers(earlier, num_earlier)

    def read(index: int, batch: list[int]) -> list[Row]:
        rows = (new[number] for number in batch)
        chosen_earlier = earlier_numbers[index]
        assert chosen_earlier is not None, "an endless dataset ended"
        replayed = (earlier[number] for number in chosen_earlier)
        return [next(replayed if chosen else rows) for chosen in is_earlier]

    return Batches(numbers(new, batch_size - num_earlier).map_with_index(read), steps=None)


def _batches[Row](
    source: RandomAccess[Row], numbers: grain.MapDataset[int], batch_size: int
) -> Batches[list[Row]]:
    """Return batches of the rows with these numbers.

    Grain orders the numbers, and the rows are read one batch at a time: passing an element through
    Grain takes longer than reading it.
    """

    def read(batch: list[int]) -> list[Row]:
        return [source[number] for number in batch]

    batches = numbers.batch(batch_size, drop_remainder=True, batch_fn=list)  # endless: no remainder
    return Batches(batches.map(read), steps=None)
