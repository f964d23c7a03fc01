"""Batches through Grain: deterministic order, a new one each epoch, resumable at any batch."""

import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

import grain

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

type RandomAccess[Row] = Sequence[Row] | grain.sources.RandomAccessDataSource[Row]
"""Rows by number."""

Trait = Literal["task", "suite", "difficulty"]
"""What a mixture weights."""

_NAMED: Final = 12
"""Names listed in one error message."""


class Batches[Batch]:
    """An iterator over batches whose place can be saved and restored."""

    def __init__(self, dataset: grain.MapDataset[Batch], steps: int | None) -> None:
        """Wrap a dataset of whole batches; `steps` is their number, None when they never end."""
        # The rows are in memory or one small read away: threads would only contend for the GIL.
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator = iter(dataset.to_iter_dataset(options))
        self.steps = steps

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> bytes:
        """The place after the last batch taken, for a checkpoint."""
        return json.dumps(self._iterator.get_state()).encode()

    def set_state(self, state: bytes) -> None:
        """Go on from a saved place: the next batch is the one that would have come then."""
        self._iterator.set_state(json.loads(state))


def prompt_batches[Row](
    source: RandomAccess[Row], batch_size: int, *, seed: int
) -> Batches[list[Row]]:
    """Endless batches of rows for reinforcement learning; every row once an epoch.

    A batch may straddle two epochs, so every batch is full.
    """
    if len(source) == 0:
        raise UserError("there is no question to train on; choose other groups or more questions")
    numbers = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    return _batches(source, numbers, batch_size)


def mixed_batches(
    source: RandomAccess[Example],
    batch_size: int,
    *,
    by: Trait,
    weights: Mapping[str, float] | None = None,
    seed: int,
) -> Batches[list[Example]]:
    """Endless batches that hold tasks, suites or difficulties in given proportions.

    Args:
        source: The questions; all are read once, to learn where each belongs.
        batch_size: Questions a batch; every batch is full.
        by: What is weighted.
        weights: Share of each task, suite or difficulty ("1", "2", …), up to a common factor; what
            is not named is left out. None: all equally often, however many questions they have.
        seed: Decides the order. After any number of questions each share is met to within one, and
            each group repeats itself in a new order only when all its questions were asked.

    Raises:
        UserError: a weight that is not positive, or of something without questions.
    """
    members: dict[str, list[int]] = {}
    for number in range(len(source)):
        members.setdefault(trait(source[number], by), []).append(number)
    chosen = dict.fromkeys(members, 1.0) if weights is None else weights
    _check_weights(chosen, members, by)
    groups = [
        grain.MapDataset.source(_Shuffled(members[name], f"{seed}/{name}"))
        for name in sorted(chosen)
    ]
    numbers = grain.MapDataset.mix(groups, [chosen[name] for name in sorted(chosen)])
    return _batches(source, numbers, batch_size)


def trait(example: Example, by: Trait) -> str:
    """The task, the suite or the difficulty of a question."""
    match by:
        case "task":
            return example.task
        case "suite":
            return registry.get(example.task).suite
        case "difficulty":
            return str(example.difficulty)


def _check_weights(
    weights: Mapping[str, float], members: Mapping[str, Sequence[int]], by: Trait
) -> None:
    for name, weight in weights.items():
        if name not in members:
            known = ", ".join(sorted(members)[:_NAMED])
            raise UserError(f"no question of {by} {name!r} is there; choose among {known}")
        if not 0 < weight < math.inf:
            raise UserError(f"the weight of {by} {name!r} is {weight}; it must be positive")
    if not weights:
        raise UserError(f"no {by} to train on; name at least one, or make more questions")


class _Shuffled:
    """Numbers without end: each of them once an epoch, every epoch in an order of its own.

    Grain's own shuffle walks through 2**16 places, so that one of 200 costs it a tenth of a
    millisecond; here an epoch's order is drawn once.
    """

    def __init__(self, numbers: Sequence[int], name: str) -> None:
        self._numbers = numbers
        self._name = name
        self._epoch = -1
        self._order: list[int] = []

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(index, len(self._numbers))
        if epoch != self._epoch:
            # Hashed by random: seeds that are text do not depend on PYTHONHASHSEED.
            self._order = list(self._numbers)
            random.Random(f"{self._name}/{epoch}").shuffle(self._order)
            self._epoch = epoch
        return self._order[place]


def _batches[Row](
    source: RandomAccess[Row], numbers: grain.MapDataset[int], batch_size: int
) -> Batches[list[Row]]:
    """Batches of the rows with these numbers.

    Grain orders numbers and the rows are read a batch at a time: what Grain does with each element
    that passes through it takes longer than reading one.
    """

    def read(batch: list[int]) -> list[Row]:
        return [source[number] for number in batch]

    return Batches(numbers.batch(batch_size, batch_fn=list).map(read), steps=None)
