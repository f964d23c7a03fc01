"""Prompts that are in the cache already: computed once, and of no effect on any bit."""

import jax
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.sampling.engine import Engine, SlotInput
from tests.sampling.random_model import (
    CONFIG,
    WIDE,
    alone,
    feed,
    prompt_of,
    until_paused,
)


def test_members_of_a_group_share_one_prefill_whenever_they_enter(make_engine) -> None:
    prompt, engine = prompt_of(1, 12), make_engine(**WIDE)
    expected = {
        member: alone(make_engine(**WIDE), feed(0, prompt, rollout_id=(0, member)))
        for member in range(5)
    }
    engine.feed([feed(slot, prompt, rollout_id=(0, slot)) for slot in (0, 1)])
    assert (engine.prefilled_tokens, engine.shared_tokens) == (11, 11)
    assert until_paused(engine, 0) == expected[0]
    # Into its own slot again, and into one beside a busy one.
    engine.feed([feed(0, prompt, rollout_id=(0, 2)), feed(3, prompt, rollout_id=(0, 3))])
    assert (engine.prefilled_tokens, engine.shared_tokens) == (11, 33)
    assert until_paused(engine, 3) == expected[3]
    while engine.decode():
        pass
    engine.feed([feed(slot, prompt_of(2, 12), rollout_id=(1, slot)) for slot in (0, 1, 3)])
    assert (engine.prefilled_tokens, engine.shared_tokens) == (22, 55)
    while engine.decode():
        pass
    engine.feed([feed(4, prompt, rollout_id=(0, 4))])
    assert (engine.prefilled_tokens, engine.shared_tokens) == (22, 66)
    assert until_paused(engine, 4) == expected[4]


@pytest.mark.parametrize("changes", [WIDE, WIDE | {"page_length": 0}], ids=["pages", "rows"])
def test_prompts_that_begin_alike_compute_that_once(make_engine, changes) -> None:
    prefix = prompt_of(1, 21)  # more than two pages of 8, and more than a bucket of 16
    prompts = [(*prefix, *prompt_of(number, 3 + number)) for number in range(2, 9)]

    def given(slot: int, number: int) -> SlotInput:
        return feed(slot, prompts[number], num_prefix_tokens=21, rollout_id=(number, 0))

    expected = [alone(make_engine(**changes), given(0, number)) for number in range(len(prompts))]
    engine = make_engine(**changes)
    engine.feed([given(slot, slot) for slot in range(3)])
    rest = sum(len(prompt) - 1 - 21 for prompt in prompts[:3])
    assert (engine.prefilled_tokens, engine.shared_tokens) == (21 + rest, 2 * 21)
    found = _all_until_paused(engine)
    assert found == {slot: expected[slot] for slot in range(3)}
    # Into the slot that computed the prefix, and two more: bit for bit as if each had computed it.
    engine.feed([given(slot, number) for slot, number in ((0, 3), (4, 4), (1, 5))])
    assert engine.shared_tokens == 5 * 21
    assert _all_until_paused(engine) == {0: expected[3], 4: expected[4], 1: expected[5]}
    # A row that begins otherwise takes its slot; the others have it from elsewhere or compute it.
    for slot in range(5):
        engine.feed([feed(slot, prompt_of(50 + slot, 30))])
    _all_until_paused(engine)
    engine.feed([given(3, 6)])
    assert _all_until_paused(engine) == {3: expected[6]}


def _all_until_paused(engine: Engine) -> dict[int, tuple[list[int], list[float], int]]:
    found: dict[int, tuple[list[int], list[float], int]] = {}
    while emitted := engine.decode():
        for row in emitted:
            tokens, logprobs, _ = found.get(row.slot, ([], [], 0))
            found[row.slot] = ([*tokens, *row.tokens], [*logprobs, *row.logprobs], row.stop)
    return found


def test_the_log_probabilities_behind_a_prefix_are_those_of_the_full_forward(
    make_engine, next_logits
) -> None:
    engine, prefix = make_engine(), prompt_of(1, 13)
    for number in range(4):
        prompt = (*prefix, *prompt_of(number, 6))
        tokens, logprobs, _ = alone(engine, feed(number % 3, prompt, num_prefix_tokens=13))
        logits = next_logits([*prompt, *tokens])[len(prompt) - 1 : -1]
        expected = jax.nn.log_softmax(logits)[np.arange(len(tokens)), tokens]
        np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_prompts_that_swap_their_slots_are_not_mixed_up(make_engine) -> None:
    first, second = prompt_of(1, 12), prompt_of(2, 12)
    engine = make_engine()
    engine.feed([feed(0, first), feed(1, second)])
    while engine.decode():
        pass
    engine.feed([feed(0, second), feed(1, first), feed(2, second)])
    found = {slot: ([], []) for slot in range(3)}
    while emitted := engine.decode():
        for row in emitted:
            found[row.slot][0].extend(row.tokens)
            found[row.slot][1].extend(row.logprobs)
    for slot, prompt in enumerate((second, first, second)):
        tokens, logprobs, _ = alone(make_engine(), feed(slot, prompt))
        assert found[slot][0] == tokens
        np.testing.assert_allclose(found[slot][1], logprobs, atol=1e-5)


def test_new_weights_forget_the_prompts_of_the_old_ones(make_engine, model) -> None:
    engine = make_engine()
    engine.feed([feed(0, prompt_of(1, 12))])
    engine.load(nnx.jit(lambda model: qwen2.decoder_weights(model, CONFIG))(model))
    engine.feed([feed(1, prompt_of(1, 12))])
    assert engine.shared_tokens == 0
