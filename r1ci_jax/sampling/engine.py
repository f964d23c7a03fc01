"""Host side of the slot sampler: feed tokens to slots, decode chunks, read the output.

The engine holds the device state and the policy's weights in decoder layout. The rollout, not the
engine, handles pauses and decides when a trajectory enters a free slot. All shapes come from the
configuration, so nothing is recompiled after the first use of each bucket.

A prompt that is already in the cache is not computed again: the members of a group share its pages,
whenever they enter, and so do all prompts that begin with the same instructions. Slots take pages
as they grow, and the caller decides which trajectory is to give up its own when there are too few.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Sequence
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
from r1ci_jax.sampling.page_table import CacheLayout, PageCopy
from r1ci_jax.sampling.prefill import Piece, PrefillShape
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
    num_prefix_tokens: int = 0
    """A row that starts anew: other rows begin with these tokens too, this many. They are computed
    by themselves, whether they are in the cache or not, so that no bit depends on that."""
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


@dataclasses.dataclass(kw_only=True, eq=False)
class _Decoding:
    """What the host knows of a slot that decodes."""

    position: int
    """Position of the pending token when the last chunk that was read began or ended."""
    end: int
    """No token is fed at this position or a later one."""
    in_flight: int = 0
    """Chunks that are dispatched and not read."""


@dataclasses.dataclass(kw_only=True, eq=False)
class _Staged:
    """What has pages, and was not given to the device yet."""

    inputs: list[SlotInput] = dataclasses.field(default_factory=list)
    prefix_copies: list[PageCopy] = dataclasses.field(default_factory=list)
    """Copies of prefixes, made before the rest of a prompt is computed."""
    prompt_copies: list[PageCopy] = dataclasses.field(default_factory=list)
    """Copies of whole prompts, made after that."""
    num_known: dict[int, int] = dataclasses.field(default_factory=dict)
    """Number of an input's first tokens that are in the cache already, by slot."""


class _Chunk(NamedTuple):
    """A chunk that is dispatched and not yet read."""

    decoded: decode.DecodedChunk
    slots: dict[int, _Decoding]
    """The slots that could decode in it."""


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

        Raises:
            UserError: The mesh does not divide the slots, or the cache is smaller than a row.
        """
        assert table.next_state_AV.shape[1] <= config.vocab_size, "more tokens than embeddings"
        mesh = meshes.current()
        self.config = sampler_weights.with_replicated_kv_heads(mesh, config)
        self.sampler = sampler
        self._stop_token_ids = tuple(stop_token_ids)
        self._host_table = table
        self._run_key = jax.random.key(seed)
        self._weights: qwen2.DecoderWeights | None = None
        self._layout = CacheLayout.of(
            sampler, meshes.num_batch_shards(mesh), platform=meshes.platform(mesh)
        )
        self._shape = PrefillShape(
            buckets=sampler.prefill_buckets,
            shards=self._layout.shards,
            rows_per_shard=self._layout.prefill_rows_per_shard,
        )
        self._pages = self._layout.page_table(sampler.slots)
        make = functools.partial(_empty_slots, self.config, sampler, self._layout)
        shardings = decode.state_shardings(mesh, jax.eval_shape(make))
        # Each device creates its own shard: no single device could hold the full cache.
        self._make_state = jax.jit(make, out_shardings=shardings)
        self._state: decode.SlotState = self._make_state()
        self._programs = decode.compile_programs(mesh, shardings)
        self._whole = NamedSharding(mesh, jax.P())
        self._table = meshes.device_put_global(
            decode.StopTable(
                next_state_AV=jnp.asarray(table.next_state_AV), stop_A=jnp.asarray(table.stop_A)
            ),
            self._whole,
        )
        self._staged = _Staged()
        self._chunk_tokens = sampler.chunk_steps * (1 + sampler.speculative_tokens)
        """A slot samples at most so many tokens in a chunk."""
        self._history: list[list[int]] = [[] for _ in range(sampler.slots)]
        """All tokens of each slot's row, as far as the host has read them."""
        self._decoding: dict[int, _Decoding] = {}
        self._chunks: collections.deque[_Chunk] = collections.deque()
        """Chunks that are dispatched and not yet read, oldest first."""
        self.decode_steps = 0
        """Decode steps in all chunks that were read."""
        self.prefilled_tokens = 0
        """Prefill has computed this many tokens since the engine was created."""
        self.shared_tokens = 0
        """Number of prompt tokens that were in the cache already."""

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on; the rows of the cache stay as they are."""
        is_int8 = isinstance(weights.embed_VD, quantization.Int8)
        assert is_int8 == (self.sampler.weight_quantization == "int8"), (
            "weights of another sampler.weight_quantization"
        )
        if self._weights is None and jax.tree.leaves(self._state)[0].is_deleted():
            self._state = self._make_state()
        self._weights = weights
        self._pages.forget_prompts()

    def unload(self) -> None:
        """Release the memory of the weights and the cache; no row survives."""
        self.abandon()
        self._weights = None
        self._pages = self._layout.page_table(self.sampler.slots)
        jax.tree.map(lambda array: array.delete(), self._state)

    def warm_up(self) -> None:
        """Compile every shape in use; no slot may be decoding, and no slot is changed."""
        assert not self._decoding, "warm up before feeding tokens"
        for bucket in self.sampler.prefill_buckets:
            self._write(bucket, ())
        self._copy_batch([])
        self._activate(())
        self.cancel(())
        self.decode()

    # --- Inputs ---

    def feed(self, inputs: Sequence[SlotInput]) -> None:
        """Prefill the given slots and start decoding; there must be memory for all of them."""
        for each in inputs:
            assert self.stage(each), "no memory for an input"
        self.flush()

    def stage(self, given: SlotInput, *, spare: int = 0) -> bool:
        """Give a slot pages for an input and for one chunk; `flush` hands it to the device.

        The row needs space for one more token. An input at position 0 starts a new row. It enters
        only if `spare` more pages are free than it needs. Returns False if memory is short; the
        slot has no new pages then.
        """
        if self._stage(given, spare):
            return True
        if not self._staged.prompt_copies and not self._staged.prefix_copies:
            return False
        self.flush()  # what was to be copied held memory
        return self._stage(given, spare)

    def _stage(self, given: SlotInput, spare: int) -> bool:
        last = given.position + len(given.tokens) - 1
        assert last < self.sampler.cache_length - 1, "no room in a slot"
        end = min(last + given.budget, self.sampler.cache_length - 1)
        num_tokens = min(last + self._chunk_tokens, end)
        if given.position:
            if not self._pages.grow(given.slot, num_tokens):
                return False
        else:
            if not self._start_row(given, num_tokens, spare):
                return False
        self._decoding[given.slot] = _Decoding(position=last, end=end)
        self._history[given.slot][given.position :] = given.tokens
        self._staged.inputs.append(given)
        return True

    def _start_row(self, given: SlotInput, num_tokens: int, spare: int) -> bool:
        """Give a slot the pages of a new row; its first tokens may be in the cache already."""
        prompt, prefix = given.tokens[:-1], given.tokens[: given.num_prefix_tokens]
        assert len(prefix) <= len(prompt), "the prefix is a part of the prompt"
        known = next((each for each in (prompt, prefix) if self._pages.has_prompt(each)), ())
        copies = self._pages.start(given.slot, num_tokens, known or prompt, spare=spare)
        if copies is None:
            return False
        if known == prompt:
            self._staged.prompt_copies += copies
        else:
            self._staged.prefix_copies += copies
        self._staged.num_known[given.slot] = len(known)
        self.shared_tokens += len(known)
        self._pages.keep_prompt(given.slot, prefix)
        if given.num_turn_tokens == 0:
            self._pages.keep_prompt(given.slot, prompt)
        return True

    def flush(self) -> None:
        """Prefill what is staged, and start decoding in its slots."""
        if not self._staged.inputs:
            return
        staged, self._staged = self._staged, _Staged()
        # What is copied may have been computed just now.
        self._prefill([_piece(each, 0, each.num_prefix_tokens, staged) for each in staged.inputs])
        self._copy_pages(staged.prefix_copies)
        self._prefill([_piece(each, each.num_prefix_tokens, -1, staged) for each in staged.inputs])
        self._copy_pages(staged.prompt_copies)
        self._pages.unpin()
        self._activate(staged.inputs)

    def _prefill(self, rows: Sequence[Piece]) -> None:
        self.prefilled_tokens += sum(len(row.tokens) for row in rows)
        for bucket, pieces in self._shape.calls(rows, self._pages.shard_of):
            self._write(bucket, pieces)

    # --- Memory ---

    def grow(self) -> int | None:
        """Give every decoding slot pages for the next chunk.

        Returns the first slot for which there are too few, else None. `evict` then makes room.
        """
        for slot, decoding in sorted(self._decoding.items()):
            ahead = (decoding.in_flight + 1) * self._chunk_tokens
            if not self._pages.grow(slot, min(decoding.position + ahead, decoding.end)):
                return slot
        return None

    def evict(self, slot: int) -> None:
        """Take a decoding slot's pages; the caller feeds it again from position 0 later."""
        assert all(each.slot != slot for each in self._staged.inputs), (
            "flush() the slot's input first"
        )
        self.cancel([slot])
        self._pages.release(slot)

    def retire(self, slots: Sequence[int]) -> None:
        """Note that the trajectories of these slots have ended: their pages may be given up."""
        self._pages.retire(slots)

    def shard_of(self, slot: int) -> int:
        """Return the part of the mesh that the slot lies in: it shares memory with others there."""
        return self._pages.shard_of(slot)

    def is_decoding(self, slot: int) -> bool:
        """True if the slot has begun to decode, and not paused as far as the host has read."""
        return slot in self._decoding and all(each.slot != slot for each in self._staged.inputs)

    def num_growing(self, slot: int) -> int:
        """Number of decoding slots that will need more of this slot's memory."""
        return sum(
            self.shard_of(slot) == self.shard_of(other)
            and not self._pages.holds(other, decoding.end)
            for other, decoding in self._decoding.items()
        )

    # --- Decoding ---

    def decode(self) -> list[SlotOutput]:
        """Decode one chunk and return the output of each slot, in slot order."""
        assert not self._chunks, "collect() what was dispatched before"
        self.dispatch()
        return self.collect()

    def dispatch(self) -> None:
        """Dispatch the decoding of one chunk to the device without waiting for it."""
        assert self._weights is not None, "load() weights before anything else"
        assert not self._staged.inputs, "flush() what is staged"
        assert self.grow() is None, "evict() until every slot can grow"
        self._state, decoded = self._programs.decode_chunk(
            self._state,
            self._weights,
            self._table,
            self._pages_argument(),
            config=self.config,
            steps=self.sampler.chunk_steps,
            length=self.sampler.cache_length,
            stop_token_ids=self._stop_token_ids,
            num_guesses=self.sampler.speculative_tokens,
        )
        for decoding in self._decoding.values():
            decoding.in_flight += 1
        self._chunks.append(_Chunk(decoded, dict(self._decoding)))

    def collect(self) -> list[SlotOutput]:
        """Wait for the oldest dispatched chunk; return the output of each slot, in slot order.

        Raises:
            UserError: The model's logits were not finite: a token chosen by them means nothing.
        """
        decoded, slots = self._chunks.popleft()
        chunk = jax.device_get(decoded)
        self.decode_steps += int(chunk.steps)
        is_sampled_SE = np.arange(chunk.logprobs_SE.shape[1]) < chunk.count_S[:, None]
        # One NaN or infinite logit makes the log-probability of the chosen token NaN.
        if not np.isfinite(chunk.logprobs_SE[is_sampled_SE]).all():
            raise UserError(
                f"the model's logits are not finite, so nothing can be sampled in "
                f"{self.sampler.dtype}: its weights hold NaN or infinite values, or are too large "
                "for that format; use another checkpoint or float32"
            )
        outputs = [
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
        for output in outputs:
            decoding = slots[output.slot]
            decoding.position += len(output.tokens)
            decoding.in_flight -= 1
            if self._decoding.get(output.slot) is decoding:
                self._history[output.slot] += output.tokens
            if output.is_paused and self._decoding.get(output.slot) is decoding:
                del self._decoding[output.slot]
        return outputs

    def cancel(self, slots: Sequence[int]) -> None:
        """Stop decoding in these slots, from the next chunk on; the slots are free for others."""
        self.flush()  # An input that is staged for one of them would start it again.
        for slot in slots:
            self._decoding.pop(slot, None)
        padded = [*slots, *[self.sampler.slots] * (self.sampler.slots - len(slots))]
        self._state = self._programs.deactivate(self._state, jnp.asarray(padded, jnp.int32))

    def abandon(self) -> None:
        """Stop decoding in all slots and discard the dispatched chunks."""
        if self._staged.inputs:
            self._staged = _Staged()
            self._pages.unpin()
            self._pages.forget_prompts()  # some were to be computed
        slots = range(self.sampler.slots)
        self.cancel(slots)
        self._chunks.clear()
        self.retire(slots)

    # --- Calls of the device ---

    def _pages_argument(self) -> jax.Array | None:
        """Return the pages of all slots, [S, J]; None if each has its own and no other."""
        if self._layout.has_whole_rows(self.sampler.slots):
            return None
        return meshes.device_put_global(jnp.asarray(self._pages.table.copy()), self._whole)

    def _write(self, bucket: int, rows: Sequence[Piece | None]) -> None:
        """Write tokens to the cache, layer by layer; rows that are None or missing are padding."""
        assert self._weights is not None, "load() weights before anything else"
        shape = (self._layout.shards * self._layout.prefill_rows_per_shard, bucket)
        tokens_IT = np.zeros(shape, np.int32)
        positions_IT = np.full(shape, self._layout.row_length, np.int32)
        pages_IJ = np.full((shape[0], self._layout.pages_per_row), self._layout.num_pages, np.int32)
        for row, piece in enumerate(rows):
            if piece is not None:
                slot, tokens, position = piece
                tokens_IT[row, : len(tokens)] = tokens
                positions_IT[row, : len(tokens)] = np.arange(position, position + len(tokens))
                pages_IJ[row] = self._pages.table[slot]
        inputs = meshes.device_put_global((tokens_IT, positions_IT, pages_IJ), self._whole)
        tokens, positions, pages = inputs
        weights, programs = self._weights, self._programs
        x_ITD = programs.embed(weights.embed_VD, tokens, dtype=weights.norm_D.dtype)
        cache = []
        for layer, pair in zip(weights.layers, self._state.cache, strict=True):
            x_ITD, pair = programs.write_layer(
                pair, x_ITD, layer, positions, pages, config=self.config
            )
            cache.append(pair)
        self._state = self._state._replace(cache=tuple(cache))

    def _copy_pages(self, copies: Sequence[PageCopy]) -> None:
        for batch in itertools.batched(copies, self.sampler.prefill_rows):
            self._copy_batch(batch)

    def _copy_batch(self, copies: Sequence[PageCopy]) -> None:
        padding = [PageCopy(0, self._layout.num_pages, 0)] * self.sampler.prefill_rows
        ordered = sorted(copies, key=lambda copy: -copy.num_tokens)
        rows_I3 = np.asarray([*ordered, *padding][: self.sampler.prefill_rows], np.int32)
        inputs = meshes.device_put_global(tuple(rows_I3.T), self._whole)
        cache = self._programs.copy_pages(self._state.cache, *inputs)
        self._state = self._state._replace(cache=cache)

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
            history_SC=self._history_rows([feed.slot for feed in inputs]),
            sampling=token_sampling.SamplingArrays.from_params(
                [f.sampling for f in inputs] + [SamplingParams()] * padding
            ),
        )
        self._state = self._programs.activate(self._state, entry)

    def _history_rows(self, slots: Sequence[int]) -> jax.Array:
        """Return the tokens of these slots' rows, padded to [S, C]."""
        rows_SC = np.zeros((self.sampler.slots, self.sampler.cache_length), np.int32)
        for row, slot in enumerate(slots):
            tokens = self._history[slot]
            rows_SC[row, : len(tokens)] = tokens
        return jnp.asarray(rows_SC)


def _empty_slots(
    config: Qwen2Config, sampler: SamplerConfig, layout: CacheLayout
) -> decode.SlotState:
    return decode.init_slots(
        config,
        sampler.slots,
        layout.num_pages,
        layout.segments(sampler.slots),
        jnp.dtype(sampler.dtype),
        sampler.cache_quantization,
        length=sampler.cache_length,
    )


def _piece(given: SlotInput, begin: int, end: int, staged: _Staged) -> Piece:
    """Return the tokens between two places of an input that are not in the cache."""
    begin = max(begin, staged.num_known.get(given.slot, 0))
    return Piece(given.slot, given.tokens[begin:end], given.position + begin)
