"""The slot sampler as the host sees it: put tokens into slots, decode a chunk, read what came out.

The engine holds the device state and the policy's weights in decoder layout. It does not decide what a
pause means, who enters a free slot, or when: that is the rollout's business. Every call's shapes come from
the configuration, so after the first use of each bucket nothing compiles again.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from r1ci_jax.core.config import SamplerConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model import cached
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
    """True when the slot stopped: pattern, end of text, budget, or end of the cache row."""
    automaton: int
    """State of the pause automaton after the last token."""


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
        dtype: jnp.dtype = jnp.float32,
    ) -> None:
        assert table.next_state_AV.shape[1] <= config.vocab_size, "more tokens than embeddings"
        self.config = config
        self.sampler = sampler
        self._eos_id = eos_id
        self._start = int(table.start)
        self._table = decode.PauseTable(
            next_state_AV=jnp.asarray(table.next_state_AV), stops_A=jnp.asarray(table.stop_A != 0)
        )
        self._run_key = jax.random.key(seed)
        self._dtype = dtype
        self._weights: qwen2.DecoderWeights | None = None
        self._state = decode.init_slots(config, sampler.slots, sampler.cache_length, dtype)

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on; slots in use keep the keys of the old ones."""
        self._weights = weights

    def feed(self, feeds: Sequence[Feed]) -> None:
        """Prefill the given slots and set them decoding.

        Raises:
            UserError: a prompt or observation does not fit into a cache row.
        """
        assert self._weights is not None, "load() weights before feeding tokens"
        if not feeds:
            return
        capacity = self.sampler.cache_length
        for feed in feeds:
            if feed.position + len(feed.tokens) >= capacity:
                raise UserError(
                    f"a prompt of {feed.position + len(feed.tokens)} tokens does not fit into the cache of "
                    f"{capacity}: raise sampler.cache_length or shorten the prompt"
                )
        written = [(f.slot, f.tokens[:-1], f.position) for f in feeds if len(f.tokens) > 1]
        largest = self.sampler.prefill_buckets[-1]
        while written:
            head = [(slot, tokens[:largest], position) for slot, tokens, position in written]
            for rows in _by_bucket(head, self.sampler.prefill_buckets, self.sampler.prefill_rows):
                self._write(rows)
            written = [
                (slot, tokens[largest:], position + largest)
                for slot, tokens, position in written
                if len(tokens) > largest
            ]
        self._activate(feeds)

    def decode(self) -> list[Emitted]:
        """Decode one chunk; returns what each slot produced, in slot order."""
        assert self._weights is not None, "load() weights before decoding"
        was_active_S = np.asarray(self._state.active_S)
        self._state, chunk = decode.decode_chunk(
            self._state,
            self._weights,
            self._table,
            config=self.config,
            steps=self.sampler.chunk,
            eos_id=self._eos_id,
        )
        chunk = jax.device_get(chunk)
        emitted = []
        for slot in np.flatnonzero(was_active_S):
            count = int(chunk.count_S[slot])
            emitted.append(
                Emitted(
                    slot=int(slot),
                    tokens=tuple(chunk.tokens_SN[slot, :count].tolist()),
                    logprobs=tuple(chunk.logprobs_SN[slot, :count].tolist()),
                    paused=not bool(chunk.active_S[slot]),
                    automaton=int(chunk.automaton_S[slot]),
                )
            )
        return emitted

    def cancel(self, slots: Sequence[int]) -> None:
        """Stop decoding in these slots."""
        active_S = np.asarray(self._state.active_S).copy()
        active_S[list(slots)] = False
        self._state = self._state._replace(active_S=jnp.asarray(active_S))

    def _write(self, rows: "_Rows") -> None:
        self._state = decode.write_tokens(
            self._state,
            self._weights,
            jnp.asarray(rows.tokens_RT),
            jnp.asarray(
                np.where(rows.positions_RT < 0, self.sampler.cache_length, rows.positions_RT)
            ),
            jnp.asarray(rows.slots_R),
            config=self.config,
        )

    def _activate(self, feeds: Sequence[Feed]) -> None:
        slots = self.sampler.slots
        assert len(feeds) <= slots
        padding = slots - len(feeds)

        def column(values: list, fill, dtype) -> jax.Array:
            return jnp.asarray(np.asarray(values + [fill] * padding, dtype))

        ids_N2 = np.asarray([f.rollout for f in feeds] + [(0, 0)] * padding, np.uint32)
        entry = decode.Entry(
            slot_S=column([f.slot for f in feeds], slots, np.int32),
            pending_S=column([f.tokens[-1] for f in feeds], 0, np.int32),
            position_S=column([f.position + len(f.tokens) - 1 for f in feeds], 0, np.int32),
            budget_S=column([f.budget for f in feeds], 0, np.int32),
            key_S=decode.trajectory_keys(self._run_key, jnp.asarray(ids_N2)),
            temperature_S=column([f.temperature for f in feeds], 1.0, np.float32),
        )
        self._state = decode.activate(self._state, entry, start=self._start)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """One padded prefill call; a position of -1 marks padding."""

    tokens_RT: np.ndarray
    positions_RT: np.ndarray
    slots_R: np.ndarray


def _by_bucket(
    pieces: Sequence[tuple[int, tuple[int, ...], int]], buckets: Sequence[int], rows: int
) -> list[_Rows]:
    """Group (slot, tokens, position) pieces by the bucket that holds them, `rows` to a call."""
    grouped: dict[int, list[tuple[int, tuple[int, ...], int]]] = {bucket: [] for bucket in buckets}
    for piece in pieces:
        bucket = next(bucket for bucket in buckets if len(piece[1]) <= bucket)
        grouped[bucket].append(piece)
    calls = []
    for bucket, members in grouped.items():
        for first in range(0, len(members), rows):
            calls.append(_pad(members[first : first + rows], bucket, rows))
    return calls


def _pad(members: Sequence[tuple[int, tuple[int, ...], int]], bucket: int, rows: int) -> _Rows:
    tokens_RT = np.zeros((rows, bucket), np.int32)
    positions_RT = np.full((rows, bucket), -1, np.int32)
    slots_R = np.zeros((rows,), np.int32)
    for row, (slot, tokens, position) in enumerate(members):
        tokens_RT[row, : len(tokens)] = tokens
        positions_RT[row, : len(tokens)] = np.arange(position, position + len(tokens))
        slots_R[row] = slot
    return _Rows(tokens_RT, positions_RT, slots_R)
