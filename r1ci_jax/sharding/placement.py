"""Moving a trainer's arrays to the devices of the mesh, and pinning them there."""

import zlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from r1ci_jax.runtime import hosts
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules


def shard_batch(batch: Any) -> Any:
    """Shard the rows of host arrays over the mesh. Every host passes all rows."""
    if hosts.count() > 1:
        checksums = [zlib.crc32(np.ascontiguousarray(array)) for array in jax.tree.leaves(batch)]
        hosts.require_same("the batch", checksums)
    return meshes.device_put_global(batch, meshes.batch_sharding(meshes.current()))


def shard_params[T](params: T) -> T:
    """Shard parameters over the devices by `rules.PARAMETERS`."""
    return meshes.device_put_global(params, meshes.param_shardings(meshes.current(), params))


def abstract_params[T](shapes: T, mesh: Mesh | None = None) -> T:
    """Add to shapes of parameters, or of what follows them, the shardings of `shard_params`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        meshes.param_shardings(mesh or meshes.current(), shapes),
    )


def delete(tree: Any) -> None:
    """Free the arrays of a tree at once, whoever still holds them."""
    for leaf in jax.tree.leaves(tree):
        leaf.delete()


def replicate[T](tree: T) -> T:
    """Put a full copy of host arrays on every device."""
    return meshes.device_put_global(tree, jax.NamedSharding(meshes.current(), jax.P()))


def split_into_microbatches(batch: Any, num_parts: int) -> Any:
    """Reshape arrays [B, ...] to [num_parts, B / num_parts, ...]; every row stays on its device."""

    def split(rows: jax.Array) -> jax.Array:
        parts = rows.reshape(-1, num_parts, *rows.shape[1:]).swapaxes(0, 1)
        return meshes.constrain(parts, lambda _: jax.P(None, *rules.spec("batch")))

    return jax.tree.map(split, batch)


def constrain_like_params[T](tree: T) -> T:
    """Pin arrays that follow parameters (gradients, moments) to their shardings inside jit."""
    return meshes.constrain(tree, lambda mesh: meshes.param_shardings(mesh, tree))


def constrain_replicated[T](tree: T) -> T:
    """Pin arrays to a full copy on every device inside jit, so that every host can fetch them."""
    return meshes.constrain(tree, lambda _: jax.P())
