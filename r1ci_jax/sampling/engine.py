"""The slot sampler as the host sees it: put tokens into slots, decode a chunk, read what came out.

The engine holds the device state and the policy's weights in decoder layout. It does not decide
what a pause means, who enters a free slot, or when: that is the rollout's business. Every call's
shapes come from the configuration, so after the first use of each bucket nothing compiles again.

A prompt that is already in the cache, in any slot, is copied from there and not computed again: the
members of a group share one prefill, whenever they enter.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.typing import DTypeLike

from r1ci_jax.config import SamplerConfig, SamplingParams
from r1ci_jax.model import quantization, qwen2, sampler_weights
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sampling import decode, stop_automaton, token_sampling
from r1ci_jax.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotInput:
    """Tokens that go into a slot, after which it decodes.

    `tokens[-1]` becomes the pending token; `position` is the absolute position of `tokens[0]`.
    """

    slot: int
    tokens: tuple[int, ...]
    position: int
    budget: int
    """Tokens the slot may sample from here on."""
    num_turn_tokens: int = 0
    """Number of last tokens that belong to the policy's unfinished turn: the automaton reads them
    first."""
    rollout_id: tuple[int, int]
    """(group id, sample index): with the run's seed the only source of randomness."""
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotOutput:
    """What one slot produced in a chunk."""

    slot: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_paused: bool
    """True when the slot stopped: automaton, end of text, budget, or end of the cache row."""
    stop: int
    """Why the automaton asked for a pause; 0 if it did not."""


class Engine:
    """Slots on the device. Not thread-safe; one caller drives it."""

    def __init__(
        self,
        config: Qwen2Config,
        sampler: SamplerConfig,
        table: stop_automaton.TokenTable,
        *,
        eos_id: int,
        seed: int,
    ) -> None:
        """Empty slots, without weights, on the mesh that is set."""
        assert table.next_state_AV.shape[1] <= config.vocab_size, "more tokens than embeddings"
        mesh = meshes.current()
        config = self.config = sampler_weights.with_replicated_kv_heads(mesh, config)
        self.sampler = sampler
        self._eos_id = eos_id
        self._host_table = table
        self._table = decode.StopTable(
            next_state_AV=jnp.asarray(table.next_state_AV), stop_A=jnp.asarray(table.stop_A)
        )
        self._run_key = jax.random.key(seed)
        self._weights: qwen2.DecoderWeights | None = None
        self._state, self._table, self._programs = _initialize(
            lambda: decode.init_slots(
                config,
                sampler.slots,
                sampler.cache_length,
                jnp.dtype(sampler.dtype),
                sampler.cache_quantization,
            ),
            self._table,
        )
        self._prompts: dict[int, tuple[int, ...]] = {}
        """What stands at the beginning of each slot's cache row, computed with these weights."""
        self._chunks: collections.deque[decode.DecodedChunk] = collections.deque()
        """Dispatched and not yet read, oldest first."""
        self.prefilled_tokens = 0
        """Tokens computed by prefill since the engine was made."""
        self.copied_tokens = 0
        """Prompt tokens that were copied instead."""

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on; what the cache holds stays as it is."""
        is_int8 = isinstance(weights.embed_VD, quantization.Int8)
        assert is_int8 == (self.sampler.weight_quantization == "int8"), (
            "weights of another sampler.weight_quantization"
        )
        self._weights = weights
        self._prompts.clear()

    def unload(self) -> None:
        """Let go of the weights; what the cache holds stays as it is."""
        self._weights = None

    def warm_up(self) -> None:
        """Compile every shape that will be used; no slot may be decoding, and none is changed."""
        assert not jnp.any(self._state.active_S), "warm up before feeding tokens"
        for bucket in self.sampler.prefill_buckets:
            self._write(_pad((), bucket, self.sampler))
        for length in self._copy_lengths():
            self._copy((), length)
        self._activate(())
        self.cancel(())
        self.decode()

    def feed(self, inputs: Sequence[SlotInput]) -> None:
        """Prefill the given slots and set them decoding; a slot needs room for one token more."""
        if not inputs:
            return
        room = self.sampler.cache_length - 1
        assert all(feed.position + len(feed.tokens) <= room for feed in inputs), "no room in a slot"
        copies, late_copies, rest = self._share_prompts(inputs)
        self._copy_prompts(copies)
        longest_piece = self.sampler.prefill_buckets[-1]
        for first in range(0, max((len(f.tokens) for f in rest), default=1) - 1, longest_piece):
            pieces = [
                (feed.slot, feed.tokens[first:-1][:longest_piece], feed.position + first)
                for feed in rest
                if len(feed.tokens) - 1 > first
            ]
            for rows in _prefill_calls(pieces, self.sampler):
                self._write(rows)
        self._copy_prompts(late_copies)
        self.prefilled_tokens += sum(len(feed.tokens) - 1 for feed in rest)
        self._activate(inputs)

    def decode(self) -> list[SlotOutput]:
        """Decode one chunk; returns what each slot produced, in slot order."""
        assert not self._chunks, "collect() what was dispatched before"
        self.dispatch()
        return self.collect()

    def dispatch(self) -> None:
        """Let the device decode one chunk; does not wait for it."""
        assert self._weights is not None, "load() weights before anything else"
        self._state, chunk = self._programs.decode_chunk(
            self._state,
            self._weights,
            self._table,
            config=self.config,
            steps=self.sampler.chunk_steps,
            eos_id=self._eos_id,
        )
        self._chunks.append(chunk)

    def collect(self) -> list[SlotOutput]:
        """Wait for the oldest dispatched chunk; what each slot produced, in slot order."""
        chunk = jax.device_get(self._chunks.popleft())
        return [
            SlotOutput(
                slot=slot,
                tokens=tuple(chunk.tokens_SE[slot, :count].tolist()),
                logprobs=tuple(chunk.logprobs_SE[slot, :count].tolist()),
                is_paused=not chunk.active_S[slot],
                stop=int(chunk.stop_S[slot]),
            )
            for slot, count in enumerate(chunk.count_S.tolist())
            if count  # an active slot samples at least one token
        ]

    def cancel(self, slots: Sequence[int]) -> None:
        """Stop decoding in these slots, from the next chunk on."""
        padded = [*slots, *[self.sampler.slots] * (self.sampler.slots - len(slots))]
        self._state = self._programs.deactivate(self._state, jnp.asarray(padded, jnp.int32))

    def abandon(self) -> None:
        """Stop decoding in all slots and forget what was dispatched."""
        self.cancel(range(self.sampler.slots))
        self._chunks.clear()

    def _share_prompts(
        self, inputs: Sequence[SlotInput]
    ) -> tuple[list["_PromptCopy"], list["_PromptCopy"], list[SlotInput]]:
        """Copies from slots that hold the prompt, copies of what is prefilled now, and the rest.

        A slot that already holds its own prompt, from a member that is done, needs neither.
        """
        fresh = [feed for feed in inputs if feed.position == 0]
        targets = {feed.slot for feed in fresh}
        holders = {prompt: slot for slot, prompt in self._prompts.items() if slot not in targets}
        leaders: dict[tuple[int, ...], int] = {}
        copies: list[_PromptCopy] = []
        late: list[_PromptCopy] = []
        spared: set[int] = set()
        for feed in fresh:
            prompt = feed.tokens[:-1]
            if self._prompts.get(feed.slot) == prompt:
                leaders.setdefault(prompt, feed.slot)
            elif prompt in holders:
                copies.append(_PromptCopy(prompt, holders[prompt], feed.slot))
            elif prompt in leaders:
                late.append(_PromptCopy(prompt, leaders[prompt], feed.slot))
            else:
                leaders[prompt] = feed.slot
                self._prompts[feed.slot] = prompt
                continue
            self._prompts[feed.slot] = prompt
            spared.add(feed.slot)
            self.copied_tokens += len(prompt)
        return copies, late, [feed for feed in inputs if feed.slot not in spared]

    def _copy_lengths(self) -> tuple[int, ...]:
        return (*self.sampler.prefill_buckets, self.sampler.cache_length)

    def _copy_prompts(self, copies: Sequence["_PromptCopy"]) -> None:
        """Copy each, those of the same padded length together."""
        lengths = self._copy_lengths()
        grouped: dict[int, list[_PromptCopy]] = {length: [] for length in lengths}
        for copy in copies:
            grouped[next(length for length in lengths if len(copy.prompt) <= length)].append(copy)
        for length, waiting in grouped.items():
            for members in itertools.batched(waiting, self.sampler.prefill_rows):
                self._copy(members, length)

    def _copy(self, members: Sequence["_PromptCopy"], length: int) -> None:
        padding = self.sampler.prefill_rows - len(members)
        source_I = np.asarray([m.source for m in members] + [0] * padding, np.int32)
        target_I = np.asarray(
            [m.target for m in members] + [self.sampler.slots] * padding, np.int32
        )
        self._state = self._programs.copy_cache_rows(
            self._state, jnp.asarray(source_I), jnp.asarray(target_I), length=length
        )

    def _write(self, rows: "_PrefillCall") -> None:
        assert self._weights is not None, "load() weights before anything else"
        self._state = self._programs.write_tokens(
            self._state, self._weights, *map(jnp.asarray, rows), config=self.config
        )

    def _state_after(self, slot_input: SlotInput) -> int:
        """Where the pause automaton stands behind the tokens of the turn under way."""
        state = self._host_table.start
        for token in slot_input.tokens[len(slot_input.tokens) - slot_input.num_turn_tokens :]:
            state = int(self._host_table.next_state_AV[state, token])
        return state

    def _activate(self, inputs: Sequence[SlotInput]) -> None:
        slots = self.sampler.slots
        padding = slots - len(inputs)
        assert padding >= 0, "more feeds than slots"

        def column(values: list, fill: float, dtype: DTypeLike) -> jax.Array:
            return jnp.asarray(np.asarray(values + [fill] * padding, dtype))

        ids_S2 = np.asarray([feed.rollout_id for feed in inputs] + [(0, 0)] * padding, np.uint32)
        entry = decode.SlotUpdate(
            slot_S=column([feed.slot for feed in inputs], slots, np.int32),
            pending_S=column([feed.tokens[-1] for feed in inputs], 0, np.int32),
            position_S=column([f.position + len(f.tokens) - 1 for f in inputs], 0, np.int32),
            automaton_S=column([self._state_after(feed) for feed in inputs], 0, np.int32),
            budget_S=column([feed.budget for feed in inputs], 0, np.int32),
            key_S=decode.trajectory_keys(self._run_key, jnp.asarray(ids_S2)),
            sampling=token_sampling.SamplingArrays.from_params(
                [f.sampling for f in inputs] + [SamplingParams()] * padding
            ),
        )
        self._state = self._programs.activate(self._state, entry)


def _initialize(
    make: Callable[[], decode.SlotState], table: decode.StopTable
) -> tuple[decode.SlotState, decode.StopTable, decode.Programs]:
    """Make the slots on the mesh, put the stop table there, and compile the programs for them."""
    mesh = meshes.current()
    wanted = decode.state_shardings(mesh, jax.eval_shape(make))
    # Each device makes its own shard: no single device could hold all of the cache.
    state = jax.jit(make, out_shardings=wanted)()
    table = meshes.device_put_global(table, NamedSharding(mesh, jax.P()))
    return state, table, decode.compile_programs(mesh, wanted)


class _PromptCopy(NamedTuple):
    """A prompt that is taken over from another slot."""

    prompt: tuple[int, ...]
    source: int
    target: int


type _PrefillPiece = tuple[int, tuple[int, ...], int]
"""(slot, tokens, position of the first)."""


class _PrefillCall(NamedTuple):
    """One padded prefill call, in the order of `decode.write_tokens`."""

    tokens_IT: np.ndarray
    positions_IT: np.ndarray
    slots_I: np.ndarray


def _prefill_calls(pieces: Sequence[_PrefillPiece], sampler: SamplerConfig) -> list[_PrefillCall]:
    """Group the pieces by the smallest bucket that holds them, `prefill_rows` to a call."""
    grouped: dict[int, list[_PrefillPiece]] = {bucket: [] for bucket in sampler.prefill_buckets}
    for piece in pieces:
        grouped[next(bucket for bucket in grouped if len(piece[1]) <= bucket)].append(piece)
    return [
        _pad(members, bucket, sampler)
        for bucket, waiting in grouped.items()
        for members in itertools.batched(waiting, sampler.prefill_rows)
    ]


def _pad(members: Sequence[_PrefillPiece], bucket: int, sampler: SamplerConfig) -> _PrefillCall:
    """Rows of one bucket; what stands at position `cache_length` is padding."""
    tokens_IT = np.zeros((sampler.prefill_rows, bucket), np.int32)
    positions_IT = np.full_like(tokens_IT, sampler.cache_length)
    slots_I = np.zeros((sampler.prefill_rows,), np.int32)
    for row, (slot, tokens, position) in enumerate(members):
        tokens_IT[row, : len(tokens)] = tokens
        positions_IT[row, : len(tokens)] = np.arange(position, position + len(tokens))
        slots_I[row] = slot
    return _PrefillCall(tokens_IT, positions_IT, slots_I)
