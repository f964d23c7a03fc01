"""The one table that shards array axes over mesh axes.

A parameter's path gives its logical axes (PARAMETERS), and a logical axis gives the mesh axes it is
sharded over (AXES). Nothing else in the project names a mesh axis for an array.
"""

import re
from collections.abc import Mapping

import jax

type MeshAxes = str | tuple[str, ...] | None

BATCH = ("slice", "data", "fsdp")
"""Batch rows are sharded over these. Slices replicate parameters and only exchange gradients."""

AXES: Mapping[str, MeshAxes] = {
    "batch": BATCH,
    "time": None,
    "slots": BATCH,
    "prefill_rows": BATCH,
    "pages": BATCH,
    "page": None,
    "layers": None,
    "vocab": "tensor",
    "width": "fsdp",
    "query_heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "lora_rank": None,
    # The width of activations is not sharded: fsdp already shards their batch.
    "activation_width": None,
    "norm": None,
}

SAMPLING_AXES: Mapping[str, MeshAxes] = {**AXES, "width": None}
"""Axes of the sampler. A token reads every weight, so a width sharded over fsdp would be gathered
for every token. All other axes are sharded as in training."""

REPLICATE_IF_INDIVISIBLE = frozenset({"kv_heads"})
"""Axes that are replicated if the mesh does not divide them: key/value heads are few, and a mesh
is chosen for the query heads."""

# Map path suffixes to logical axes; suffixes also match moments ("0/mu/layers/q").
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    r"embed": ("vocab", "width"),
    r"lm_head": ("width", "vocab"),
    r"norm": ("norm",),
    r"layers/norm[12]": ("layers", "norm"),
    r"layers/q": ("layers", "width", "query_heads", "head_dim"),
    r"layers/q_bias": ("layers", "query_heads", "head_dim"),
    r"layers/[kv]": ("layers", "width", "kv_heads", "head_dim"),
    r"layers/[kv]_bias": ("layers", "kv_heads", "head_dim"),
    r"layers/o": ("layers", "query_heads", "head_dim", "width"),
    r"layers/(gate|up)": ("layers", "width", "mlp"),
    r"layers/down": ("layers", "mlp", "width"),
    r"layers/(q|k|v|gate|up)/lora_in": ("layers", "width", "lora_rank"),
    r"layers/o/lora_in": ("layers", "query_heads", "head_dim", "lora_rank"),
    r"layers/down/lora_in": ("layers", "mlp", "lora_rank"),
    r"layers/q/lora_out": ("layers", "lora_rank", "query_heads", "head_dim"),
    r"layers/[kv]/lora_out": ("layers", "lora_rank", "kv_heads", "head_dim"),
    r"layers/(gate|up)/lora_out": ("layers", "lora_rank", "mlp"),
    r"layers/(o|down)/lora_out": ("layers", "lora_rank", "width"),
    # It meets activations, whose width is whole on every device.
    r"value_head": ("activation_width",),
}


def logical_axes(path: str) -> tuple[str, ...]:
    """Return the logical axes of the parameter at a slash-separated path; one rule must match."""
    matches = [pattern for pattern in PARAMETERS if re.fullmatch(rf"(?:.*/)?{pattern}", path)]
    assert len(matches) == 1, f"{path!r} is matched by {len(matches)} sharding rules: {matches}"
    return PARAMETERS[matches[0]]


def mesh_axes(axis: str) -> tuple[str, ...]:
    """Return the mesh axes that a logical axis is sharded over."""
    found = AXES[axis]
    return (found,) if isinstance(found, str) else found or ()


def spec(*axes: str) -> jax.P:
    """Return the partition spec of an array with these logical axes."""
    return jax.P(*(AXES[axis] for axis in axes))
