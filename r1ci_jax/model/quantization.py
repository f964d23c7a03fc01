"""Matmuls accept plain or int8 weights, which have symmetric scales and round to nearest.

A quantized array replaces the plain one as one leaf of the same tree. `linear`, `einsum_quantized`
and `embedding_lookup` accept either, so the layers are written once. With a plain array they are
the plain operation and nothing else. `linear` also accepts a weight with low-rank adapters.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from r1ci_jax.model import attention

LARGEST = 127


class Int8(NamedTuple):
    """A quantized array consists of integers and the scales that multiply them."""

    values: jax.Array
    """The values are int8, from -127 to 127."""
    scale: jax.Array
    """The scales are float32; their shape is that of `values` without the axes that share one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array before quantization."""
        return self.values.shape


type MaybeInt8 = jax.Array | Int8


class Adapted(NamedTuple):
    """A frozen weight W [inputs.., outputs..] with its low-rank adapters: W + scale A B."""

    frozen: jax.Array
    lora_in: jax.Array
    """A is [inputs.., r]."""
    lora_out: jax.Array
    """B is [r, outputs..]."""
    scale: float


def quantize(x: jax.Array, reduced_axes: tuple[int, ...]) -> Int8:
    """Round `x`; all entries along `reduced_axes` share one scale."""
    x = x.astype(jnp.float32)
    scale = jnp.abs(x).max(axis=reduced_axes, keepdims=True) / LARGEST
    # Any scale is valid when all entries are zero.
    values = jnp.round(x / jnp.where(scale == 0, 1.0, scale))
    return Int8(values.astype(jnp.int8), jnp.squeeze(scale, reduced_axes))


def dequantize(x: Int8, reduced_axes: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Undo `quantize` over these axes, up to its rounding."""
    scale = jnp.expand_dims(x.scale, reduced_axes)
    return (x.values.astype(jnp.float32) * scale).astype(dtype)


@jax.custom_vjp
def matmul(x: jax.Array, matrix_DF: jax.Array) -> jax.Array:
    """Multiply activations [..., D] by a matrix of the same dtype; the result is [..., F].

    The gradient of the matrix is computed as [D, F]. Differentiating `x @ matrix` would compute it
    as [F, D] and transpose it: XLA's CPU backend then transposes the incoming gradient of every
    layer with everything fused into it, and leaves its fast path. A full training step takes 25%
    longer.
    """
    return x @ matrix_DF


def _matmul_forward(x: jax.Array, matrix_DF: jax.Array):
    return x @ matrix_DF, (x, matrix_DF)


def _matmul_backward(saved: tuple[jax.Array, jax.Array], d_out: jax.Array):
    x, matrix_DF = saved
    leading = tuple(range(x.ndim - 1))
    d_matrix_DF = jax.lax.dot_general(x, d_out, ((leading, leading), ((), ())))
    return d_out @ matrix_DF.T, d_matrix_DF


matmul.defvjp(_matmul_forward, _matmul_backward)


def linear(x: jax.Array, weight: MaybeInt8 | Adapted, num_contracted: int = 1) -> jax.Array:
    """Contract the last `num_contracted` axes of `x` with the first of the weight.

    Both are reshaped to matrices: XLA's CPU backend takes three times as long with a 3D weight.
    Adapters multiply the activations, not the weight, whose gradient is then never computed: a
    third less work than with W + A B where nothing is recomputed.
    """
    if isinstance(weight, Adapted):
        low_rank = linear(linear(x, weight.lora_in, num_contracted), weight.lora_out)
        return linear(x, weight.frozen, num_contracted) + weight.scale * low_rank
    values = weight.values if isinstance(weight, Int8) else weight
    batch, outputs = x.shape[: x.ndim - num_contracted], values.shape[num_contracted:]
    inputs = math.prod(values.shape[:num_contracted])
    x, matrix = x.reshape(*batch, inputs), values.reshape(inputs, -1)
    if not isinstance(weight, Int8):
        return matmul(x, matrix).reshape(*batch, *outputs)
    x, matrix = _pin(x, matrix)
    # Scales are per output channel, so they multiply the sums, not every entry.
    sums = attention.einsum_float32("...D,DO->...O", x, matrix.astype(x.dtype))
    out = sums * weight.scale.reshape((1,) * len(batch) + (-1,))
    return out.astype(x.dtype).reshape(*batch, *outputs)


def einsum_quantized(equation: str, x: jax.Array, weight: MaybeInt8) -> jax.Array:
    """Compute the einsum of activations and a weight whose output axes come last, in float32."""
    if not isinstance(weight, Int8):
        return attention.einsum_float32(equation, x, weight)
    x, values = _pin(x, weight.values)
    out = attention.einsum_float32(equation, x, values.astype(x.dtype))
    leading = (1,) * (out.ndim - weight.scale.ndim)
    return out * weight.scale.reshape(leading + weight.scale.shape)


def _pin(x: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tie the weight to its use; XLA would otherwise widen all weights before the decode loop."""
    return jax.lax.optimization_barrier((x, values))


def embedding_lookup(table_VD: MaybeInt8, ids: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Look up embeddings [..., D] of ids; a quantized table returns `dtype`."""
    if not isinstance(table_VD, Int8):
        return table_VD[ids]
    picked = Int8(table_VD.values[ids], table_VD.scale[ids])
    return dequantize(picked, (picked.values.ndim - 1,), dtype)
