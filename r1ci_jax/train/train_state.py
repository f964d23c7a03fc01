"""The training state: one pytree that a trainer updates, donates and checkpoints."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

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


def abstract_state(
    params: PyTree, tx: optax.GradientTransformation, mesh: Mesh | None = None
) -> TrainState:
    """Return shapes, dtypes and shardings of `create_state`, from parameters or their shapes.

    `mesh` is the current one if it is not given.
    """
    shapes = jax.eval_shape(functools.partial(init_state, tx=tx), params)
    return placement.abstract_params(shapes, mesh)


def create_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step, which takes over the arrays of `params`.

    Nothing is copied: the first step donates the state, and with it the arrays of `params`, even if
    somebody still holds them. They must lie where `placement.shard_params` puts them.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(params, tx))
    is_placed = jax.tree.map(
        lambda leaf, wanted: leaf.sharding.is_equivalent_to(wanted, leaf.ndim),
        params,
        shardings.params,
    )
    assert all(jax.tree.leaves(is_placed)), "a copy would be made: shard the parameters first"
    return TrainState(
        step=placement.replicate(jnp.zeros((), jnp.int32)),
        params=jax.device_put(params, shardings.params),
        opt_state=jax.jit(tx.init, out_shardings=shardings.opt_state)(params),
    )


@functools.partial(jax.jit, donate_argnums=0)
def reset_moments(state: TrainState) -> TrainState:
    """Set Adam's moments to zero, and the count that corrects their bias; the state is donated.

    The learning rate goes on where it was: its schedule counts all optimizer steps.
    """

    def is_adam(node: Any) -> bool:
        return isinstance(node, optax.ScaleByAdamState)

    def reset(node: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, node) if is_adam(node) else node

    opt_state = jax.tree.map(reset, state.opt_state, is_leaf=is_adam)
    return placement.constrain_like_params(state.replace(opt_state=opt_state))


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
