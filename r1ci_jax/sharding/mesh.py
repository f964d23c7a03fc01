"""The device mesh: slice and data (replicas), fsdp (cuts parameters), tensor (cuts heads, mlp)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from r1ci_jax.config import MeshConfig
from r1ci_jax.errors import UserError
from r1ci_jax.sharding import rules

MESH_AXES = ("slice", "data", "fsdp", "tensor")


def make_mesh(
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    slices: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """A mesh over all devices (or the given ones); the sizes multiply to their number.

    Use it with `jax.set_mesh(mesh)`. Neighbours on the mesh are neighbours in the hardware; what
    lies in one slice of several TPU slices keeps one place on the slice axis.
    """
    devices = jax.devices() if devices is None else devices
    sizes = (slices, data, fsdp, tensor)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise UserError(
            f"mesh slices={slices} data={data} fsdp={fsdp} tensor={tensor} needs "
            f"{math.prod(sizes)} devices, there are {len(devices)}; choose positive sizes that "
            f"multiply to {len(devices)}"
        )
    found = len({getattr(device, "slice_index", 0) for device in devices})
    if found > 1 and found != slices:
        raise UserError(f"the devices lie in {found} TPU slices; set mesh.slices = {found}")
    types = (AxisType.Auto,) * len(sizes)
    if found > 1:
        within, between = (1, data, fsdp, tensor), (slices, 1, 1, 1)
        placed = mesh_utils.create_hybrid_device_mesh(within, between, devices)
        return Mesh(placed, MESH_AXES, axis_types=types)
    return jax.make_mesh(sizes, MESH_AXES, axis_types=types, devices=devices)


def from_config(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh that an experiment names."""
    return make_mesh(config.data, config.fsdp, config.tensor, slices=config.slices, devices=devices)


def num_batch_shards(mesh: Mesh) -> int:
    """Parts that the rows of a batch are cut into."""
    return math.prod(mesh.shape[axis] for axis in rules.BATCH)


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
        if size % parts and axis not in rules.REPLICATE_IF_INDIVISIBLE:
            raise UserError(
                f"mesh axis {'x'.join(names)} of {parts} does not divide {axis}={size} of {name}; "
                f"choose a size that divides {size}"
            )
        cuts.append(None if size % parts else mesh_axes)
    return NamedSharding(mesh, jax.P(*cuts))


def constrain_sampler[A: jax.Array](x: A, *axes: str) -> A:
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


def device_put_global[T](tree: T, shardings: Any) -> T:
    """Arrays to the mesh. Those of a host are the same on every host, and each sends its parts."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def place(array: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return jax.device_put(array, sharding)
        # `jax.device_put` would send all of it between the hosts, to see that they agree.
        array = jax.device_get(array)
        places = sharding.addressable_devices_indices_map(array.shape)
        parts = [jax.device_put(array[index], device) for device, index in places.items()]
        return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda array: place(array, shardings), tree)
    return jax.tree.map(place, tree, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of any array whose first axis is the batch."""
    return NamedSharding(mesh, rules.spec("batch"))
