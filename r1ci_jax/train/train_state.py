"""What a trainer carries from step to step, and the optimiser that moves it."""

import functools
import zlib
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from r1ci_jax.runtime import hosts
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

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
    """`init_state` compiled, cut over the mesh where one is set. `params` is used up."""
    init = functools.partial(init_state, tx=tx)
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.jit(init)(params)
    shardings = meshes.param_shardings(mesh, jax.eval_shape(init, params))
    return jax.jit(init, out_shardings=shardings)(params)


def num_batch_shards() -> int:
    """Parts that the mesh cuts a batch into; 1 without a mesh."""
    mesh = jax.sharding.get_mesh()
    return 1 if mesh.empty else meshes.num_batch_shards(mesh)


def shard_batch(batch: PyTree) -> PyTree:
    """Host arrays to the devices: cut by rows over the mesh where one is set.

    Every host hands in the whole batch.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.device_put(batch)
    if hosts.count() > 1:
        checksums = [zlib.crc32(np.ascontiguousarray(array)) for array in jax.tree.leaves(batch)]
        hosts.require_same("the batch", checksums)
    return meshes.device_put_global(batch, meshes.batch_sharding(mesh))


def replicate(tree: PyTree) -> PyTree:
    """Host arrays to the devices, whole on each of them."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.device_put(tree)
    return meshes.device_put_global(tree, jax.sharding.NamedSharding(mesh, jax.P()))


def split_into_microbatches(batch: PyTree, num_parts: int) -> PyTree:
    """Arrays [B, ...] as [parts, B / parts, ...]; on a mesh every row stays on its device."""

    def split(rows: jax.Array) -> jax.Array:
        split = rows.reshape(-1, num_parts, *rows.shape[1:]).swapaxes(0, 1)
        if jax.sharding.get_abstract_mesh().empty:
            return split
        return jax.lax.with_sharding_constraint(split, jax.P(None, *rules.spec("batch")))

    return jax.tree.map(split, batch)


def constrain_like_params[T](tree: T) -> T:
    """Pin arrays that stand for parameters (gradients, say) to where those lie."""
    mesh: Any = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, meshes.param_shardings(mesh, tree))


def learning_rate_at(schedule: optax.Schedule, step: int) -> float:
    """The learning rate of a step."""
    return float(jax.device_get(jax.jit(schedule)(replicate(np.int32(step)))))


def apply_gradients(
    state: TrainState, gradients: PyTree, tx: optax.GradientTransformation
) -> TrainState:
    """One optimiser step. Pure; call it under `jax.jit` with the state donated."""
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    moved = TrainState(step=state.step + 1, params=params, opt_state=opt_state)
    # The new state takes the old one's place: it must lie where that lay.
    return constrain_like_params(moved)


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
