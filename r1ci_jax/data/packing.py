"""Packing of several sequences into one row, because most are much shorter than the longest."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np

from r1ci_jax.data.batching import Batches
from r1ci_jax.data.encoding import Encoded
from r1ci_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedRow:
    """One row of length T; padding has segment 0."""

    tokens_T: np.ndarray
    positions_T: np.ndarray
    """Positions restart at 0 in every segment."""
    segments_T: np.ndarray
    """The number of the token's sequence, from 1; a token attends to its own segment only."""
    loss_mask_T: np.ndarray
    """True where the policy chose the token, so that its prediction has a loss."""


class PackedBatch[Array](NamedTuple):
    """Stacked `PackedRow`s, on the host or on devices."""

    tokens_BT: Array
    positions_BT: Array
    segments_BT: Array
    loss_mask_BT: Array


def pack(
    sequences: Sequence[Encoded],
    length: int,
    *,
    pad_id: int,
    max_sequences_per_row: int | None = None,
) -> list[PackedRow]:
    """Pack first-fit: put each sequence into the first row with room for it, in the given order.

    A row holds at most `most` of them; None means as many as fit.
    """
    rows: list[list[Encoded]] = []
    room: list[int] = []
    first_open = 0
    shortest = min((len(sequence.tokens_T) for sequence in sequences), default=0)
    for sequence in sequences:
        size = len(sequence.tokens_T)
        assert size <= length, f"a sequence of {size} tokens does not fit into a row of {length}"
        # Rows without room for even the shortest sequence are never tried again.
        while first_open < len(rows) and room[first_open] < shortest:
            first_open += 1
        for number in range(first_open, len(rows)):
            if room[number] >= size:
                break
        else:
            number = len(rows)
            rows.append([])
            room.append(length)
        rows[number].append(sequence)
        room[number] = 0 if len(rows[number]) == max_sequences_per_row else room[number] - size
    return [_row(members, length, pad_id) for members in rows]


def _row(members: Sequence[Encoded], length: int, pad_id: int) -> PackedRow:
    row = PackedRow(
        tokens_T=np.full(length, pad_id, np.int32),
        positions_T=np.zeros(length, np.int32),
        segments_T=np.zeros(length, np.int32),
        loss_mask_T=np.zeros(length, np.bool_),
    )
    start = 0
    for number, member in enumerate(members, start=1):
        size = len(member.tokens_T)
        span = slice(start, start + size)
        row.tokens_T[span] = member.tokens_T
        row.positions_T[span] = np.arange(size)
        row.segments_T[span] = number
        row.loss_mask_T[span] = member.sampled_T
        row.loss_mask_T[start] = False  # No token of its segment predicts it.
        start += size
    return row


def packed_batches(
    rows: Sequence[PackedRow], batch_size: int, *, epochs: int, seed: int
) -> Batches[PackedBatch[np.ndarray]]:
    """Batch packed rows in a new order each epoch, with every row once per epoch.

    The last batch is filled with rows that carry no loss.
    """
    if len(rows) == 0:
        raise UserError("there is no demonstration to train on; raise dataset.sft_per_task")
    shuffled = grain.MapDataset.source(rows).seed(seed).shuffle().repeat(epochs)

    def stack(members: Sequence[PackedRow]) -> PackedBatch[np.ndarray]:
        missing = batch_size - len(members)
        batch = PackedBatch(
            tokens_BT=np.stack([row.tokens_T for row in members]),
            positions_BT=np.stack([row.positions_T for row in members]),
            segments_BT=np.stack([row.segments_T for row in members]),
            loss_mask_BT=np.stack([row.loss_mask_T for row in members]),
        )
        return PackedBatch(*(np.pad(field, ((0, missing), (0, 0))) for field in batch))

    batches = shuffled.batch(batch_size, batch_fn=stack)
    return Batches(batches, steps=len(batches))
