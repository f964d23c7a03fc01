"""The device mesh: slice and data (replicas), fsdp (parameters), tensor (heads and mlp).

There is always a mesh. One device is a mesh of 1 x 1 x 1 x 1; `current` returns it when the caller
has set none.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
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
    """Make a mesh over all devices (or the given ones); the sizes multiply to their number.

    Use it with `jax.set_mesh(mesh)`. Neighbors on the mesh are neighbors in the hardware; the
    devices of one TPU slice share one index on the slice axis.

    Raises:
        UserError: The sizes do not fit the devices.
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
    """Make the mesh of an experiment; all ones means this process's first device."""
    if devices is None and config.num_devices == 1 and jax.process_count() == 1:
        return one_device()
    return make_mesh(config.data, config.fsdp, config.tensor, slices=config.slices, devices=devices)


@functools.cache
def one_device() -> Mesh:
    """Return the first device as a mesh of 1 x 1 x 1 x 1."""
    return make_mesh(devices=jax.local_devices()[:1])


def current() -> Mesh:
    """Return the mesh that `jax.set_mesh` set, else `one_device`. Call it outside jit."""
    mesh = jax.sharding.get_mesh()
    return one_device() if mesh.empty else mesh


def current_in_jit() -> Mesh | AbstractMesh:
    """Return the current mesh inside a traced function; if set, it is abstract there."""
    mesh = jax.sharding.get_abstract_mesh()
    return one_device() if mesh.empty else mesh


def num_batch_shards(mesh: Mesh) -> int:
    """Return the number of shards of a batch, whose rows are sharded over slice, data and fsdp."""
    return math.prod(mesh.shape[axis] for axis in rules.BATCH)


def platform(mesh: Mesh) -> str:
    """Return the platform of the mesh's devices: "cpu", "gpu" or "tpu"."""
    return mesh.devices.flat[0].platform


def parameter_sharding(
    mesh: Mesh | AbstractMesh, path: str, shape: tuple[int, ...]
) -> NamedSharding:
    """Return the sharding of one parameter of a trainer."""
    return array_sharding(mesh, path, rules.logical_axes(path), shape)


def array_sharding(
    mesh: Mesh | AbstractMesh,
    name: str,
    axes: Sequence[str],
    shape: tuple[int, ...],
    table: Mapping[str, rules.MeshAxes] = rules.AXES,
) -> NamedSharding:
    """Return the sharding of an array with these logical axes.

    Raises:
        UserError: The mesh does not divide an axis that may not be replicated instead.
    """
    assert len(axes) == len(shape), f"{name} has {len(shape)} axes, its rule {axes}"
    partition: list[rules.MeshAxes] = []
    for axis, size in zip(axes, shape, strict=True):
        mesh_axes = table[axis]
        names = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
        shards = math.prod(mesh.shape[mesh_axis] for mesh_axis in names)
        if size % shards and axis not in rules.REPLICATE_IF_INDIVISIBLE:
            raise UserError(
                f"mesh axis {'x'.join(names)} of {shards} does not divide {axis}={size} of {name}; "
                f"choose a size that divides {size}"
            )
        partition.append(None if size % shards else mesh_axes)
    return NamedSharding(mesh, jax.P(*partition))


def constrain_sampler[A: jax.Array](x: A, *axes: str) -> A:
    """Pin the sharding of a sampler's array inside jit."""

    def sharding(mesh: AbstractMesh) -> NamedSharding:
        return array_sharding(mesh, "sampler", axes, x.shape, rules.SAMPLING_AXES)

    return constrain(x, sharding)


def constrain_trainer[A: jax.Array](x: A, *axes: str) -> A:
    """Pin the sharding of a trainer's activation inside jit."""
    return constrain(x, lambda _: rules.spec(*axes))


def constrain[T](tree: T, shardings: Callable[[AbstractMesh], Any]) -> T:
    """Apply `jax.lax.with_sharding_constraint` with the shardings for the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    # Whoever sets no mesh may keep arrays on any device; there is nothing to pin then.
    return tree if mesh.empty else jax.lax.with_sharding_constraint(tree, shardings(mesh))


def param_shardings[T](mesh: Mesh | AbstractMesh, abstract_state: T) -> T:
    """Return the shardings of a tree of parameters or of an optimizer's state.

    Scalars, such as step counts, are replicated.
    """

    def sharding(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        if not leaf.shape:
            return NamedSharding(mesh, jax.P())
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return parameter_sharding(mesh, name.removesuffix("/value"), leaf.shape)

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def device_put_global[T](tree: T, shardings: Any) -> T:
    """Put arrays on the mesh; every host passes the same array and sends only its shards."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return jax.device_put(array, sharding)
        # `jax.device_put` would send the full array between hosts to check that they agree.
        array = jax.device_get(array)
        indices = sharding.addressable_devices_indices_map(array.shape)
        shards = [jax.device_put(array[index], device) for device, index in indices.items()]
        return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda array: put(array, shardings), tree)
    return jax.tree.map(put, tree, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of any array whose first axis is the batch."""
    return NamedSharding(mesh, rules.spec("batch"))
