"""Low-rank adaptation: starts as the model itself, and merged equals adapted."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.model import lora, qwen2
from r1ci_jax.sharding import rules

CONFIG = qwen2.Qwen2Config(
    vocab_size=50, width=32, layers=2, query_heads=4, kv_heads=2, head_dim=8, mlp_width=48
)
TOKENS_BT = jax.random.randint(jax.random.key(1), (2, 12), 0, 50)
SCALE = 0.5


@pytest.fixture(scope="module")
def model() -> qwen2.Qwen2:
    return qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0))


def adapted(model: qwen2.Qwen2, adapters: lora.Adapters) -> jax.Array:
    adapt = functools.partial(lora.adapt_layer, scale=SCALE)
    return model.hidden_and_lm_head(TOKENS_BT, adapt=adapt, adapters=adapters["layers"])[0]


def moved(adapters: lora.Adapters) -> lora.Adapters:
    return jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), adapters)


def test_new_adapters_change_nothing_but_have_a_gradient(model: qwen2.Qwen2) -> None:
    adapters = lora.init(CONFIG, 3, jax.random.key(0))
    np.testing.assert_allclose(
        adapted(model, adapters), model.hidden_and_lm_head(TOKENS_BT)[0], atol=1e-6
    )
    gradients = jax.grad(lambda x: jnp.sum(adapted(model, x) ** 3))(adapters)
    for matrix, pair in gradients["layers"].items():
        assert jnp.abs(pair["lora_out"]).max() > 0, matrix
        assert not pair["lora_in"].any(), matrix  # its partner is still zero


def test_adapters_begin_at_the_scale_of_their_inputs_and_differ() -> None:
    adapters = lora.init(CONFIG, 64, jax.random.key(0))["layers"]
    numbers = {matrix: np.asarray(pair["lora_in"]) for matrix, pair in adapters.items()}
    for matrix, fan_in in {"q": 32, "o": 4 * 8, "gate": 32, "down": 48}.items():
        spread = numbers[matrix].std() * fan_in**0.5
        assert 0.95 < spread < 1.05, (matrix, spread)  # 4,096 numbers or more
    starts = {float(each.flat[0] / each.std()) for each in numbers.values()}
    assert len(starts) == len(lora.MATRICES), "no two matrices begin alike"


def test_no_gradient_of_a_frozen_weight_is_computed(model: qwen2.Qwen2) -> None:
    adapters = lora.init(CONFIG, 3, jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(adapted(model, x) ** 3)))
    program = str(gradient.lower(adapters).compile().as_text())
    products = [line for line in program.splitlines() if " dot(" in line]
    assert products
    # Gradients of gate, down and of q as a matrix would have the shapes of these weights.
    for shape in ("f32[32,48]", "f32[48,32]", "f32[32,32]"):
        assert not [line for line in products if f"= {shape}" in line], shape


def test_merged_weights_equal_adapted_ones(model: qwen2.Qwen2) -> None:
    adapters = moved(lora.init(CONFIG, 3, jax.random.key(0)))
    graphdef, params = nnx.split(model)
    merged = nnx.merge(graphdef, lora.merge_params(params, adapters, SCALE))
    difference = jnp.abs(
        merged.hidden_and_lm_head(TOKENS_BT)[0] - model.hidden_and_lm_head(TOKENS_BT)[0]
    ).max()
    assert difference > 0.1
    np.testing.assert_allclose(
        merged.hidden_and_lm_head(TOKENS_BT)[0], adapted(model, adapters), atol=1e-4
    )
    # By hand, for one matrix with two input axes.
    pair = adapters["layers"]["o"]
    addition = np.einsum("lnhr,lrd->lnhd", pair["lora_in"], pair["lora_out"])
    want = np.asarray(model.layers.o[...]) + SCALE * addition
    np.testing.assert_allclose(merged.layers.o[...], want, atol=1e-6)


def test_adapters_are_few_and_each_has_its_place_on_a_mesh() -> None:
    adapters: Any = jax.eval_shape(lambda: lora.init(CONFIG, 1, jax.random.key(0)))
    paths, _ = jax.tree_util.tree_flatten_with_path(adapters)
    for path, leaf in paths:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = rules.logical_axes(name)
        assert len(axes) == leaf.ndim and axes.count("lora_rank") == 1, name
    shapes = qwen2.layer_shapes(CONFIG)
    sides = sum(
        int(np.prod(shapes[m][: 2 if m == "o" else 1]))
        + int(np.prod(shapes[m][2 if m == "o" else 1 :]))
        for m in lora.MATRICES
    )
    assert sum(leaf.size for _, leaf in paths) == CONFIG.layers * sides
