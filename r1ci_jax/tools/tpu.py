"""TPU generations: one table of chips, slice shapes and system images, and slices by name.

Sources: the Cloud TPU pages "TPU v4", "v5e", "v5p", "v6e" and "TPU software versions"
(docs.cloud.google.com/tpu/docs), and the table of devices in xpk 1.16
(core/system_characteristics.py). The pages give the interconnect of all ports of a chip: 400 GB/s
(v5e) and 800 GB/s (v6e) in both directions, 2,400 Gbit/s (v4) and 4,800 Gbit/s (v5p) in one. A
collective runs around one axis of the torus, so `axis_bandwidth` is the one-way sum divided by the
number of axes: 3 for v4 and v5p, 2 for v5e and v6e. `hbm_bytes` is the limit that the compiler
names when a program does not fit.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

from r1ci_jax.errors import UserError, did_you_mean

GIB: Final = 2**30
CHIPS_PER_HOST: Final = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """Published figures of one chip; rates are per second."""

    name: str
    flops: float
    """bfloat16 floating-point operations."""
    hbm_bytes: float
    """Memory that a program may use."""
    hbm_bandwidth: float
    """Bytes read from or written to memory."""
    axis_bandwidth: float
    """Bytes sent in one direction around one axis of the torus."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """One TPU generation: its chip and the slices that it is offered in."""

    chip: Chip
    prefix: str
    """First part of an accelerator type."""
    cores_per_chip: int
    """The number in an accelerator type counts TensorCores, of which a chip has so many."""
    image: str
    """Value of `gcloud --runtime-version`."""
    shapes: tuple[str, ...]
    """Topologies from small to large."""
    max_single_host_chips: int
    """Slices up to this size are one virtual machine by the TPU API."""
    min_xpk_chips: int = 1
    """XPK offers no smaller slice."""

    @property
    def name(self) -> str:
        """Name of the generation, for example v5p."""
        return self.chip.name


_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")

GENERATIONS: Final[Mapping[str, Generation]] = {
    generation.name: generation
    for generation in (
        Generation(
            chip=Chip(
                name="v4",
                flops=275e12,
                hbm_bytes=30.75 * GIB,
                hbm_bandwidth=1200e9,
                axis_bandwidth=2400e9 / 8 / 3,
            ),
            prefix="v4",
            cores_per_chip=2,
            image="tpu-ubuntu2204-base",
            shapes=(
                *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
                *("8x8x12", "8x8x16", "8x16x16"),
            ),
            max_single_host_chips=4,
        ),
        Generation(
            chip=Chip(
                name="v5e",
                flops=197e12,
                hbm_bytes=15.75 * GIB,
                hbm_bandwidth=819e9,
                axis_bandwidth=400e9 / 2 / 2,
            ),
            prefix="v5litepod",
            cores_per_chip=1,
            image="v2-alpha-tpuv5-lite",
            shapes=_SQUARES,
            max_single_host_chips=8,
            min_xpk_chips=8,
        ),
        Generation(
            chip=Chip(
                name="v5p",
                flops=459e12,
                hbm_bytes=95.73 * GIB,
                hbm_bandwidth=2765e9,
                axis_bandwidth=4800e9 / 8 / 3,
            ),
            prefix="v5p",
            cores_per_chip=2,
            image="v2-alpha-tpuv5",
            shapes=(
                *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x4x12", "4x8x8"),
                *("4x4x20", "4x8x12", "4x4x28", "8x8x8", "8x8x16", "8x16x16", "16x16x16"),
                "16x16x24",
            ),
            max_single_host_chips=4,
        ),
        Generation(
            chip=Chip(
                name="v6e",
                flops=918e12,
                hbm_bytes=31.24 * GIB,
                hbm_bandwidth=1638e9,
                axis_bandwidth=800e9 / 2 / 2,
            ),
            prefix="v6e",
            cores_per_chip=1,
            image="v2-alpha-tpuv6e",
            shapes=_SQUARES,
            max_single_host_chips=8,
        ),
    )
}


_IRONWOOD: Final = ("v7x", "tpu7x", "v7", "ironwood")
"""Names of the generation after v6e: known, to be refused with a reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Chips that are joined by their own network, and the virtual machines that hold them."""

    name: str
    """Value of `gcloud --accelerator-type` and `xpk --tpu-type`."""
    generation: str
    chips: int
    hosts: int
    """Virtual machines by the TPU API; each is one JAX process."""
    pods: int
    """Virtual machines by XPK, which has four chips (or one) per machine; 0: not offered."""
    shape: str
    """Chips along each axis of the torus, for example 2x2x4."""

    @property
    def topology(self) -> str:
        """Value of `r1ci plan --topology`."""
        return f"{self.generation}:{self.shape}"

    @property
    def image(self) -> str:
        """Value of `gcloud --runtime-version`."""
        return GENERATIONS[self.generation].image


def _make_slice(generation: Generation, shape: str) -> Slice:
    chips = math.prod(int(side) for side in shape.split("x"))
    machines = max(chips // CHIPS_PER_HOST, 1)
    return Slice(
        name=f"{generation.prefix}-{chips * generation.cores_per_chip}",
        generation=generation.name,
        chips=chips,
        hosts=1 if chips <= generation.max_single_host_chips else machines,
        pods=machines if chips >= generation.min_xpk_chips else 0,
        shape=shape,
    )


SLICES: Final[Mapping[str, Slice]] = {
    made.name: made
    for generation in GENERATIONS.values()
    for made in (_make_slice(generation, shape) for shape in generation.shapes)
}


def find_slice(name: str) -> Slice:
    """Look up an accelerator type such as v5p-32; v5e-16 means v5litepod-16.

    Raises:
        UserError: there is no such slice; the message names the nearest.
    """
    prefix, _, number = name.lower().partition("-")
    if prefix in GENERATIONS:
        prefix = GENERATIONS[prefix].prefix
    if prefix in _IRONWOOD:
        raise UserError(
            f"{name} is of TPU v7x (Ironwood), whose slices r1ci has no figures of yet; launch on "
            "such machines by --via ssh --extras tpu, without --tpu"
        )
    wanted = f"{prefix}-{number}"
    if wanted in SLICES:
        return SLICES[wanted]
    for generation in GENERATIONS.values():
        if prefix == generation.prefix and number.isdigit():
            raise UserError(f"there is no TPU slice {name!r}; {_nearest(generation, int(number))}")
    hint = did_you_mean(wanted, SLICES)
    raise UserError(
        f"there is no TPU slice {name!r}; {hint}names look like v5p-32, v5litepod-16, v6e-8, v4-16"
    )


def find_chip(topology: str) -> Chip:
    """Look up the chip of a topology such as v5e:2x4.

    Raises:
        UserError: the generation is unknown or the shape is missing.
    """
    name, _, shape = topology.partition(":")
    if name in _IRONWOOD:
        raise UserError(
            f"{topology} is of TPU v7x (Ironwood), of which r1ci has no figures yet; plan for "
            f"another generation ({', '.join(GENERATIONS)})"
        )
    if name not in GENERATIONS or not all(side.isdigit() for side in shape.split("x")):
        raise UserError(
            f"{topology!r} is not a TPU topology; write GENERATION:SHAPE, for example v5e:2x4 or "
            f"v5p:2x2x1 (generations: {', '.join(GENERATIONS)})"
        )
    return GENERATIONS[name].chip


def _nearest(generation: Generation, number: int) -> str:
    numbers = [
        known.chips * generation.cores_per_chip
        for known in SLICES.values()
        if known.generation == generation.name
    ]
    below = [known for known in numbers if known < number]
    above = [known for known in numbers if known > number]
    near = [f"{generation.prefix}-{known}" for known in [*below[-1:], *above[:1]]]
    counted = "TensorCores, two per chip" if generation.cores_per_chip == 2 else "chips"
    return f"nearest: {' and '.join(near)} ({generation.name} counts {counted})"
