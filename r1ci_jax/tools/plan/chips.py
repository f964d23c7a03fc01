"""What one TPU chip of each generation can do, from the vendor's pages, and topologies by name.

Peak, bandwidth and interconnect are from the "Key chip specifications" of the Cloud TPU pages on
v5e, v5p and v6e (docs.cloud.google.com/tpu/docs/v5e, /v5p, /v6e). They give the interconnect of all
ports of a chip: 400 GB/s (v5e) and 800 GB/s (v6e) in both directions, 4,800 Gbit/s (v5p) in one. A
collective runs around one axis of the torus, so `axis_bandwidth` is the one-way sum divided by the
number of axes (2, 2 and 3). The memory that programs may use is what the compiler names when one
does not fit.
"""

import dataclasses
from collections.abc import Mapping

from r1ci_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip; rates a second."""

    name: str
    flops: float
    """bfloat16 floating-point operations."""
    hbm_bytes: float
    """Memory that a program may use."""
    hbm_bandwidth: float
    """Bytes to and from memory."""
    axis_bandwidth: float
    """Bytes in one direction around one axis of the torus."""


GIB = 2**30
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="v5e",
            flops=197e12,
            hbm_bytes=15.75 * GIB,
            hbm_bandwidth=819e9,
            axis_bandwidth=400e9 / 2 / 2,
        ),
        Chip(
            name="v5p",
            flops=459e12,
            hbm_bytes=95.73 * GIB,
            hbm_bandwidth=2765e9,
            axis_bandwidth=4800e9 / 8 / 3,
        ),
        Chip(
            name="v6e",
            flops=918e12,
            hbm_bytes=31.24 * GIB,
            hbm_bandwidth=1638e9,
            axis_bandwidth=800e9 / 2 / 2,
        ),
    )
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as v5e:2x4.

    Raises:
        UserError: no such generation, or no shape behind it.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or not all(part.isdigit() for part in shape.split("x")):
        raise UserError(
            f"{topology!r} is no TPU topology; write GENERATION:SHAPE, for example v5e:2x4 or "
            f"v5p:2x2x1 (generations: {', '.join(CHIPS)})"
        )
    return CHIPS[name]
