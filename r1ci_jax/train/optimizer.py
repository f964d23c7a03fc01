"""The optimizer of both trainers: AdamW, gradient clipping and learning-rate schedules."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

PyTree = Any


def make_optimizer(
    schedule: optax.Schedule,
    *,
    clip_norm: float,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """Build AdamW after a clip of the global gradient norm. Norms and biases do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=weight_decay_mask),
    )


def weight_decay_mask(params: PyTree) -> PyTree:
    """Mark each parameter that weight decay pulls to zero: all but norm scales and biases.

    Parameters are told apart by name: layers are stacked, so a norm scale is [L, D] and its rank
    says nothing.
    """

    def is_matrix(path: tuple[Any, ...], _: Any) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(is_matrix, params)


# The schedules below are the curves of `optax.warmup_cosine_decay_schedule` and of a joined linear
# and constant schedule. optax multiplies in another order: its cosine differs by up to 2e-5, its
# warm-up by 4e-7 of the rate, and a run that is resumed would not continue bit for bit.


def constant_schedule(lr: float, *, warmup_steps: int = 0) -> optax.Schedule:
    """Rise linearly over `warmup_steps`, then stay at `lr`. The first rate is above zero."""

    def schedule(count: ArrayLike) -> jax.Array:
        return lr * _warmup(count, warmup_steps)

    return schedule


def cosine_schedule(
    lr: float, *, steps: int, warmup_steps: int = 0, floor: float = 0.0
) -> optax.Schedule:
    """Rise linearly over `warmup_steps`, then fall on a cosine to `floor` x `lr` at `steps`."""
    decay_steps = max(steps - warmup_steps, 1)

    def schedule(count: ArrayLike) -> jax.Array:
        progress = jnp.clip(
            (jnp.asarray(count, jnp.float32) - warmup_steps) / decay_steps, 0.0, 1.0
        )
        shape = floor + (1.0 - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return lr * shape * _warmup(count, warmup_steps)

    return schedule


def tabulate(schedule: optax.Schedule, num_steps: int) -> np.ndarray:
    """Return the learning rate of every step as a host array.

    A trainer looks its rates up here when it logs them: one call before training in place of a
    device round trip per step.
    """
    return np.asarray(jax.device_get(jax.jit(lambda: jax.vmap(schedule)(jnp.arange(num_steps)))()))


def _warmup(count: ArrayLike, warmup_steps: int) -> jax.Array:
    return jnp.minimum(1.0, (jnp.asarray(count, jnp.float32) + 1.0) / (warmup_steps + 1.0))
