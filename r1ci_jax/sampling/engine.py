"""The slot sampler as the host sees it: put tokens into slots, decode a chunk, read what came out.

The engine holds the device state and the policy's weights in decoder layout. It does not decide
what a pause means, who enters a free slot, or when: that is the rollout's business. Every call's
shapes come from the configuration, so after the first use of each bucket nothing compiles again.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from r1ci_jax.core.config import SamplerConfig
from r1ci_jax.model import qwen2
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sampling import decode, pause


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """Tokens that go into a slot, after which it decodes.

    `tokens[-1]` becomes the pending token; `position` is the absolute position of `tokens[0]`.
    """

    slot: int
    tokens: tuple[int, ...]
    position: int
    budget: int
    """Tokens the slot may sample from here on."""
    rollout: tuple[int, int]
    """(rollout id, member): with the run's seed the only source of randomness."""
    temperature: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emitted:
    """What one slot produced in a chunk."""

    slot: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    paused: bool
    """True when the slot stopped: automaton, end of text, budget, or end of the cache row."""
    stop: int
    """Why the automaton asked for a pause; 0 if it did not."""


class Engine:
    """Slots on the device. Not thread-safe; one caller drives it."""

    def __init__(
        self,
        config: Qwen2Config,
        sampler: SamplerConfig,
        table: pause.TokenTable,
        *,
        eos_id: int,
        seed: int,
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        """Empty slots, without weights; `dtype` is that of the cache."""
        assert table.next_state_AV.shape[1] <= config.vocab_size, "more tokens than embeddings"
        self.config = config
        self.sampler = sampler
        self._eos_id = eos_id
        self._start = table.start
        self._table = decode.PauseTable(
            next_state_AV=jnp.asarray(table.next_state_AV), stop_A=jnp.asarray(table.stop_A)
        )
        self._run_key = jax.random.key(seed)
        self._weights: qwen2.DecoderWeights | None = None
        self._state = decode.init_slots(config, sampler.slots, sampler.cache_length, dtype)

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on; what the cache holds stays as it is."""
        self._weights = weights

    def warm_up(self) -> None:
        """Compile every shape that will be used; no slot may be decoding, and none is changed."""
        assert not np.asarray(self._state.active_S).any(), "warm up before feeding tokens"
        for bucket in self.sampler.prefill_buckets:
            self._write(_pad((), bucket, self.sampler))
        self._activate(())
        self.decode()

    def feed(self, feeds: Sequence[Feed]) -> None:
        """Prefill the given slots and set them decoding; a slot needs room for one token more."""
        if not feeds:
            return
        room = self.sampler.cache_length - 1
        assert all(feed.position + len(feed.tokens) <= room for feed in feeds), "no room in a slot"
        longest_piece = self.sampler.prefill_buckets[-1]
        for first in range(0, max(len(feed.tokens) for feed in feeds) - 1, longest_piece):
            pieces = [
                (feed.slot, feed.tokens[first:-1][:longest_piece], feed.position + first)
                for feed in feeds
                if len(feed.tokens) - 1 > first
            ]
            for rows in _prefill_calls(pieces, self.sampler):
                self._write(rows)
        self._activate(feeds)

    def decode(self) -> list[Emitted]:
        """Decode one chunk; returns what each slot produced, in slot order."""
        assert self._weights is not None, "load() weights before anything else"
        self._state, chunk = decode.decode_chunk(
            self._state,
            self._weights,
            self._table,
            config=self.config,
            steps=self.sampler.chunk,
            eos_id=self._eos_id,
        )
        chunk = jax.device_get(chunk)
        return [
            Emitted(
                slot=slot,
                tokens=tuple(chunk.tokens_SN[slot, :count].tolist()),
                logprobs=tuple(chunk.logprobs_SN[slot, :count].tolist()),
                paused=not chunk.active_S[slot],
                stop=int(chunk.stop_S[slot]),
            )
            for slot, count in enumerate(chunk.count_S.tolist())
            if count  # an active slot samples at least one token
        ]

    def cancel(self, slots: Sequence[int]) -> None:
        """Stop decoding in these slots."""
        active_S = np.array(self._state.active_S)
        active_S[list(slots)] = False
        self._state = self._state._replace(active_S=jnp.asarray(active_S))

    def _write(self, rows: "_Rows") -> None:
        assert self._weights is not None, "load() weights before anything else"
        self._state = decode.write_tokens(
            self._state, self._weights, *map(jnp.asarray, rows), config=self.config
        )

    def _activate(self, feeds: Sequence[Feed]) -> None:
        slots = self.sampler.slots
        padding = slots - len(feeds)
        assert padding >= 0, "more feeds than slots"

        def column(values: list, fill: float, dtype: DTypeLike) -> jax.Array:
            return jnp.asarray(np.asarray(values + [fill] * padding, dtype))

        ids_N2 = np.asarray([feed.rollout for feed in feeds] + [(0, 0)] * padding, np.uint32)
        entry = decode.Entry(
            slot_S=column([feed.slot for feed in feeds], slots, np.int32),
            pending_S=column([feed.tokens[-1] for feed in feeds], 0, np.int32),
            position_S=column([f.position + len(f.tokens) - 1 for f in feeds], 0, np.int32),
            budget_S=column([feed.budget for feed in feeds], 0, np.int32),
            key_S=decode.trajectory_keys(self._run_key, jnp.asarray(ids_N2)),
            temperature_S=column([feed.temperature for feed in feeds], 1.0, np.float32),
        )
        self._state = decode.activate(self._state, entry, start=self._start)


type _Piece = tuple[int, tuple[int, ...], int]
"""(slot, tokens, position of the first)."""


class _Rows(NamedTuple):
    """One padded prefill call, in the order of `decode.write_tokens`."""

    tokens_RT: np.ndarray
    positions_RT: np.ndarray
    slots_R: np.ndarray


def _prefill_calls(pieces: Sequence[_Piece], sampler: SamplerConfig) -> list[_Rows]:
    """Group the pieces by the smallest bucket that holds them, `prefill_rows` to a call."""
    grouped: dict[int, list[_Piece]] = {bucket: [] for bucket in sampler.prefill_buckets}
    for piece in pieces:
        grouped[next(bucket for bucket in grouped if len(piece[1]) <= bucket)].append(piece)
    return [
        _pad(members, bucket, sampler)
        for bucket, waiting in grouped.items()
        for members in itertools.batched(waiting, sampler.prefill_rows)
    ]


def _pad(members: Sequence[_Piece], bucket: int, sampler: SamplerConfig) -> _Rows:
    """Rows of one bucket; what stands at position `cache_length` is padding."""
    tokens_RT = np.zeros((sampler.prefill_rows, bucket), np.int32)
    positions_RT = np.full_like(tokens_RT, sampler.cache_length)
    slots_R = np.zeros((sampler.prefill_rows,), np.int32)
    for row, (slot, tokens, position) in enumerate(members):
        tokens_RT[row, : len(tokens)] = tokens
        positions_RT[row, : len(tokens)] = np.arange(position, position + len(tokens))
        slots_R[row] = slot
    return _Rows(tokens_RT, positions_RT, slots_R)
