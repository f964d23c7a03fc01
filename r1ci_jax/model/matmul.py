"""The product of activations and a weight matrix, with its gradients spelt out."""

import jax


@jax.custom_vjp
def matmul(x: jax.Array, matrix_DF: jax.Array) -> jax.Array:
    """Activations [..., D] times a matrix, both of one dtype: [..., F].

    The gradient of the matrix is asked for as [D, F]. Differentiating `x @ matrix` would ask for it
    as [F, D], turned round afterwards: XLA's CPU backend then transposes the incoming gradient of
    every layer with all that was fused into it, and leaves its fast path. A whole training step
    takes a quarter longer.
    """
    return x @ matrix_DF


def _forward(x: jax.Array, matrix_DF: jax.Array):
    return x @ matrix_DF, (x, matrix_DF)


def _backward(kept: tuple[jax.Array, jax.Array], slope: jax.Array):
    x, matrix_DF = kept
    leading = tuple(range(x.ndim - 1))
    by_matrix_DF = jax.lax.dot_general(x, slope, ((leading, leading), ((), ())))
    return slope @ matrix_DF.T, by_matrix_DF


matmul.defvjp(_forward, _backward)
