"""What a trainer carries from step to step, and the optimiser that moves it."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement

PyTree = Any
"""Nested containers of arrays: parameters, gradients, optimiser states."""


@flax.struct.dataclass
class TrainState:
    """One pytree to jit, donate and checkpoint."""

    step: jax.Array
    """Optimiser steps done, int32."""
    params: PyTree
    """Trainable parameters: an `nnx.State` or any pytree of arrays."""
    opt_state: PyTree


def init_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
    """State before the first step. Moments take over the sharding of their parameters."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params))


def create_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
    """`init_state` compiled, its arrays sharded over the mesh. `params` is donated."""
    init = functools.partial(init_state, tx=tx)
    shardings = meshes.param_shardings(meshes.current(), jax.eval_shape(init, params))
    return jax.jit(init, out_shardings=shardings)(params)


def learning_rate_at(schedule: optax.Schedule, step: int) -> float:
    """The learning rate of a step."""
    return float(jax.device_get(jax.jit(schedule)(placement.replicate(np.int32(step)))))


def apply_gradients(
    state: TrainState, gradients: PyTree, tx: optax.GradientTransformation
) -> TrainState:
    """One optimiser step. Pure; call it under `jax.jit` with the state donated."""
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    moved = TrainState(step=state.step + 1, params=params, opt_state=opt_state)
    # The new state takes the old one's place: it must lie where that lay.
    return placement.constrain_like_params(moved)


def make_optimizer(
    schedule: optax.Schedule,
    *,
    clip_norm: float,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """AdamW behind a clip of the global gradient norm. Norms and biases do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=weight_decay_mask),
    )


def weight_decay_mask(params: PyTree) -> PyTree:
    """True for each parameter that weight decay pulls to zero: all but norm scales and biases.

    Told by name: layers are stacked, so a norm scale is [L, D] and its rank says nothing.
    """

    def is_matrix(path: tuple[Any, ...], _: Any) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def constant_schedule(lr: float, *, warmup_steps: int = 0) -> optax.Schedule:
    """Linear rise over `warmup_steps`, then `lr`. The first step already moves."""

    def schedule(count: ArrayLike) -> jax.Array:
        return lr * _warmup(count, warmup_steps)

    return schedule


def cosine_schedule(
    lr: float, *, steps: int, warmup_steps: int = 0, floor: float = 0.0
) -> optax.Schedule:
    """Linear rise over `warmup_steps`, then a cosine down to `floor` x `lr` after `steps`."""
    falling = max(steps - warmup_steps, 1)

    def schedule(count: ArrayLike) -> jax.Array:
        progress = jnp.clip((jnp.asarray(count, jnp.float32) - warmup_steps) / falling, 0.0, 1.0)
        shape = floor + (1.0 - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return lr * shape * _warmup(count, warmup_steps)

    return schedule


def _warmup(count: ArrayLike, warmup_steps: int) -> jax.Array:
    return jnp.minimum(1.0, (jnp.asarray(count, jnp.float32) + 1.0) / (warmup_steps + 1.0))
