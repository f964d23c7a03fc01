"""The training state: one pytree that a trainer updates, donates and checkpoints."""

import functools
import zlib
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.runtime import hosts
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

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


def apply_gradients(
    state: TrainState, gradients: PyTree, tx: optax.GradientTransformation
) -> TrainState:
    """Apply one optimizer step. Pure; call it under `jax.jit` with the state donated."""
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # The new state reuses the donated buffers, so it needs the same sharding.
    return constrain_like_params(
        TrainState(step=state.step + 1, params=params, opt_state=opt_state)
    )
