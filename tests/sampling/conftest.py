"""Engines of a random model. Its attention matters for every token, and one stop state of the token
table makes it pause every few tokens, as closing a code block would.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from tests.sampling.random_model import (
    CONFIG,
    EOS,
    PAUSE,
    SAMPLER,
    STOP_TOKENS,
    VOCAB,
)


@pytest.fixture(scope="module")
def model() -> qwen2.Qwen2:
    """Random, with a head sharp enough to prefer some tokens, and the padding rows most of all."""

    @nnx.jit
    def make() -> qwen2.Qwen2:
        model = qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0))
        assert model.lm_head is not None
        model.embed[...] = model.embed[...] * 30
        model.lm_head[...] = (model.lm_head[...] * 12).at[:, VOCAB:].mul(20)
        return model

    return make()


@pytest.fixture(scope="module")
def table() -> stop_automaton.TokenTable:
    """Goes to the stop state at any of the stop tokens, and stays there."""
    next_state_AV = np.zeros((2, VOCAB), np.int16)
    next_state_AV[0, list(STOP_TOKENS)] = 1
    next_state_AV[1] = 1
    return stop_automaton.TokenTable(
        next_state_AV=next_state_AV, stop_A=np.array([0, PAUSE], np.int8), start=0
    )


@pytest.fixture(scope="module")
def make_engine(model: qwen2.Qwen2, table: stop_automaton.TokenTable) -> Callable[..., Engine]:
    weights = nnx.jit(lambda model: qwen2.decoder_weights(model, CONFIG))(model)
    endless_table = dataclasses.replace(table, stop_A=np.zeros_like(table.stop_A))

    def make(*, seed: int = 0, endless: bool = False, **changes) -> Engine:
        engine = Engine(
            CONFIG,
            dataclasses.replace(SAMPLER, **changes),
            endless_table if endless else table,
            stop_token_ids=(EOS,),
            seed=seed,
        )
        engine.load(weights)
        return engine

    return make


@pytest.fixture(scope="module")
def next_logits(model: qwen2.Qwen2) -> Callable[[list[int]], np.ndarray]:
    """Logits [T, VOCAB] after each token of a row, by the full forward pass without a cache."""
    forward = nnx.jit(lambda model, tokens_BT: model(tokens_BT))

    def logits(tokens: list[int]) -> np.ndarray:
        padded = np.zeros((1, SAMPLER.cache_length), np.int32)
        padded[0, : len(tokens)] = tokens
        return np.asarray(forward(model, jnp.asarray(padded)))[0, : len(tokens), :VOCAB]

    return logits


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one entry for every program that is compiled."""
    found: list[str] = []

    def listen(event: str, _: float, **__: object) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)
