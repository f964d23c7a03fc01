"""A critic that has an opinion, and a trainer's step with it, for the tests of the critic."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from r1ci_jax.config import GrpoConfig
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import microbatching, optimizer, train_state
from r1ci_jax.train.critic.critic_baseline import CriticBaseline
from r1ci_jax.train.critic.critic_model import Critic, CriticParams
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.training_run import TrainingLoop
from tests.train.tiny_training import CONFIG, tokenizer

ROWS = 8
TX = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)


@dataclasses.dataclass
class Loop:
    """What the baseline reads of a training."""

    critic: train_state.TrainState


def configure(
    critic: dict[str, Any] | None = None, objective: dict[str, Any] | None = None, **settings: Any
) -> GrpoConfig:
    """PPO on one microbatch of all rows, without a KL term, unless the settings say otherwise."""
    settings = {
        "kl_coef": 0.0,
        "sequence_lengths": (64,),
        "microbatch_tokens": 64 * ROWS,
    } | settings
    forms: dict[str, Any] = {"baseline": "critic", "aggregation": "token_mean"}
    rates: dict[str, Any] = {"lr": 1e-2}
    return dataclasses.replace(
        CONFIG,
        objective=ObjectiveConfig(**(forms | (objective or {}))),
        critic=CriticConfig(**(rates | (critic or {}))),
        **settings,
    )


def opinionated(policy: Policy, params: Params) -> CriticParams:
    """A critic whose values differ from token to token."""
    made = Critic.of(policy).init_params(jax.tree.map(jnp.copy, params))
    head_D = 0.1 * jnp.sin(jnp.arange(policy.config.width, dtype=jnp.float32))
    return made | {"value_head": head_D, "value_bias": jnp.float32(0.25)}


def make_baseline(
    policy: Policy, params: CriticParams, config: GrpoConfig, base: Params | None = None
) -> CriticBaseline:
    loop = Loop(train_state.create_state(jax.tree.map(jnp.copy, params), TX))
    pad_id = tokenizer().pad_id
    return CriticBaseline(cast(TrainingLoop, loop), TX, base, policy, config, pad_id)


def token_advantages(
    minibatches: Sequence[Sequence[microbatching.Microbatch]], count: int
) -> list[np.ndarray]:
    """Advantages of each trajectory's tokens, in the order of the batch."""
    found: dict[int, np.ndarray] = {}
    for batch in (batch for minibatch in minibatches for batch in minibatch):
        assert batch.index_B is not None and batch.advantages_BT is not None
        for index, advantage_T in zip(batch.index_B, batch.advantages_BT, strict=True):
            found[int(index)] = np.asarray(advantage_T)
    return [found[index] for index in range(count)]


def values_by_hand(policy: Policy, params: CriticParams, one: Trajectory) -> np.ndarray:
    """Value before every token of a trajectory; 0 before the first."""
    tokens_BT = np.zeros((1, 64), np.int32)
    tokens_BT[0, : len(one.tokens)] = one.tokens
    x_TD = np.asarray(_hidden(policy, params["trunk"], tokens_BT))[0, : len(one.tokens) - 1]
    values = x_TD @ np.asarray(params["value_head"]) + float(params["value_bias"])
    return np.concatenate([[0.0], values])


@functools.partial(jax.jit, static_argnums=0)
def _hidden(policy: Policy, trunk: Params, tokens_BT: jax.Array) -> jax.Array:
    return policy.hidden(Weights(trunk), tokens_BT)[0]
