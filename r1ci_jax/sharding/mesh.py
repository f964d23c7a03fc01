"""The device mesh: data (replicas), fsdp (cuts parameters, batch), tensor (cuts heads, mlp)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from r1ci_jax.errors import UserError
from r1ci_jax.sharding import rules

MESH_AXES = ("data", "fsdp", "tensor")


def make_mesh(
    data: int = 1, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh over all devices (or the given ones); the three sizes multiply to their number.

    Use it with `jax.set_mesh(mesh)`.
    """
    devices = jax.devices() if devices is None else devices
    sizes = (data, fsdp, tensor)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise UserError(
            f"mesh data={data} fsdp={fsdp} tensor={tensor} needs {math.prod(sizes)} devices, there "
            f"are {len(devices)}; choose positive sizes that multiply to {len(devices)}"
        )
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def parameter_sharding(mesh: Mesh, path: str, shape: tuple[int, ...]) -> NamedSharding:
    """Sharding of one parameter of a trainer."""
    return array_sharding(mesh, path, rules.logical_axes(path), shape)


def array_sharding(
    mesh: Mesh | AbstractMesh,
    name: str,
    axes: Sequence[str],
    shape: tuple[int, ...],
    table: Mapping[str, rules.MeshAxes] = rules.AXES,
) -> NamedSharding:
    """Sharding of an array with these logical axes.

    An axis that the mesh cannot cut evenly is the user's error, unless it may stay whole.
    """
    assert len(axes) == len(shape), f"{name} has {len(shape)} axes, its rule {axes}"
    cuts: list[rules.MeshAxes] = []
    for axis, size in zip(axes, shape, strict=True):
        mesh_axes = table[axis]
        names = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
        parts = math.prod(mesh.shape[part] for part in names)
        if size % parts and axis not in rules.WHOLE_WHERE_UNEVEN:
            raise UserError(
                f"mesh axis {'x'.join(names)} of {parts} does not divide {axis}={size} of {name}; "
                f"choose a size that divides {size}"
            )
        cuts.append(None if size % parts else mesh_axes)
    return NamedSharding(mesh, jax.P(*cuts))


def constrain[A: jax.Array](x: A, *axes: str) -> A:
    """Pin what the sampler computes inside jit; without a mesh it returns `x` itself."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    sharding = array_sharding(mesh, "sampler", axes, x.shape, rules.SAMPLING_AXES)
    return jax.lax.with_sharding_constraint(x, sharding)


def param_shardings[T](mesh: Mesh, abstract_state: T) -> T:
    """Shardings of a tree of parameters, or of what follows parameters (an optimiser's state).

    Scalars, such as step counts, are replicated.
    """

    def sharding(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        if not leaf.shape:
            return NamedSharding(mesh, jax.P())
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return parameter_sharding(mesh, name.removesuffix("/value"), leaf.shape)

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of any array whose first axis is the batch."""
    return NamedSharding(mesh, rules.spec("batch"))
