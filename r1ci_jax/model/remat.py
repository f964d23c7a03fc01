"""What a layer keeps for its backward pass, by name; the rest is computed again there."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from r1ci_jax.config import Remat
from r1ci_jax.model import self_attention

_POLICIES: Mapping[Remat, Any] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names(self_attention.SAVED),
    "layer": jax.checkpoint_policies.nothing_saveable,
}


def checkpoint_layer(name: Remat, step: Callable[..., Any]) -> Callable[..., Any]:
    """The body of the layer loop, keeping what `name` says (see `TrainConfig.remat`)."""
    if name == "none":
        return step
    # The loop itself keeps the compiler from merging both computations.
    return jax.checkpoint(step, policy=_POLICIES[name], prevent_cse=False)
