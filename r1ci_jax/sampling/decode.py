"""The jitted functions of the slot sampler sample tokens, decode chunks and write to slots.

A slot has a row of pages of the cache. Its newest token is *pending*: known, but not yet in the
cache. The loop therefore handles a prompt, an observation and a sampled token alike: it feeds the
pending token at its position and gets the logits of the next one. This module does not know the
meaning of tokens. A slot pauses when the automaton that runs over its tokens enters a stop state,
when it samples one of `stop_token_ids`, or when its budget is used up or its row is full. The host
says which pages a slot has (page_table.py), and hands them out before they are needed.

Axes: sharding/axes.py.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from r1ci_jax.config import Quantization, SamplingParams
from r1ci_jax.model import kv_cache, paged_attention, qwen2
from r1ci_jax.model.quantization import MaybeInt8
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sampling import speculation, token_sampling
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules


class SlotState(NamedTuple):
    """State of the slots on the device; donated to every call and replaced by its result."""

    cache: kv_cache.Cache
    """Keys and values, a pair [K, U, W, H] per layer."""
    pending_S: jax.Array
    """The newest token of a slot is not yet in the cache."""
    position_S: jax.Array
    """Absolute position of the pending token."""
    automaton_S: jax.Array
    """State of the stop automaton after the pending token."""
    active_S: jax.Array
    """True while the slot decodes; False for a paused or free slot."""
    budget_S: jax.Array
    """The slot may still sample this many tokens."""
    key_S: jax.Array
    """PRNG key of the trajectory in the slot."""
    history_SC: jax.Array
    """Token at each position up to the pending one; what follows is meaningless."""
    sampling: token_sampling.SamplingArrays
    """Sampling parameters of the slot's trajectory."""


class StopTable(NamedTuple):
    """The stop automaton over tokens, on the device."""

    next_state_AV: jax.Array
    stop_A: jax.Array
    """Nonzero in states that pause the slot."""


class DecodedChunk(NamedTuple):
    """Output of a decode chunk: the one small copy to the host."""

    tokens_SE: jax.Array
    logprobs_SE: jax.Array
    count_S: jax.Array
    """Each slot has this many valid entries in tokens_SE; 0 if it was not active."""
    active_S: jax.Array
    """True for slots that have not paused."""
    stop_S: jax.Array
    """`StopTable.stop_A` of the automaton's state after the last token."""
    steps: jax.Array
    """Decode steps that were taken."""


def init_slots(
    config: Qwen2Config,
    slots: int,
    pages: int,
    segments: int | Sequence[int],
    dtype: DTypeLike,
    storage: Quantization = "none",
    *,
    length: int,
) -> SlotState:
    """Create empty, inactive slots of `length` tokens, and a cache of so many pages.

    `segments` are the positions of a page, or of a whole row in its segments.
    """
    zeros_S = jnp.zeros((slots,), jnp.int32)
    return SlotState(
        cache=kv_cache.init_cache(config, pages, segments, dtype, storage),
        pending_S=zeros_S,
        position_S=jnp.zeros_like(zeros_S),
        automaton_S=jnp.zeros_like(zeros_S),
        active_S=jnp.zeros((slots,), bool),
        budget_S=jnp.zeros_like(zeros_S),
        key_S=jax.random.split(jax.random.key(0), slots),
        history_SC=jnp.zeros((slots, length), jnp.int32),
        sampling=token_sampling.SamplingArrays.from_params([SamplingParams()] * slots),
    )


class _Verified(NamedTuple):
    """Tokens of one decode step: the first T of them that are emitted are a slot's next ones."""

    tokens_ST: jax.Array
    logprobs_ST: jax.Array
    is_emitted_ST: jax.Array


def decode_chunk(
    state: SlotState,
    weights: qwen2.DecoderWeights,
    table: StopTable,
    pages_SJ: jax.Array | None,
    *,
    config: Qwen2Config,
    steps: int,
    length: int,
    stop_token_ids: tuple[int, ...],
    num_guesses: int = 0,
) -> tuple[SlotState, DecodedChunk]:
    """Take up to `steps` decode steps in every active slot; stop early when no slot is active.

    A step yields a token, and one more for each of up to `num_guesses` verified guesses.
    `pages_SJ` has pages for all that an active slot can write; None: slot s has page s alone. A row
    is full at `length` tokens.
    """
    slots, width = state.pending_S.shape[0], 1 + num_guesses
    row_S1 = jnp.arange(slots)[:, None]

    def step(carry):
        step_index, state, tokens_SE, logprobs_SE, count_S = carry
        state, verified = _step(
            state,
            weights,
            table,
            pages_SJ,
            config=config,
            length=length,
            stop_token_ids=stop_token_ids,
            num_guesses=num_guesses,
        )
        at_ST = count_S[:, None] + jnp.arange(width)[None, :]
        at_ST = jnp.where(verified.is_emitted_ST, at_ST, steps * width)
        tokens_SE = tokens_SE.at[row_S1, at_ST].set(verified.tokens_ST, mode="drop")
        logprobs_SE = logprobs_SE.at[row_S1, at_ST].set(verified.logprobs_ST, mode="drop")
        count_S += verified.is_emitted_ST.sum(axis=1)
        return step_index + 1, state, tokens_SE, logprobs_SE, count_S

    def continues(carry):
        step_index, state, *_ = carry
        return (step_index < steps) & state.active_S.any()

    none_SE = jnp.zeros((slots, steps * width), jnp.int32)
    start = (jnp.int32(0), state, none_SE, none_SE.astype(jnp.float32), none_SE[:, 0])
    num_steps, state, tokens_SE, logprobs_SE, count_S = jax.lax.while_loop(continues, step, start)
    chunk = DecodedChunk(
        tokens_SE=tokens_SE,
        logprobs_SE=logprobs_SE,
        count_S=count_S,
        # Copy, as the state is donated to the next call and the host may read the chunk later.
        active_S=jnp.copy(state.active_S),
        stop_S=table.stop_A[state.automaton_S],
        steps=num_steps,
    )
    return state, chunk


def _step(
    state: SlotState,
    weights: qwen2.DecoderWeights,
    table: StopTable,
    pages_SJ: jax.Array | None,
    *,
    config: Qwen2Config,
    length: int,
    stop_token_ids: tuple[int, ...],
    num_guesses: int,
) -> tuple[SlotState, _Verified]:
    """Feed each active slot's pending token and the guesses after it, and sample at all of them.

    The state of slots that are not active is unchanged.
    """
    vocab = table.next_state_AV.shape[1]
    page_length = sum(segment.shape[2] for segment in state.cache[0][0])
    capacity = page_length * (1 if pages_SJ is None else pages_SJ.shape[1])
    tokens_ST, num_fed_S = state.pending_S[:, None], jnp.ones_like(state.pending_S)
    if num_guesses:
        guess_SD, known_S = speculation.guess(state.history_SC, state.position_S, num_guesses)
        tokens_ST = jnp.concatenate([tokens_ST, guess_SD], axis=1)
        # Neither the budget nor the row's length lets a slot sample behind its last tokens.
        room_S = jnp.minimum(state.budget_S, length - 1 - state.position_S)
        num_fed_S = jnp.minimum(1 + known_S, room_S)
    offset_T = jnp.arange(1 + num_guesses)
    is_fed_ST = state.active_S[:, None] & (offset_T[None, :] < num_fed_S[:, None])
    at_ST = state.position_S[:, None] + offset_T[None, :]
    x_STD, cache = kv_cache.extend(
        config, weights, state.cache, tokens_ST, jnp.where(is_fed_ST, at_ST, capacity), pages_SJ
    )
    # Checkpoints have more embeddings than the tokenizer has tokens; the rest is never sampled.
    logits_STV = kv_cache.logits(config, weights, x_STD)[:, :, :vocab]
    history_SC = _write_history(state.history_SC, tokens_ST, at_ST, is_fed_ST)
    sampled_ST, logprobs_ST = _sample(logits_STV, at_ST, state._replace(history_SC=history_SC))
    # A guess holds if it is what was sampled before it, and all guesses before it hold.
    holds_ST = jnp.pad(
        tokens_ST[:, 1:] == sampled_ST[:, :-1], ((0, 0), (1, 0)), constant_values=True
    )
    is_reached_ST = is_fed_ST & jnp.cumprod(holds_ST, axis=1).astype(bool)
    state = state._replace(cache=cache)
    emitted = []
    for place in range(1 + num_guesses):
        is_emitted_S = state.active_S & is_reached_ST[:, place]
        emitted.append(is_emitted_S)
        state = _advance(state, sampled_ST[:, place], is_emitted_S, table, length, stop_token_ids)
    is_emitted_ST = jnp.stack(emitted, axis=1)
    history_SC = _write_history(history_SC, sampled_ST, at_ST + 1, is_emitted_ST)
    state = state._replace(history_SC=history_SC)
    return state, _Verified(sampled_ST, logprobs_ST, is_emitted_ST)


def _write_history(
    history_SC: jax.Array, tokens_ST: jax.Array, at_ST: jax.Array, is_real_ST: jax.Array
) -> jax.Array:
    row_S1 = jnp.arange(len(history_SC))[:, None]
    at_ST = jnp.where(is_real_ST, at_ST, history_SC.shape[1])
    return history_SC.at[row_S1, at_ST].set(tokens_ST, mode="drop")


def _sample(
    logits_STV: jax.Array, at_ST: jax.Array, state: SlotState
) -> tuple[jax.Array, jax.Array]:
    """Sample the token after each position, and return their log-probabilities, [S, T] both."""
    slots, tokens, vocab = logits_STV.shape
    key_X, history_XC, sampling = jax.tree.map(
        lambda x: jnp.repeat(x, tokens, axis=0), (state.key_S, state.history_SC, state.sampling)
    )
    at_X = at_ST.reshape(-1)
    logits_XV = logits_STV.reshape(slots * tokens, vocab)
    logits_XV = token_sampling.penalize(logits_XV, history_XC, at_X, sampling)
    token_X, logprob_X = token_sampling.sample(logits_XV, key_X, at_X + 1, sampling)
    return token_X.reshape(slots, tokens), logprob_X.reshape(slots, tokens)


def _advance(
    state: SlotState,
    token_S: jax.Array,
    is_emitted_S: jax.Array,
    table: StopTable,
    length: int,
    stop_token_ids: tuple[int, ...],
) -> SlotState:
    """Let slots emit a token, which then is pending, or pauses its slot."""
    automaton_S = table.next_state_AV[state.automaton_S, token_S].astype(jnp.int32)
    # There are one to five: comparing with each is cheaper than a table over the vocabulary.
    is_stop_token_S = jnp.zeros_like(is_emitted_S)
    for stop_token_id in stop_token_ids:
        is_stop_token_S |= token_S == stop_token_id
    position_S, budget_S = state.position_S + 1, state.budget_S - 1
    continues_S = (
        (table.stop_A[automaton_S] == 0)
        & ~is_stop_token_S
        & (budget_S > 0)
        & (position_S < length - 1)
    )
    return state._replace(
        pending_S=jnp.where(is_emitted_S, token_S, state.pending_S),
        position_S=jnp.where(is_emitted_S, position_S, state.position_S),
        automaton_S=jnp.where(is_emitted_S, automaton_S, state.automaton_S),
        active_S=jnp.where(is_emitted_S, continues_S, state.active_S),
        budget_S=jnp.where(is_emitted_S, budget_S, state.budget_S),
    )


def write_layer(
    pair: paged_attention.Pair,
    x_ITD: jax.Array,
    weights: qwen2.LayerWeights,
    positions_IT: jax.Array,
    pages_IJ: jax.Array,
    *,
    config: Qwen2Config,
) -> tuple[jax.Array, paged_attention.Pair]:
    """Write the tokens of a prefill to one layer's cache; also return the next layer's input.

    A prefill calls it once per layer: all layers share one program, which compiles in a fraction of
    the time that a program of all layers takes.
    """
    return kv_cache.extend_layer(config, weights, pair, x_ITD, positions_IT, pages_IJ)


def copy_pages(
    cache: kv_cache.Cache, source_I: jax.Array, target_I: jax.Array, length_I: jax.Array
) -> kv_cache.Cache:
    """Copy pages of the cache to others: the segments that hold `length_I` tokens of them.

    The longest come first; padding is at the end and has length 0.
    """

    def copy_segments(pool: paged_attention.Pool) -> paged_attention.Pool:
        first, copied = 0, []
        for segment in pool:
            # Copy one by one: copying all at once would need memory for all pages.
            count = (length_I > first).sum()
            copied.append(jax.lax.fori_loop(0, count, copy_page, segment))
            first += segment.shape[2]
        return tuple(copied)

    def copy_page(row: jax.Array, segment: MaybeInt8) -> MaybeInt8:
        # Use an array of one index: if the mesh shards the pages, a scalar index would gather all
        # pages, while an array gathers this page alone.
        source_1, target_1 = source_I[row][None], target_I[row][None]

        def copy(array_KUWH: jax.Array) -> jax.Array:
            return array_KUWH.at[:, target_1].set(array_KUWH[:, source_1], mode="drop")

        return jax.tree.map(copy, segment)

    return tuple((copy_segments(keys), copy_segments(values)) for keys, values in cache)


def deactivate(state: SlotState, slot_S: jax.Array) -> SlotState:
    """Stop decoding in some slots, padded to S entries; slot S marks padding."""
    return state._replace(active_S=state.active_S.at[slot_S].set(False, mode="drop"))


class SlotUpdate(NamedTuple):
    """An update has new control values of some slots, padded to S entries with slot S."""

    slot_S: jax.Array
    pending_S: jax.Array
    position_S: jax.Array
    automaton_S: jax.Array
    budget_S: jax.Array
    key_S: jax.Array
    history_SC: jax.Array
    sampling: token_sampling.SamplingArrays


def activate(state: SlotState, entry: SlotUpdate) -> SlotState:
    """Start decoding in slots from the given pending tokens."""

    def put(values_S, new_S):
        return values_S.at[entry.slot_S].set(new_S, mode="drop")

    return state._replace(
        pending_S=put(state.pending_S, entry.pending_S),
        position_S=put(state.position_S, entry.position_S),
        automaton_S=put(state.automaton_S, entry.automaton_S),
        active_S=put(state.active_S, jnp.ones_like(entry.slot_S, bool)),
        budget_S=put(state.budget_S, entry.budget_S),
        key_S=put(state.key_S, entry.key_S),
        history_SC=put(state.history_SC, entry.history_SC),
        sampling=jax.tree.map(put, state.sampling, entry.sampling),
    )


@jax.jit
def trajectory_keys(run_key: jax.Array, ids_S2: jax.Array) -> jax.Array:
    """Fold only (group id, sample index) of each trajectory into the run's key."""

    def one(ids_2: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(run_key, ids_2[0]), ids_2[1])

    return jax.vmap(one)(ids_S2)


class Programs(NamedTuple):
    """The functions above, jitted for slots of one sharding."""

    decode_chunk: Any
    embed: Any
    write_layer: Any
    copy_pages: Any
    deactivate: Any
    activate: Any


def state_shardings(mesh: Mesh, state: SlotState) -> SlotState:
    """Return shardings with slots and pages over slice, data and fsdp, and heads over tensor."""

    def sharding(axes: tuple[str, ...]) -> Callable[[jax.Array], NamedSharding]:
        return lambda leaf: meshes.array_sharding(
            mesh, "sampler", axes[: leaf.ndim], leaf.shape, rules.SAMPLING_AXES
        )

    pages = sharding(("kv_heads", "pages", "page", "head_dim"))
    slots = jax.tree.map(sharding(("slots", "time")), state._replace(cache=()))
    return slots._replace(cache=jax.tree.map(pages, state.cache))


@functools.lru_cache(maxsize=8)
def compile_programs(mesh: Mesh, shardings: SlotState) -> Programs:
    """Jit the functions above for slots of these shardings (`state_shardings`).

    The state is donated and the sharding of the result is pinned. The compiler's choice could
    differ from the donated argument, which would cause a copy of the cache and a recompilation.
    """
    chunk = NamedSharding(mesh, jax.P())  # every host reads all of it
    rows = NamedSharding(mesh, rules.spec("slots"))

    def jit(
        function: Any, out_shardings: Any, donated: tuple[str, ...], static: tuple[str, ...] = ()
    ) -> Any:
        return jax.jit(
            function,
            static_argnames=static,
            donate_argnames=donated,
            out_shardings=out_shardings,
        )

    state = ("state",)
    chunk_statics = ("config", "steps", "length", "stop_token_ids", "num_guesses")
    return Programs(
        decode_chunk=jit(decode_chunk, (shardings, chunk), state, chunk_statics),
        embed=jit(kv_cache.embed, rows, (), ("dtype",)),
        write_layer=jit(write_layer, (rows, shardings.cache[0]), ("pair", "x_ITD"), ("config",)),
        copy_pages=jit(copy_pages, shardings.cache, ("cache",)),
        deactivate=jit(deactivate, shardings, state),
        activate=jit(activate, shardings, state),
    )
