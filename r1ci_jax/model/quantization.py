"""Eight-bit integers with scales: symmetric, rounded to nearest, the largest entry becomes 127.

A quantised array stands where the plain one would, as one leaf of the same tree; `product` and
`rows` take either, so that the layers are written once. With a plain array they are the plain
operation and nothing else.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.model import attention
from r1ci_jax.model.matmul import matmul

LARGEST = 127


class Int8(NamedTuple):
    """An array as whole numbers and the factors that give it back."""

    values: jax.Array
    """int8; -127 to 127."""
    scale: jax.Array
    """float32; the shape of `values` without the axes that share a factor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array it stands for."""
        return self.values.shape


type MaybeInt8 = jax.Array | Int8


def quantize(x: jax.Array, reduced_axes: tuple[int, ...]) -> Int8:
    """Round `x`; the entries along the axes `shared` have one factor."""
    x = x.astype(jnp.float32)
    scale = jnp.abs(x).max(axis=reduced_axes, keepdims=True) / LARGEST
    # Where all is zero any factor will do.
    values = jnp.round(x / jnp.where(scale == 0, 1.0, scale))
    return Int8(values.astype(jnp.int8), jnp.squeeze(scale, reduced_axes))


def dequantize(x: Int8, reduced_axes: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """What `quantise` over these axes rounded to."""
    scale = jnp.expand_dims(x.scale, reduced_axes)
    return (x.values.astype(jnp.float32) * scale).astype(dtype)


def linear(x: jax.Array, weight: MaybeInt8, num_contracted: int = 1) -> jax.Array:
    """Activations times a weight: the last `summed` axes of `x` with the first of the weight.

    As one matrix each: XLA's CPU backend takes three times as long with a weight of three axes.
    """
    values = weight.values if isinstance(weight, Int8) else weight
    batch, outputs = x.shape[: x.ndim - num_contracted], values.shape[num_contracted:]
    inputs = math.prod(values.shape[:num_contracted])
    x, matrix = x.reshape(*batch, inputs), values.reshape(inputs, -1)
    if not isinstance(weight, Int8):
        return matmul(x, matrix).reshape(*batch, *outputs)
    x, matrix = _pin(x, matrix)
    # The factors belong to output channels: they multiply sums, not every entry.
    sums = attention.einsum_float32("...D,DX->...X", x, matrix.astype(x.dtype))
    out = sums * weight.scale.reshape((1,) * len(batch) + (-1,))
    return out.astype(x.dtype).reshape(*batch, *outputs)


def einsum_quantized(equation: str, x: jax.Array, weight: MaybeInt8) -> jax.Array:
    """`einsum` of activations and a weight whose output axes come last, in float32."""
    if not isinstance(weight, Int8):
        return attention.einsum_float32(equation, x, weight)
    x, values = _pin(x, weight.values)
    out = attention.einsum_float32(equation, x, values.astype(x.dtype))
    leading = (1,) * (out.ndim - weight.scale.ndim)
    return out * weight.scale.reshape(leading + weight.scale.shape)


def _pin(x: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bind the weight to its use: a compiler would widen all weights ahead of the decode loop."""
    return jax.lax.optimization_barrier((x, values))


def embedding_lookup(table_VD: MaybeInt8, ids: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rows [..., D] of an embedding; `dtype` is that of a quantised one's result."""
    if not isinstance(table_VD, Int8):
        return table_VD[ids]
    picked = Int8(table_VD.values[ids], table_VD.scale[ids])
    return dequantize(picked, (picked.values.ndim - 1,), dtype)
