"""The repetition penalty by hand, and in the engine against the forward pass without a cache."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.config import SamplingParams
from r1ci_jax.sampling import token_sampling
from r1ci_jax.sampling.engine import Engine
from tests.sampling.random_model import EOS, STOP_TOKENS, feed, prompt_of, until_paused

HOW = SamplingParams(temperature=0.0, repetition_penalty=1.5)


def test_tokens_of_the_row_by_hand() -> None:
    logits_SV = jnp.asarray([[2.0, -1.0, 0.5, 3.0], [2.0, -1.0, 0.5, 3.0]])
    history_SC = jnp.asarray([[0, 1, 1, 3], [3, 0, 0, 0]])  # position 3 of the first is not held
    params = token_sampling.SamplingArrays.from_params(
        [SamplingParams(repetition_penalty=2.0), SamplingParams()]
    )
    found_SV = token_sampling.penalize(logits_SV, history_SC, jnp.asarray([2, 0]), params)
    np.testing.assert_array_equal(found_SV, [[1.0, -2.0, 0.5, 3.0], [2.0, -1.0, 0.5, 3.0]])


def greedy(next_logits: Callable[[list[int]], np.ndarray], tokens: list[int]) -> int:
    logits_V = np.array(next_logits(tokens)[len(tokens) - 1])
    for token in set(tokens):
        logits_V[token] = logits_V[token] / 1.5 if logits_V[token] > 0 else logits_V[token] * 1.5
    return int(logits_V.argmax())


@pytest.mark.parametrize("guesses", [0, 3])
def test_the_engine_penalizes_the_prompt_the_turns_and_what_it_read(
    make_engine: Callable[..., Engine],
    next_logits: Callable[[list[int]], np.ndarray],
    guesses: int,
) -> None:
    engine = make_engine(speculative_tokens=guesses)
    prompt, observation = prompt_of(1), prompt_of(2, 5)
    engine.feed([feed(0, prompt, sampling=HOW), feed(1, prompt_of(3), temperature=0.0)])
    first, _, _ = until_paused(engine, 0)
    row = [*prompt, *first]
    engine.feed([feed(0, (row[-1], *observation), position=len(row) - 1, sampling=HOW, budget=12)])
    row += observation
    second, _, _ = until_paused(engine, 0)
    expected = list(prompt)
    while expected[len(prompt) :][-1:] != [EOS] and len(expected) < len(prompt) + len(first):
        expected.append(greedy(next_logits, expected))
    assert expected == [*prompt, *first] and first[-1] in (*STOP_TOKENS, EOS)
    for token in second:
        assert token == greedy(next_logits, row)
        row.append(token)
    assert len(second) > 1
