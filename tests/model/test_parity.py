"""A clone alone proves parity: logits and greedy tokens of transformers, stored beside this file.

The model, the cached decoder and the sampler's engine reproduce them, and a change of any parameter
or of any number of the architecture is seen. `golden/make.py` makes the files.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import SamplerConfig, SamplingParams
from r1ci_jax.model import qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput

GOLDEN = pathlib.Path(__file__).parent / "golden"
NAMES = ("untied_gqa", "tied_mqa", "shards_bf16")
TOLERANCE = 1e-4
SEEN = 1e-2
"""A change that moves no logit by as much could pass for rounding."""


@functools.cache
def load(name: str) -> tuple[qwen2.Qwen2, dict[str, np.ndarray]]:
    with np.load(GOLDEN / name / "golden.npz") as file:
        golden = {key: file[key] for key in file.files}
    return weights.load_pretrained(GOLDEN / name), golden


@functools.partial(jax.jit, static_argnums=0)
def forward(graphdef: nnx.GraphDef, state: Any, tokens_BT: Any, mask_BT: Any) -> jax.Array:
    """Compiled once for each architecture."""
    return nnx.merge(graphdef, state)(tokens_BT, None, mask_BT)


def largest_difference(model: qwen2.Qwen2, golden: dict[str, np.ndarray]) -> float:
    """Largest difference from the stored logits on real positions, left-padded rows included."""
    graphdef, state = nnx.split(model)
    real_BT = golden["attention_mask"].astype(bool)
    logits_BTV = np.asarray(forward(graphdef, state, golden["input_ids"], real_BT))
    return float(np.abs(logits_BTV - golden["logits"])[real_BT].max())


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_reference(name: str) -> None:
    model, golden = load(name)
    assert not golden["attention_mask"][1:, 0].any(), "rows 1 and 2 are left-padded"
    assert np.abs(golden["logits"]).max() > 1, "the logits say something"
    assert largest_difference(model, golden) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_of_the_engine_are_those_of_the_reference(name: str) -> None:
    model, golden = load(name)
    (rows, steps), vocab = golden["greedy"].shape, model.config.vocab_size
    never = stop_automaton.TokenTable(
        next_state_AV=np.zeros((1, vocab), np.int16), stop_A=np.zeros(1, np.int8), start=0
    )
    sampler = SamplerConfig(
        slots=rows, cache_length=40, chunk_steps=4, prefill_buckets=(24,), prefill_rows=rows
    )
    engine = Engine(model.config, sampler, never, stop_token_ids=(), seed=0)
    engine.load(qwen2.decoder_weights(model, model.config))
    engine.feed(
        [
            SlotInput(
                slot=row,
                tokens=tuple(tokens_T[mask_T.astype(bool)].tolist()),
                position=0,
                budget=steps,
                rollout_id=(row, 0),
                sampling=SamplingParams(temperature=0),
            )
            for row, (tokens_T, mask_T) in enumerate(
                zip(golden["input_ids"], golden["attention_mask"], strict=True)
            )
        ]
    )
    found: list[list[int]] = [[] for _ in range(rows)]
    while emitted := engine.decode():
        for each in emitted:
            found[each.slot] += each.tokens
    np.testing.assert_array_equal(found, golden["greedy"])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("untied_gqa", {"rope_theta": 1e4}),
        ("untied_gqa", {"norm_eps": 1e-6}),
        ("tied_mqa", {"rope_theta": 1e4}),
        ("tied_mqa", {"norm_eps": 1e-3}),
        ("shards_bf16", {"rope_theta": 1e6}),
        ("shards_bf16", {"norm_eps": 1e-3}),
    ],
)
def test_another_number_of_the_architecture_is_seen(name: str, change: dict[str, Any]) -> None:
    model, golden = load(name)
    model = nnx.clone(model)
    model.config = dataclasses.replace(model.config, **change)
    assert largest_difference(model, golden) > SEEN


def scale(path: str, leaf: jax.Array) -> jax.Array:
    """Make a parameter wrong: no bias, norm scales of one, matrices a tenth larger."""
    if path.endswith("_bias"):
        return jnp.zeros_like(leaf)
    return jnp.ones_like(leaf) if "norm" in path else leaf * 1.1


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_counts(name: str) -> None:
    model, golden = load(name)
    graphdef, state = nnx.split(model)
    paths = [
        weights.parameter_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]
    ]
    assert len(paths) == (14 if model.config.tied else 15)
    for wrong in paths:
        changed = jax.tree_util.tree_map_with_path(
            lambda path, leaf, wrong=wrong: (
                scale(wrong, leaf) if weights.parameter_path(path) == wrong else leaf
            ),
            state,
        )
        assert largest_difference(nnx.merge(graphdef, changed), golden) > SEEN, wrong


def test_heads_read_by_the_wrong_queries_are_seen() -> None:
    model, golden = load("untied_gqa")
    model = nnx.clone(model)
    for name in ("k", "k_bias", "v", "v_bias"):
        parameter = getattr(model.layers, name)
        parameter[...] = jnp.flip(parameter[...], axis=-2)
    assert largest_difference(model, golden) > SEEN
