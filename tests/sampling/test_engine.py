"""Slots against the full forward pass: pausing, chunking and neighbours leave no trace."""

import collections
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.model import qwen2
from r1ci_jax.sampling import page_table
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sampling.page_table import CacheLayout
from tests.sampling.random_model import (
    CONFIG,
    EOS,
    PAUSE,
    SAMPLER,
    STOP_TOKENS,
    VOCAB,
    WIDE,
    alone,
    feed,
    prompt_of,
)


def test_a_slot_stops_at_the_automaton_and_nowhere_before(make_engine) -> None:
    engine = make_engine()
    stops = []
    for number in range(12):
        tokens, _, stop = alone(engine, feed(0, prompt_of(number), rollout_id=(number, 0)))
        assert not set(tokens[:-1]) & {*STOP_TOKENS, EOS}
        reached = 9 + len(tokens) == SAMPLER.cache_length
        assert (stop == PAUSE) == (tokens[-1] in STOP_TOKENS)
        assert stop == PAUSE or tokens[-1] == EOS or reached
        stops.append(stop)
    assert stops.count(PAUSE) >= 6


def test_log_probabilities_are_those_of_the_full_forward(make_engine, next_logits) -> None:
    engine, checked = make_engine(), 0
    for number, temperature in enumerate((0.6, 1.0, 1.4, 1.0, 0.8, 1.2)):
        prompt = prompt_of(number)
        tokens, logprobs, _ = alone(
            engine, feed(1, prompt, rollout_id=(number, 3), temperature=temperature)
        )
        logits = next_logits([*prompt, *tokens])[len(prompt) - 1 : -1]
        expected = jax.nn.log_softmax(jnp.asarray(logits) / temperature, axis=-1)
        chosen = np.asarray(expected)[np.arange(len(tokens)), tokens]
        np.testing.assert_allclose(logprobs, chosen, atol=1e-4)
        checked += len(tokens)
    assert checked > 40


def test_greedy_tokens_are_the_argmax_of_the_full_forward(make_engine, next_logits) -> None:
    engine = make_engine()
    for number in range(4):
        prompt = prompt_of(number)
        tokens, _, _ = alone(engine, feed(0, prompt, temperature=0.0, budget=20))
        assert tokens == next_logits([*prompt, *tokens])[len(prompt) - 1 : -1].argmax(-1).tolist()


def episode(engine: Engine, slot: int, number: int) -> list[tuple[int, list[int]]]:
    """Sample, pause, be told more, go on: (start, tokens) of each stretch, then the whole row."""
    rollout = (number, 1)
    row = list(prompt_of(number))
    stretches = []
    tokens, _, _ = alone(engine, feed(slot, tuple(row), rollout_id=rollout))
    for turn in range(4):
        stretches.append((len(row), tokens))
        row += tokens
        observation = prompt_of(1000 * number + turn, length=6)
        if tokens[-1] not in STOP_TOKENS or len(row) + len(observation) >= SAMPLER.cache_length:
            break
        given = feed(slot, (row[-1], *observation), position=len(row) - 1, rollout_id=rollout)
        row += observation
        tokens, _, _ = alone(engine, given)
    return [*stretches, (0, row)]


@pytest.mark.parametrize("changes", [{"chunk_steps": 1}, {"chunk_steps": 7}, WIDE])
def test_resuming_after_a_pause_equals_having_read_it_all(make_engine, changes) -> None:
    paused, fresh, resumed = make_engine(**changes), make_engine(), 0
    for number in range(8):
        *stretches, (_, row) = episode(paused, number % 3, number)
        for start, tokens in stretches:
            again, _, _ = alone(fresh, feed(2, tuple(row[:start]), rollout_id=(number, 1)))
            assert again == tokens
        resumed += len(stretches) - 1
    assert resumed >= 8


def test_chunk_length_slots_and_neighbours_change_nothing(make_engine) -> None:
    def all_of(engine: Engine, order: list[int]) -> dict[int, list[int]]:
        """Fill the slots with the next ones as they fall free, whoever the neighbours are."""
        waiting, owner = list(order), dict[int, int]()
        tokens: dict[int, list[int]] = {number: [] for number in order}
        while waiting or owner:
            feeds = []
            for slot in range(engine.sampler.slots):
                if waiting and slot not in owner:
                    number = owner[slot] = waiting.pop(0)
                    feeds.append(feed(slot, prompt_of(number, 5 + number), rollout_id=(number, 0)))
            engine.feed(feeds)
            for emitted in engine.decode():
                tokens[owner[emitted.slot]] += emitted.tokens
                if emitted.is_paused:
                    del owner[emitted.slot]
        return tokens

    expected = all_of(make_engine(), list(range(10)))
    assert len({tuple(tokens) for tokens in expected.values()}) == 10
    for changes in ({"chunk_steps": 1}, WIDE, {"slots": 1}):
        assert all_of(make_engine(**changes), list(range(10))) == expected
    assert all_of(make_engine(), [7, 2, 9, 0, 4, 1, 8, 3, 6, 5]) == expected


@pytest.mark.parametrize("guesses", [0, 3])
def test_whole_rows_in_segments_sample_what_pages_sample(
    make_engine, monkeypatch: pytest.MonkeyPatch, guesses: int
) -> None:
    monkeypatch.setattr(page_table, "WHOLE_ROWS", 16)
    pages = make_engine()
    rows = make_engine(page_length=0, speculative_tokens=guesses)
    assert CacheLayout.of(rows.sampler, 1, platform="cpu").segments(3) == (16, 16, 32)
    for number in range(6):
        assert episode(rows, number % 3, number) == episode(pages, number % 3, number)
    # Members of a group copy their prompt's segments, beside a row that is longer.
    group, other = prompt_of(1, 20), prompt_of(2, 40)
    feeds = [feed(0, group), feed(1, group, rollout_id=(0, 1)), feed(2, other)]
    found = []
    for engine in (rows, pages):
        engine.feed(feeds)
        tokens = collections.defaultdict[int, list[int]](list)
        while emitted := engine.decode():
            for each in emitted:
                tokens[each.slot] += each.tokens
        found.append(tokens)
    assert found[0] == found[1]
    assert rows.shared_tokens == pages.shared_tokens == 19


def test_seed_and_member_decide_the_tokens(make_engine) -> None:
    def sampled(seed: int, member: int) -> tuple[list[int], list[float], int]:
        return alone(make_engine(seed=seed), feed(0, prompt_of(4), rollout_id=(4, member)))

    assert sampled(0, 0) == sampled(0, 0)
    different = [sampled(0, member)[0] for member in range(5)] + [sampled(1, 0)[0]]
    assert len({tuple(tokens) for tokens in different}) == 6


def test_a_long_prompt_in_several_passes_equals_one_pass(make_engine) -> None:
    prompt = prompt_of(5, length=45)
    several = alone(make_engine(), feed(0, prompt))
    one = alone(make_engine(prefill_buckets=(64,)), feed(0, prompt))
    assert several[0] == one[0]
    np.testing.assert_allclose(several[1], one[1], atol=1e-4)


def test_prompts_of_one_token_and_of_every_length_enter_together(make_engine) -> None:
    together, by_itself = make_engine(**WIDE), make_engine()
    for lengths in ((1, 2, 4, 5, 6), (16, 17, 18, 33, 34)):
        together.feed([feed(slot, prompt_of(slot, length)) for slot, length in enumerate(lengths)])
        first = {emitted.slot: emitted.tokens[0] for emitted in together.decode()}
        for slot, length in enumerate(lengths):
            given = feed(0, prompt_of(slot, length), rollout_id=(slot, 0))
            assert alone(by_itself, given)[0][0] == first[slot]


def test_budget_and_cache_row_end_a_slot(make_engine) -> None:
    engine = make_engine(endless=True)
    for budget in (1, 2, 7, 8):
        tokens, _, stop = alone(engine, feed(0, (5, 6), budget=budget, temperature=0.0))
        assert stop == 0 and len(tokens) == budget
    full, _, stop = alone(engine, feed(0, (5, 6), temperature=0.0))
    assert stop == 0 and 2 + len(full) == SAMPLER.cache_length
    last = feed(0, (5, 6, *full[:-1]), temperature=0.0)  # room for exactly one more
    assert alone(engine, last)[0] == full[-1:]
    with pytest.raises(AssertionError, match="no room"):
        engine.feed([feed(0, (5, 6, *full))])


def test_rows_behind_the_vocabulary_are_never_sampled(make_engine, model) -> None:
    logits = np.asarray(model(jnp.asarray([prompt_of(1)])))[0]
    assert (logits.argmax(-1) >= VOCAB).mean() > 0.8  # they are the most likely ones by far
    engine = make_engine()
    for number in range(6):
        tokens, _, _ = alone(engine, feed(0, prompt_of(number), temperature=5.0))
        assert max(tokens) < VOCAB


def test_cancelled_slots_stay_silent_and_can_be_used_again(make_engine) -> None:
    engine, expected = make_engine(), alone(make_engine(), feed(1, prompt_of(3)))
    greedy = {"temperature": 0.0}
    engine.feed([feed(slot, (5, 6), **greedy) for slot in range(3)])
    assert [emitted.slot for emitted in engine.decode()] == [0, 1, 2]
    engine.cancel([0, 2])
    assert [emitted.slot for emitted in engine.decode()] == [1]
    engine.cancel([1])
    assert engine.decode() == []
    assert alone(engine, feed(1, prompt_of(3))) == expected


def test_nothing_compiles_after_the_warm_up(make_engine, compilations: list[str]) -> None:
    changes = {"slots": 4, "chunk_steps": 5, "cache_length": 60}  # a shape that no other test has
    engine = make_engine(**changes)
    engine.warm_up()
    engine.cancel([0])
    assert len(compilations) >= 3
    compilations.clear()
    for number in range(50):  # ragged: other lengths, other counts, resumed and cancelled slots
        feeds = [
            feed(
                slot,
                prompt_of(number // 2, 1 + 7 * (number % 6) + slot),
                budget=3 + number % 5 + slot,
                sampling=SamplingParams(
                    top_k=number % 3, top_p=1 - number % 2 / 4, temperature=number % 4
                ),
            )
            for slot in range(1 + number % 4)
        ]
        engine.feed(feeds)
        engine.decode()
        engine.cancel([0])
        engine.feed([feed(0, prompt_of(number, 3), position=20, budget=2)])
        while engine.decode():
            pass
    assert compilations == []
    assert alone(engine, feed(0, prompt_of(3))) == alone(
        make_engine(**changes), feed(0, prompt_of(3))
    )


@pytest.mark.parametrize("guesses", [1, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.2, 1.0])
def test_speculation_changes_no_token(make_engine, guesses: int, temperature: float) -> None:
    plain, guessing = make_engine(), make_engine(speculative_tokens=guesses)
    options = {"temperature": temperature, "budget": 33}
    for number in range(6):
        # A text that repeats itself, so that there is something to look up.
        prompt = prompt_of(number, 5) * 3
        expected = alone(plain, feed(0, prompt, rollout_id=(number, 0), **options))
        tokens, logprobs, stop = alone(guessing, feed(0, prompt, rollout_id=(number, 0), **options))
        assert (tokens, stop) == (expected[0], expected[2])
        np.testing.assert_allclose(logprobs, expected[1], atol=1e-4)


def test_speculation_goes_on_after_a_pause_and_beside_others(make_engine) -> None:
    plain, guessing = make_engine(), make_engine(speculative_tokens=2)
    for number in range(8):
        assert episode(guessing, number % 3, number) == episode(plain, number % 3, number)


def test_a_chunk_that_is_dispatched_ahead_is_the_same(make_engine) -> None:
    ahead, plain = make_engine(endless=True), make_engine(endless=True)
    for engine in (ahead, plain):
        engine.feed([feed(slot, prompt_of(slot), budget=20) for slot in range(3)])
    ahead.dispatch()
    for _ in range(4):
        ahead.dispatch()
        assert ahead.collect() == plain.decode()
    assert ahead.collect() == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(
    make_engine: Callable[..., Engine], model: qwen2.Qwen2, value: float, temperature: float
) -> None:
    engine = make_engine()
    held = nnx.jit(lambda model: qwen2.decoder_weights(model, CONFIG))(model)
    engine.load(held._replace(norm_D=held.norm_D.at[0].set(value)))
    engine.feed([feed(0, prompt_of(0), sampling=SamplingParams(temperature=temperature))])
    with pytest.raises(UserError, match="logits are not finite"):
        engine.decode()
