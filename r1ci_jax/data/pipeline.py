"""Batches through Grain: deterministic order, a new one each epoch, resumable at any batch."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import grain
import numpy as np

from r1ci_jax.data.encoding import Encoded
from r1ci_jax.errors import UserError


class RandomAccess[Row](Protocol):
    """Rows by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...


class SequenceBatch(NamedTuple):
    """Rows of one supervised step, padded on the right."""

    tokens_BT: np.ndarray
    """int32; the padding id after a row's end."""
    loss_mask_BT: np.ndarray
    """bool: the policy chooses this token, so predicting it (from the one before) counts."""
    lengths_B: np.ndarray
    """int32: tokens before the padding; 0 in a row that only fills the last batch up."""


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
    shuffled = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    return Batches(shuffled.batch(batch_size, batch_fn=list), steps=None)


def sequence_batches(
    rows: Sequence[Encoded],
    batch_size: int,
    *,
    length: int,
    pad_id: int,
    epochs: int,
    seed: int,
) -> Batches[SequenceBatch]:
    """Batches of one shape for supervised fine-tuning; every row once an epoch.

    `length` is that of a padded row; `encoding.fitting_length` gives a short one.
    """
    if len(rows) == 0:
        raise UserError("there is no demonstration to train on; ask for more questions")
    shuffled = grain.MapDataset.source(rows).seed(seed).shuffle().repeat(epochs)
    batches = shuffled.batch(batch_size, batch_fn=_padder(batch_size, length, pad_id))
    return Batches(batches, steps=len(batches))


def _padder(
    batch_size: int, length: int, pad_id: int
) -> Callable[[Sequence[Encoded]], SequenceBatch]:
    def pad(rows: Sequence[Encoded]) -> SequenceBatch:
        batch = SequenceBatch(
            tokens_BT=np.full((batch_size, length), pad_id, np.int32),
            loss_mask_BT=np.zeros((batch_size, length), np.bool_),
            lengths_B=np.zeros(batch_size, np.int32),
        )
        for number, row in enumerate(rows):
            size = len(row.tokens_T)
            batch.tokens_BT[number, :size] = row.tokens_T
            batch.loss_mask_BT[number, :size] = row.sampled_T
            batch.lengths_B[number] = size
        return batch

    return pad
