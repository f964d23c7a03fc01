"""Logits and greedy continuations of the reference implementation (transformers), reproduced."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.model import attention, kv_cache, qwen2
from r1ci_jax.model.hf import weights

TOLERANCE = 1e-4
NAMES = ("untied_gqa", "tied_mqa", "sharded_bf16")


@functools.cache
def load(directory: pathlib.Path):
    with np.load(directory / "golden.npz") as file:
        golden = {name: file[name] for name in file.files}
    return weights.load_pretrained(directory), golden


def logits_of(directory: pathlib.Path) -> np.ndarray:
    model, golden = load(directory)
    graphdef, state = nnx.split(model)
    forward = jax.jit(lambda state, tokens, mask: nnx.merge(graphdef, state)(tokens, None, mask))
    mask_BT = jnp.asarray(golden["attention_mask"].astype(bool))
    return np.asarray(forward(state, jnp.asarray(golden["input_ids"]), mask_BT))


@pytest.mark.parametrize("name", ["untied_gqa", "tied_mqa"])
def test_logits_equal_the_stored_reference(shared_data: pathlib.Path, name: str):
    assert stored_difference(shared_data / "qwen2_golden" / name) <= TOLERANCE


def test_bfloat16_logits_differ_from_the_stored_reference_by_its_rounded_frequencies_alone(
    shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    """The reference model was cast to bfloat16 and back, its table of RoPE frequencies with it.

    A published bfloat16 checkpoint has no such table, so ours stays exact: rounding it is right for
    reproducing these logits and wrong for everything else.
    """
    exact = attention.frequencies

    def rounded(head_dim: int, theta: float) -> jax.Array:
        return exact(head_dim, theta).astype(jnp.bfloat16).astype(jnp.float32)

    directory = shared_data / "qwen2_golden" / "sharded_bf16"
    assert stored_difference(directory) > TOLERANCE
    monkeypatch.setattr(attention, "frequencies", rounded)
    assert stored_difference(directory) <= TOLERANCE


def stored_difference(directory: pathlib.Path) -> float:
    """Largest difference from the stored logits on real positions, left-padded rows included."""
    _, golden = load(directory)
    real_BT = golden["attention_mask"].astype(bool)
    assert not real_BT[1:, 0].any(), "rows 1 and 2 are left-padded"
    return float(np.abs(logits_of(directory) - golden["logits"])[real_BT].max())


def test_positions_are_the_reference_ones(shared_data: pathlib.Path):
    _, golden = load(shared_data / "qwen2_golden" / "untied_gqa")
    mask_BT = jnp.asarray(golden["attention_mask"].astype(bool))
    positions_BT = qwen2.default_positions(mask_BT, None)
    real_BT = np.asarray(mask_BT)
    np.testing.assert_array_equal(
        np.asarray(positions_BT)[real_BT], golden["position_ids"][real_BT]
    )


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_through_the_full_forward_pass(shared_data: pathlib.Path, name: str):
    model, golden = load(shared_data / "qwen2_golden" / name)
    graphdef, state = nnx.split(model)
    prompt, steps = golden["input_ids"].shape[1], golden["greedy"].shape[1]

    @jax.jit
    def step(state, tokens_BT, mask_BT, last):
        logits_BTV = nnx.merge(graphdef, state)(tokens_BT, None, mask_BT)
        chosen_B = jnp.argmax(logits_BTV[:, last], axis=-1).astype(tokens_BT.dtype)
        return tokens_BT.at[:, last + 1].set(chosen_B), mask_BT.at[:, last + 1].set(True)

    tokens_BT = jnp.pad(jnp.asarray(golden["input_ids"]), ((0, 0), (0, steps)))
    mask_BT = jnp.pad(jnp.asarray(golden["attention_mask"].astype(bool)), ((0, 0), (0, steps)))
    for last in range(prompt - 1, prompt + steps - 1):
        tokens_BT, mask_BT = step(state, tokens_BT, mask_BT, last)
    np.testing.assert_array_equal(np.asarray(tokens_BT)[:, prompt:], golden["greedy"])


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_through_the_cache(shared_data: pathlib.Path, name: str):
    model, golden = load(shared_data / "qwen2_golden" / name)
    config = model.config
    held = qwen2.decoder_weights(model, config)
    tokens_IT = jnp.asarray(golden["input_ids"])
    rows, prompt = tokens_IT.shape
    length = prompt + golden["greedy"].shape[1]
    mask_RT = jnp.asarray(golden["attention_mask"].astype(bool))
    # The cache has no padding: left-padded prompts start at position 0, the padding is dropped.
    positions_IT = jnp.where(mask_RT, qwen2.default_positions(mask_RT, None), length)

    pages_RJ = kv_cache.contiguous_pages(rows, 1)

    @functools.partial(jax.jit, donate_argnums=1)
    def step(held, cache, tokens_IT, positions_IT):
        x_RTD, cache = kv_cache.extend(config, held, cache, tokens_IT, positions_IT, pages_RJ)
        logits_RV = kv_cache.logits(config, held, x_RTD[:, -1])
        return jnp.argmax(logits_RV, axis=-1).astype(tokens_IT.dtype), cache

    cache = kv_cache.init_cache(config, rows, length, jnp.float32)
    chosen_R, cache = step(held, cache, tokens_IT, positions_IT)
    found = [chosen_R]
    filled_R = jnp.sum(mask_RT, axis=1)
    for i in range(golden["greedy"].shape[1] - 1):
        chosen_R, cache = step(held, cache, chosen_R[:, None], filled_R[:, None] + i)
        found.append(chosen_R)
    np.testing.assert_array_equal(np.stack(found, axis=1), golden["greedy"])
