"""Shapes of arrays with their shardings, in place of the arrays, and their size on a device."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from r1ci_jax.sharding import mesh as meshes


def device_bytes(tree: Any) -> float:
    """Bytes per device of arrays, or of shapes with shardings."""

    def one(leaf: Any) -> float:
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
        return float(np.prod(shape)) * leaf.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Add shardings to shapes."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def replicated(mesh: Mesh, shape: tuple[int, ...], kind: Any) -> Any:
    """Make the shape of an array that every device holds in full."""
    return jax.ShapeDtypeStruct(shape, kind, sharding=NamedSharding(mesh, jax.P()))


def batch_rows(mesh: Mesh, shape: tuple[int, ...], kind: Any) -> Any:
    """Make the shape of an array whose first axis is the batch."""
    return jax.ShapeDtypeStruct(shape, kind, sharding=meshes.batch_sharding(mesh))
