"""Low-rank adaptation replaces every matrix W of the layers by W + (alpha / rank) A B.

Only A and B are trained. A trainer computes x W + (alpha / rank) (x A) B, so that no second copy of
the weights exists, and no gradient of W; `merge_params` adds A B to W for the sampler. As in Hu et
al. 2021 (arXiv 2106.09685), A is random and B is zero, so training starts from W itself.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from r1ci_jax.model import qwen2
from r1ci_jax.model.quantization import Adapted
from r1ci_jax.model.qwen2 import Qwen2Config

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")

type Adapters = dict[str, dict[str, dict[str, jax.Array]]]
"""{"layers": {matrix: {"lora_in": [L, inputs.., r], "lora_out": [L, r, outputs..]}}}."""


def init(config: Qwen2Config, rank: int, key: jax.Array) -> Adapters:
    """Create float32 adapters that do not change the model yet."""
    shapes = qwen2.layer_shapes(config)
    sides = {matrix: _sides(matrix, shapes[matrix]) for matrix in MATRICES}
    in_shapes = [(config.layers, *inputs, rank) for inputs, _ in sides.values()]
    ends = [*itertools.accumulate(map(math.prod, in_shapes), initial=0)]
    # All random numbers in one call: each call adds a second of compilation on a CPU.
    numbers = jax.random.normal(key, (ends[-1],), jnp.float32)
    adapters = {}
    for (matrix, (inputs, outputs)), shape, (start, end) in zip(
        sides.items(), in_shapes, itertools.pairwise(ends), strict=True
    ):
        scale = math.prod(inputs) ** -0.5
        adapters[matrix] = {
            "lora_in": scale * numbers[start:end].reshape(shape),
            "lora_out": jnp.zeros((config.layers, rank, *outputs), jnp.float32),
        }
    return {"layers": adapters}


def adapt_layer(
    weights: qwen2.LayerWeights, adapters: dict[str, dict[str, jax.Array]], scale: float
) -> qwen2.LayerWeights:
    """Put the adapters of one layer beside its weights."""
    adapted = {
        field: Adapted(weight, **adapters[matrix], scale=scale)
        for matrix, (field, weight) in zip(
            qwen2.LAYER_NAMES, weights._asdict().items(), strict=True
        )
        if matrix in adapters
    }
    return weights._replace(**adapted)


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
