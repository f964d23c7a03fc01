"""Packed rows hold every sequence once and whole, and never teach across a border."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1ci_jax.data import packing
from r1ci_jax.data.encoding import Encoded
from r1ci_jax.errors import UserError

PAD = 999


def sequences(sizes: list[int]) -> list[Encoded]:
    """Sequence i is i, i, i … with its first third as prompt."""
    return [
        Encoded(tokens_T=np.full(size, i, np.int32), sampled_T=np.arange(size) >= size // 3)
        for i, size in enumerate(sizes)
    ]


def unpack(rows: list[packing.PackedRow]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    found = []
    for row in rows:
        for segment in range(1, row.segments_T.max() + 1):
            place = row.segments_T == segment
            found.append((row.tokens_T[place], row.positions_T[place], row.loss_mask_T[place]))
    return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_every_sequence_stands_whole_in_one_segment(sizes: list[int]) -> None:
    given_sequences = sequences(sizes)
    rows = packing.pack(given_sequences, 12, pad_id=PAD)
    assert len(rows) <= len(sizes)
    found = sorted(unpack(rows), key=lambda part: int(part[0][0]))
    assert len(found) == len(sizes)
    for (tokens_T, positions_T, mask_T), sequence in zip(found, given_sequences, strict=True):
        np.testing.assert_array_equal(tokens_T, sequence.tokens_T)
        np.testing.assert_array_equal(positions_T, np.arange(len(tokens_T)))
        # The first token has nothing of its own before it: predicting it would cross the border.
        np.testing.assert_array_equal(mask_T[1:], sequence.sampled_T[1:])
        assert not mask_T[0]
    for row in rows:
        padding = row.segments_T == 0
        assert (row.tokens_T[padding] == PAD).all() and not row.loss_mask_T[padding].any()
        # Segments stand one after the other, padding last.
        assert (np.diff(np.where(padding, 99, row.segments_T)) >= 0).all()


def test_first_fit_by_hand() -> None:
    rows = packing.pack(sequences([6, 5, 4, 3, 2]), 10, pad_id=PAD)
    # 6 opens a row, 5 another; 4 joins 6, 3 joins 5, 2 joins 5 and 3.
    assert [row.tokens_T.tolist() for row in rows] == [
        [0] * 6 + [2] * 4,
        [1] * 5 + [3] * 3 + [4] * 2,
    ]


def test_one_a_row_where_told() -> None:
    rows = packing.pack(sequences([6, 2, 4]), 10, pad_id=PAD, max_sequences_per_row=1)
    assert [row.tokens_T.tolist() for row in rows] == [
        [0] * 6 + [PAD] * 4,
        [1] * 2 + [PAD] * 8,
        [2] * 4 + [PAD] * 6,
    ]
    rows = packing.pack(sequences([2, 2, 2]), 10, pad_id=PAD, max_sequences_per_row=2)
    assert [int(row.segments_T.max()) for row in rows] == [2, 1]


def test_a_sequence_longer_than_a_row_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="13 tokens does not fit into a row of 12"):
        packing.pack(sequences([13]), 12, pad_id=PAD)


def test_batches_hold_every_row_once_an_epoch_in_new_orders() -> None:
    rows = packing.pack(sequences([5] * 10), 6, pad_id=PAD)
    batches = packing.packed_batches(rows, 4, epochs=3, seed=1)
    assert batches.steps == 8
    seen: list[int] = []
    for batch in batches:
        assert {field.shape for field in batch} == {(4, 6)}
        real = batch.segments_BT[:, 0] == 1
        assert not batch.loss_mask_BT[~real].any()
        seen += batch.tokens_BT[real, 0].tolist()
    epochs = [seen[i : i + 10] for i in range(0, 30, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = packing.packed_batches(rows, 4, epochs=3, seed=2)
    assert next(other).tokens_BT[:, 0].tolist() != seen[:4]


@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_a_resumed_iterator_equals_an_uninterrupted_one(taken: int) -> None:
    rows = packing.pack(sequences([5] * 10), 6, pad_id=PAD)
    going, fresh = (packing.packed_batches(rows, 4, epochs=3, seed=1) for _ in range(2))
    for _ in range(taken):
        next(going)
    fresh.set_state(going.get_state())
    rest, wanted = list(fresh), list(going)
    assert len(rest) == 8 - taken
    np.testing.assert_equal(rest, wanted)


def test_no_demonstrations_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="no demonstration to train on; raise dataset"):
        packing.packed_batches([], 4, epochs=1, seed=0)
