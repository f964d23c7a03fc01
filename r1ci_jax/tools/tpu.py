"""TPU slices by the name they are asked for: chips, machines, topology, system image.

The numbers are those of the pages "TPU v4", "v5e", "v5p", "v6e" and "TPU software versions"
(docs.cloud.google.com/tpu/docs), and of the table of devices in xpk 1.16
(core/system_characteristics.py). The number in a name counts TensorCores, two a chip, for v4 and
v5p, and chips for v5e and v6e.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping

from r1ci_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Chips that are joined by their own network, and the machines that they are in."""

    name: str
    """As `gcloud --accelerator-type` and `xpk --tpu-type` take it."""
    generation: str
    chips: int
    hosts: int
    """Virtual machines by the TPU API; each is one JAX process."""
    pods: int
    """Virtual machines by XPK, which knows those with four chips (and one); 0: not offered."""
    shape: str
    """Such as 2x2x4."""

    @property
    def topology(self) -> str:
        """As `r1ci plan --topology` takes it."""
        return f"{self.generation}:{self.shape}"

    @property
    def image(self) -> str:
        """As `gcloud --runtime-version` takes it."""
        return _IMAGES[self.generation]


_IMAGES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_CORES_PER_CHIP = {"v4": 2, "v5e": 1, "v5p": 2, "v6e": 1}
_PREFIXES = {"v4": "v4", "v5e": "v5litepod", "v5p": "v5p", "v6e": "v6e"}
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SHAPES = {
    "v4": (
        *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
        *("8x8x12", "8x8x16", "8x16x16"),
    ),
    "v5e": _FLAT,
    "v5p": (
        *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x4x12", "4x8x8", "4x4x20"),
        *("4x8x12", "4x4x28", "8x8x8", "8x8x16", "8x16x16", "16x16x16", "16x16x24"),
    ),
    "v6e": _FLAT,
}
_CHIPS_PER_HOST = 4
_WHOLE_HOST = 8
"""Chips of a v5e or v6e machine; up to here the TPU API gives one machine."""


def _slice(generation: str, shape: str) -> Slice:
    chips = math.prod(int(side) for side in shape.split("x"))
    pods = max(chips // _CHIPS_PER_HOST, 1)
    alone = generation in ("v5e", "v6e") and chips <= _WHOLE_HOST
    return Slice(
        name=f"{_PREFIXES[generation]}-{chips * _CORES_PER_CHIP[generation]}",
        generation=generation,
        chips=chips,
        hosts=1 if alone else pods,
        pods=0 if generation == "v5e" and chips < _WHOLE_HOST else pods,
        shape=shape,
    )


SLICES: Mapping[str, Slice] = {
    made.name: made
    for generation, shapes in _SHAPES.items()
    for made in (_slice(generation, shape) for shape in shapes)
}


def find(name: str) -> Slice:
    """The slice of an accelerator type such as v5p-32; v5e-16 means v5litepod-16.

    Raises:
        UserError: no such slice; names the nearest.
    """
    prefix, _, number = name.lower().partition("-")
    prefix = _PREFIXES.get(prefix, prefix)
    wanted = f"{prefix}-{number}"
    if wanted in SLICES:
        return SLICES[wanted]
    if prefix in _PREFIXES.values() and number.isdigit():
        raise UserError(f"there is no TPU slice {name!r}; {_nearest(prefix, int(number))}")
    close = difflib.get_close_matches(wanted, SLICES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"there is no TPU slice {name!r}; {hint}names look like v5p-32, v5litepod-16, v6e-8, v4-16"
    )


def _nearest(prefix: str, number: int) -> str:
    (generation,) = (key for key, value in _PREFIXES.items() if value == prefix)
    numbers = [
        found.chips * _CORES_PER_CHIP[generation]
        for found in SLICES.values()
        if found.generation == generation
    ]
    below = [known for known in numbers if known < number]
    above = [known for known in numbers if known > number]
    near = [f"{prefix}-{known}" for known in [*below[-1:], *above[:1]]]
    counts = "TensorCores, two a chip" if _CORES_PER_CHIP[generation] == 2 else "chips"
    return f"nearest: {' and '.join(near)} ({generation} counts {counts})"
