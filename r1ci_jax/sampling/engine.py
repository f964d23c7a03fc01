"""Host side of the slot sampler: feed tokens to slots, decode chunks, read the output.

The engine holds the device state and the policy's weights in decoder layout. The rollout, not the
engine, handles pauses and decides when a trajectory enters a free slot. All shapes come from the
configuration, so nothing is recompiled after the first use of each bucket.

A prompt that is already in the cache, in any slot, is copied from there and not computed again. The
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
from r1ci_jax.errors import UserError
from r1ci_jax.model import quantization, qwen2, sampler_weights
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sampling import decode, stop_automaton, token_sampling
from r1ci_jax.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotInput:
    """Tokens to write to a slot, which then decodes.

    `tokens[-1]` becomes the pending token; `position` is the absolute position of `tokens[0]`.
    """

    slot: int
    tokens: tuple[int, ...]
    position: int
    budget: int
    """The slot may sample this many further tokens."""
    num_turn_tokens: int = 0
    """The last tokens, this many, belong to the policy's unfinished turn; the automaton reads them
    first."""
    rollout_id: tuple[int, int]
    """(group id, sample index); with the run's seed it determines all randomness."""
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotOutput:
    """Output of one slot in a chunk."""

    slot: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_paused: bool
    """True means that the automaton, end of text, budget or cache length stopped the slot."""
    stop: int
    """The automaton's reason for a pause; 0 if there is none."""


class Engine:
    """The engine owns the slots on the device. It is not thread-safe and has one caller."""

    def __init__(
        self,
        config: Qwen2Config,
        sampler: SamplerConfig,
        table: stop_automaton.TokenTable,
        *,
        stop_token_ids: Sequence[int],
        seed: int,
    ) -> None:
        """Create empty slots, without weights, on the current mesh.

        Sampling one of `stop_token_ids` pauses a slot, as a stop state of `table` does.
        """
        assert table.next_state_AV.shape[1] <= config.vocab_size, "more tokens than embeddings"
        mesh = meshes.current()
        config = self.config = sampler_weights.with_replicated_kv_heads(mesh, config)
        self.sampler = sampler
        self._stop_token_ids = tuple(stop_token_ids)
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
        """Each slot's cache row starts with this prompt, computed with the current weights."""
        self._chunks: collections.deque[decode.DecodedChunk] = collections.deque()
        """Chunks that are dispatched and not yet read, oldest first."""
        self.prefilled_tokens = 0
        """Prefill has computed this many tokens since the engine was created."""
        self.copied_tokens = 0
        """Number of prompt tokens that were copied instead."""

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on; the cache is unchanged."""
        is_int8 = isinstance(weights.embed_VD, quantization.Int8)
        assert is_int8 == (self.sampler.weight_quantization == "int8"), (
            "weights of another sampler.weight_quantization"
        )
        self._weights = weights
        self._prompts.clear()

    def unload(self) -> None:
        """Release the weights; the cache is unchanged."""
        self._weights = None

    def warm_up(self) -> None:
        """Compile every shape in use; no slot may be decoding, and no slot is changed."""
        assert not jnp.any(self._state.active_S), "warm up before feeding tokens"
        for bucket in self.sampler.prefill_buckets:
            self._write(_pad((), bucket, self.sampler))
        for length in self._copy_lengths():
            self._copy((), length)
        self._activate(())
        self.cancel(())
        self.decode()

    def feed(self, inputs: Sequence[SlotInput]) -> None:
        """Prefill the given slots and start decoding; a slot needs space for one more token."""
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
        """Decode one chunk and return the output of each slot, in slot order."""
        assert not self._chunks, "collect() what was dispatched before"
        self.dispatch()
        return self.collect()

    def dispatch(self) -> None:
        """Dispatch the decoding of one chunk to the device without waiting for it."""
        assert self._weights is not None, "load() weights before anything else"
        self._state, chunk = self._programs.decode_chunk(
            self._state,
            self._weights,
            self._table,
            config=self.config,
            steps=self.sampler.chunk_steps,
            stop_token_ids=self._stop_token_ids,
        )
        self._chunks.append(chunk)

    def collect(self) -> list[SlotOutput]:
        """Wait for the oldest dispatched chunk; return the output of each slot, in slot order.

        Raises:
            UserError: The model's logits were not finite: a token chosen by them means nothing.
        """
        chunk = jax.device_get(self._chunks.popleft())
        is_sampled_SE = np.arange(chunk.logprobs_SE.shape[1]) < chunk.count_S[:, None]
        # One NaN or infinite logit makes the log-probability of the chosen token NaN.
        if not np.isfinite(chunk.logprobs_SE[is_sampled_SE]).all():
            raise UserError(
                f"the model's logits are not finite, so nothing can be sampled in "
                f"{self.sampler.dtype}: its weights hold NaN or infinite values, or are too large "
                "for that format; use another checkpoint or float32"
            )
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
        """Stop decoding in all slots and discard the dispatched chunks."""
        self.cancel(range(self.sampler.slots))
        self._chunks.clear()

    def _share_prompts(
        self, inputs: Sequence[SlotInput]
    ) -> tuple[list["_PromptCopy"], list["_PromptCopy"], list[SlotInput]]:
        """Split into copies of cached prompts, copies of prompts prefilled now, and the rest.

        A slot that already holds its own prompt, from a finished member, needs no copy or prefill.
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
        """Copy the prompts; copies of the same padded length share a call."""
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
        """Return the state of the pause automaton after the tokens of the current turn."""
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
    """Create the slots and the stop table on the mesh, and compile the programs for them."""
    mesh = meshes.current()
    wanted = decode.state_shardings(mesh, jax.eval_shape(make))
    # Each device creates its own shard: no single device could hold the full cache.
    state = jax.jit(make, out_shardings=wanted)()
    table = meshes.device_put_global(table, NamedSharding(mesh, jax.P()))
    return state, table, decode.compile_programs(mesh, wanted)


class _PromptCopy(NamedTuple):
    """A prompt copy reads a prompt from the cache row of another slot."""

    prompt: tuple[int, ...]
    source: int
    target: int


type _PrefillPiece = tuple[int, tuple[int, ...], int]
"""(slot, tokens, position of the first)."""


class _PrefillCall(NamedTuple):
    """A padded prefill call has the arguments of `decode.write_tokens`, in order."""

    tokens_IT: np.ndarray
    positions_IT: np.ndarray
    slots_I: np.ndarray


def _prefill_calls(pieces: Sequence[_PrefillPiece], sampler: SamplerConfig) -> list[_PrefillCall]:
    """Group the pieces by the smallest bucket that fits, with `prefill_rows` per call."""
    grouped: dict[int, list[_PrefillPiece]] = {bucket: [] for bucket in sampler.prefill_buckets}
    for piece in pieces:
        grouped[next(bucket for bucket in grouped if len(piece[1]) <= bucket)].append(piece)
    return [
        _pad(members, bucket, sampler)
        for bucket, waiting in grouped.items()
        for members in itertools.batched(waiting, sampler.prefill_rows)
    ]


def _pad(members: Sequence[_PrefillPiece], bucket: int, sampler: SamplerConfig) -> _PrefillCall:
    """Pad the rows of one bucket; tokens at position `cache_length` are padding."""
    tokens_IT = np.zeros((sampler.prefill_rows, bucket), np.int32)
    positions_IT = np.full_like(tokens_IT, sampler.cache_length)
    slots_I = np.zeros((sampler.prefill_rows,), np.int32)
    for row, (slot, tokens, position) in enumerate(members):
        tokens_IT[row, : len(tokens)] = tokens
        positions_IT[row, : len(tokens)] = np.arange(position, position + len(tokens))
        slots_I[row] = slot
    return _PrefillCall(tokens_IT, positions_IT, slots_I)
