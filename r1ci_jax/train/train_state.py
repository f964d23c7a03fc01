"""The training state: one pytree that a trainer updates, donates and checkpoints."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement

PyTree = Any
"""Nested containers of arrays: parameters, gradients, optimizer states."""


@flax.struct.dataclass
class TrainState:
    """One pytree to jit, donate and checkpoint."""

    step: jax.Array
    """Number of optimizer steps done, int32."""
    params: PyTree
    """Trainable parameters: an `nnx.State` or any pytree of arrays."""
    opt_state: PyTree


def init_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step. Moments take the sharding of their parameters."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params))


def create_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
    """Run `init_state` compiled and sharded over the mesh. The buffers of `params` are reused."""
    init = functools.partial(init_state, tx=tx)
    shardings = meshes.param_shardings(meshes.current(), jax.eval_shape(init, params))
    return jax.jit(init, out_shardings=shardings)(params)


def apply_gradients(
    state: TrainState, gradients: PyTree, tx: optax.GradientTransformation
) -> TrainState:
    """Apply one optimizer step. Pure; call it under `jax.jit` with the state donated."""
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # The new state reuses the donated buffers, so it needs the same sharding.
    return placement.constrain_like_params(
        TrainState(step=state.step + 1, params=params, opt_state=opt_state)
    )
