"""Low-rank adaptation replaces every matrix W of the layers by W + (alpha / rank) A B.

Only A and B are trained. They are merged into W one layer at a time, inside the layer loop, so the
forward pass has one definition and no second copy of all weights exists. The gradient of W exists
for one layer at a time. As in Hu et al. 2021 (arXiv 2106.09685), A is random and B is zero, so
training starts from W itself.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from r1ci_jax.model import qwen2
from r1ci_jax.model.qwen2 import Qwen2Config

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")

type Adapters = dict[str, dict[str, dict[str, jax.Array]]]
"""{"layers": {matrix: {"lora_in": [L, inputs.., r], "lora_out": [L, r, outputs..]}}}."""


def init(config: Qwen2Config, rank: int, key: jax.Array) -> Adapters:
    """Create float32 adapters that do not change the model yet."""
    shapes = qwen2.layer_shapes(config)
    adapters = {}
    for matrix, matrix_key in zip(MATRICES, jax.random.split(key, len(MATRICES)), strict=True):
        inputs, outputs = _sides(matrix, shapes[matrix])
        shape = (config.layers, *inputs, rank)
        scale = math.prod(inputs) ** -0.5
        adapters[matrix] = {
            "lora_in": scale * jax.random.normal(matrix_key, shape, jnp.float32),
            "lora_out": jnp.zeros((config.layers, rank, *outputs), jnp.float32),
        }
    return {"layers": adapters}


def merge_layer(
    weights: qwen2.LayerWeights, adapters: dict[str, dict[str, jax.Array]], scale: float
) -> qwen2.LayerWeights:
    """Add the adapters of one layer to its weights, in the dtype of the weights."""
    merged = {}
    for matrix, (field, weight) in zip(qwen2.LAYER_NAMES, weights._asdict().items(), strict=True):
        if matrix in adapters:
            merged[field] = weight + scale * _delta(adapters[matrix])
    return weights._replace(**merged)


def merge_params(params: Any, adapters: Adapters, scale: float) -> Any:
    """Add the adapters to all parameters; the result is used for sampling and is saved."""

    def add(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        room, _, matrix = name.partition("/")
        if room != "layers" or matrix not in adapters["layers"]:
            return leaf
        return leaf + scale * jax.vmap(_delta)(adapters["layers"][matrix]).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(add, params)


def _sides(matrix: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split a shape into input and output axes; only `o` has two inputs, heads and their width."""
    inputs = 2 if matrix == "o" else 1
    return shape[:inputs], shape[inputs:]


def _delta(pair: dict[str, jax.Array]) -> jax.Array:
    return jnp.tensordot(pair["lora_in"], pair["lora_out"], axes=1)
