"""The trainer's parameters as the sampler's weights.

One jitted call unstacks the layers, casts or quantizes, and reshards the arrays that the sampler
shards differently from the trainer. An array that is the same on both sides is not copied: both
hold one buffer. The weights are therefore valid until the trainer's next step, which donates its
parameters.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from r1ci_jax.config import Quantization
from r1ci_jax.errors import UserError
from r1ci_jax.model import qwen2
from r1ci_jax.model.quantization import Int8, quantize
from r1ci_jax.model.qwen2 import DecoderWeights, LayerWeights, Qwen2Config
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

CONTRACTED_AXES = {
    "embed": (1,), "lm_head": (0,), "q": (0,), "k": (0,), "v": (0,), "o": (0, 1),
    "gate": (0,), "up": (0,), "down": (0,),
}  # fmt: skip
"""A matmul sums over these axes, which share a scale; norms and biases stay unquantized."""
UNSTACKED = {"embed": "embed_VD", "norm": "norm_D", "lm_head": "lm_head_DV"}
"""Map the parameters that trainer and sampler may share to their field of `DecoderWeights`."""


def from_trainer_params(
    params: Any,
    config: Qwen2Config,
    *,
    dtype: DTypeLike | None = None,
    quantization: Quantization = "none",
    mesh: Mesh | None = None,
) -> DecoderWeights:
    """Convert a model, its state or a nested dict to the sampler's weights.

    Args:
        params: Parameters of the trainer, with any sharding on `mesh`.
        config: Architecture of the parameters.
        dtype: Dtype of the result; None keeps the parameters' dtype.
        quantization: "int8" quantizes every matrix with one scale per output channel.
        mesh: Mesh that the result is sharded over by `rules.SAMPLING_AXES`; None is the current
            mesh.
    """
    values = qwen2.parameters(params)
    mesh = mesh or meshes.current()
    config = with_replicated_kv_heads(mesh, config)
    shapes = weight_shapes(values, config, dtype=dtype, quantization=quantization)
    wanted = shardings(mesh, shapes)
    # A jitted call returns a new buffer even for an unchanged input, so unchanged arrays are not
    # passed through the call.
    alike = {
        field: values[name]
        for name, field in UNSTACKED.items()
        if name in values and _require_shapes(values[name], field, shapes, wanted)
    }
    wanted = wanted._replace(**dict.fromkeys(alike))
    return _convert_program(config, dtype, quantization, frozenset(alike), wanted)(values)._replace(
        **alike
    )


def weight_shapes(
    params: Any,
    config: Qwen2Config,
    *,
    dtype: DTypeLike | None = None,
    quantization: Quantization = "none",
) -> DecoderWeights:
    """Shapes and dtypes that `from_trainer_params` returns, from parameters or their shapes."""
    program = _convert_program(config, dtype, quantization, frozenset(), None)
    return jax.eval_shape(program, qwen2.parameters(params))


def _require_shapes(
    held: jax.Array, field: str, shapes: DecoderWeights, wanted: DecoderWeights
) -> bool:
    shape = getattr(shapes, field)
    return (
        not isinstance(shape, Int8)
        and held.dtype == shape.dtype
        and getattr(wanted, field).is_equivalent_to(held.sharding, held.ndim)
    )


@functools.lru_cache(maxsize=16)
def _convert_program(
    config: Qwen2Config,
    dtype: DTypeLike | None,
    storage: Quantization,
    without: frozenset[str],
    out_shardings: DecoderWeights | None,
) -> Any:
    """Build the jitted conversion; the fields `without` are None in its result."""

    def take(values: Any) -> DecoderWeights:
        weights = _repeat_kv_heads(qwen2.decoder_weights(values, config, dtype), config)
        weights = weights if storage == "none" else quantize_weights(weights)
        return weights._replace(**dict.fromkeys(without))

    return jax.jit(take, out_shardings=out_shardings)


def with_replicated_kv_heads(mesh: Mesh, config: Qwen2Config) -> Qwen2Config:
    """Return the architecture with key/value heads repeated until the tensor axis divides them.

    Each device then has exactly the key/value heads that its query heads read. Its shard of the
    cache is never larger than with replicated heads, and attention needs no communication.
    """
    heads = math.lcm(config.kv_heads, mesh.shape["tensor"])
    if config.query_heads % heads:
        raise UserError(
            f"mesh axis tensor of {mesh.shape['tensor']} does not divide the "
            f"{config.query_heads} query heads; choose a size that does"
        )
    return dataclasses.replace(config, kv_heads=heads)


def _repeat_kv_heads(weights: DecoderWeights, config: Qwen2Config) -> DecoderWeights:
    """Repeat the key/value heads of the weights up to the number in the configuration."""

    def repeat(name: str, array: jax.Array) -> jax.Array:
        times = config.kv_heads // array.shape[-2]
        return array if times == 1 else jnp.repeat(array, times, axis=-2)

    return _map_matrices(repeat, weights, only=("k", "v", "k_bias", "v_bias"))


def quantize_weights(weights: DecoderWeights) -> DecoderWeights:
    """Quantize all matrices to int8; the layers stay a tuple, norms and biases are unchanged."""
    return _map_matrices(
        lambda name, array: quantize(array, CONTRACTED_AXES[name]), weights, only=CONTRACTED_AXES
    )


def shardings(mesh: Mesh, weights: DecoderWeights) -> DecoderWeights:
    """Return the shardings of the sampler's weights on a mesh, from arrays or their shapes."""

    def sharding_of(name: str, array: Any) -> Any:
        stacked = () if name in ("embed", "norm", "lm_head") else ("layers",)
        path = "/".join((*stacked, name))
        axes = rules.logical_axes(path)[len(stacked) :]

        def one(axes: tuple[str, ...], shape: tuple[int, ...]) -> NamedSharding:
            return meshes.array_sharding(mesh, path, axes, shape, rules.SAMPLING_AXES)

        if not isinstance(array, Int8):
            return one(axes, array.shape)
        kept = tuple(axis for dim, axis in enumerate(axes) if dim not in CONTRACTED_AXES[name])
        return Int8(one(axes, array.values.shape), one(kept, array.scale.shape))  # type: ignore[arg-type]  # shardings instead of arrays

    return _map_matrices(sharding_of, weights)


def _map_matrices(change: Any, weights: DecoderWeights, only: Any = None) -> DecoderWeights:
    """Apply `change(name, array)` to every array (or those in `only`) and keep the tree."""

    def at(name: str, array: Any) -> Any:
        return array if array is None or (only and name not in only) else change(name, array)

    return DecoderWeights(
        at("embed", weights.embed_VD),
        tuple(LayerWeights(*map(at, qwen2.LAYER_NAMES, layer)) for layer in weights.layers),
        at("norm", weights.norm_D),
        at("lm_head", weights.lm_head_DV),
    )
