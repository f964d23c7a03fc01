"""The policy's weights as the sampler holds them, taken from the trainer's parameters.

One jitted call unstacks the layers, casts or quantises, and moves what the sampler cuts otherwise
than the trainer. An array that is the same on both sides is not copied: both hold one buffer. So
what was taken is good until the trainer's next step, which donates its parameters.
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
"""Axes that a product sums over, which share a factor; norms and biases stay as they are."""
UNSTACKED = {"embed": "embed_VD", "norm": "norm_D", "lm_head": "lm_head_DV"}
"""Parameters that the trainer may hold as the sampler does: name -> field of `DecoderWeights`."""


def from_trainer_params(
    params: Any,
    config: Qwen2Config,
    *,
    dtype: DTypeLike | None = None,
    quantization: Quantization = "none",
    mesh: Mesh | None = None,
) -> DecoderWeights:
    """Weights for the sampler from a model, its state or a nested dict.

    Args:
        params: parameters of the trainer, wherever they lie on `mesh`.
        config: their architecture.
        dtype: that of the result, None for the parameters' own.
        storage: "int8" quantises every matrix, one factor an output channel.
        mesh: the result is cut over it as `rules.SAMPLING_AXES` says; None is a single device.
    """
    values = qwen2.parameters(params)
    mesh = mesh or meshes.current()
    config = with_replicated_kv_heads(mesh, config)
    shapes = weight_shapes(values, config, dtype=dtype, quantization=quantization)
    wanted = shardings(mesh, shapes)
    # The output of a jitted call is a new buffer even where it is its input, so what stays as it is
    # does not go through the call.
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
    """The jitted call; the fields `without` are None in its result."""

    def take(values: Any) -> DecoderWeights:
        weights = _repeat_kv_heads(qwen2.decoder_weights(values, config, dtype), config)
        weights = weights if storage == "none" else quantize_weights(weights)
        return weights._replace(**dict.fromkeys(without))

    return jax.jit(take, out_shardings=out_shardings)


def with_replicated_kv_heads(mesh: Mesh, config: Qwen2Config) -> Qwen2Config:
    """The architecture with key/value heads repeated until the tensor axis divides them.

    Each device then has those that its query heads read, and no others: its part of the cache is
    never larger than with whole heads everywhere, and attention needs no exchange.
    """
    heads = math.lcm(config.kv_heads, mesh.shape["tensor"])
    if config.query_heads % heads:
        raise UserError(
            f"mesh axis tensor of {mesh.shape['tensor']} does not divide the "
            f"{config.query_heads} query heads; choose a size that does"
        )
    return dataclasses.replace(config, kv_heads=heads)


def _repeat_kv_heads(weights: DecoderWeights, config: Qwen2Config) -> DecoderWeights:
    """Key/value heads of the weights as many as the configuration has."""

    def repeat(name: str, array: jax.Array) -> jax.Array:
        times = config.kv_heads // array.shape[-2]
        return array if times == 1 else jnp.repeat(array, times, axis=-2)

    return _map_matrices(repeat, weights, only=("k", "v", "k_bias", "v_bias"))


def quantize_weights(weights: DecoderWeights) -> DecoderWeights:
    """All matrices in eight bits; the layers stay a tuple, norms and biases as they are."""
    return _map_matrices(
        lambda name, array: quantize(array, CONTRACTED_AXES[name]), weights, only=CONTRACTED_AXES
    )


def shardings(mesh: Mesh, weights: DecoderWeights) -> DecoderWeights:
    """Where the sampler's weights lie on a mesh, from arrays or their shapes."""

    def sharding_of(name: str, array: Any) -> Any:
        stacked = () if name in ("embed", "norm", "lm_head") else ("layers",)
        path = "/".join((*stacked, name))
        axes = rules.logical_axes(path)[len(stacked) :]

        def one(axes: tuple[str, ...], shape: tuple[int, ...]) -> NamedSharding:
            return meshes.array_sharding(mesh, path, axes, shape, rules.SAMPLING_AXES)

        if not isinstance(array, Int8):
            return one(axes, array.shape)
        kept = tuple(axis for dim, axis in enumerate(axes) if dim not in CONTRACTED_AXES[name])
        return Int8(one(axes, array.values.shape), one(kept, array.scale.shape))  # type: ignore[arg-type]  # shardings in the place of arrays

    return _map_matrices(sharding_of, weights)


def _map_matrices(change: Any, weights: DecoderWeights, only: Any = None) -> DecoderWeights:
    """`change(name, array)` for every array (of the named ones), in the same tree."""

    def at(name: str, array: Any) -> Any:
        return array if array is None or (only and name not in only) else change(name, array)

    return DecoderWeights(
        at("embed", weights.embed_VD),
        tuple(LayerWeights(*map(at, qwen2.LAYER_NAMES, layer)) for layer in weights.layers),
        at("norm", weights.norm_D),
        at("lm_head", weights.lm_head_DV),
    )
