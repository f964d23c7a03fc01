"""One step of the critic on a batch: values and advantages first, then its own optimizer steps.

It goes over the policy's microbatches and minibatches, and like the policy it sums gradients before
anything is divided. All values of a step are those of the weights before it, for every iteration.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.grpo_config import CriticConfig, GrpoConfig, KlEstimator
from r1ci_jax.sharding import placement
from r1ci_jax.train import grpo_step
from r1ci_jax.train import train_state as state
from r1ci_jax.train.critic import value_loss, value_targets
from r1ci_jax.train.critic.critic_model import Critic, CriticParams
from r1ci_jax.train.critic.value_loss import ValueSums
from r1ci_jax.train.critic.value_targets import SquareSums, TokenSums, ValueTargets
from r1ci_jax.train.microbatching import Microbatch
from r1ci_jax.train.objective.divergence import estimate_kl
from r1ci_jax.train.policy import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Static argument of jitted functions; the fields are explained where `GrpoConfig` has them."""

    gamma: float
    gae_lambda: float
    kl_coef: float = 0.0
    """Weight of the KL divergence in the reward; 0 where it is not there."""
    kl_estimator: KlEstimator = "k3"

    @classmethod
    def of(cls, config: GrpoConfig) -> Self:
        """Pick them from the settings of a training."""
        chosen = cls(gamma=config.critic.gamma, gae_lambda=config.critic.gae_lambda)
        if not config.kl_coef or config.objective.kl_in != "reward":
            return chosen
        estimator = config.objective.kl_estimator
        return dataclasses.replace(chosen, kl_coef=config.kl_coef, kl_estimator=estimator)


class Estimates(NamedTuple):
    """What the critic of the step's beginning says of a microbatch; [B, T-1] as in the loss."""

    chosen_BT: jax.Array
    """True at tokens that train."""
    values_BT: jax.Array
    targets: ValueTargets
    sums: TokenSums
    kl: jax.Array
    """Sum over tokens of the estimated KL(policy || reference) in the reward; 0 without one."""


class ValueAccumulator(NamedTuple):
    """Sums over microbatches."""

    gradients: CriticParams
    sums: ValueSums


class CriticStats(NamedTuple):
    """Measurements of one optimizer step of the critic, on devices until they are fetched."""

    sums: ValueSums
    grad_norm: jax.Array


@functools.partial(jax.jit, static_argnames=("critic", "settings"))
def estimate(
    params: CriticParams,
    base: Params | None,
    rewards_B: jax.Array,
    batch: Microbatch,
    *,
    critic: Critic,
    settings: TargetSettings,
) -> Estimates:
    """Compute values, advantages and returns of a microbatch.

    With a KL term in the reward `batch` needs the reference's log-probabilities, and each token's
    estimate is subtracted at that token. The policy is the one that sampled it, as in kl_reward.py.
    """
    chosen_BT = batch.sampled_BT[:, 1:]
    values_BT = critic.values(params, base, batch.tokens_BT)
    rewards_BT = value_targets.place_rewards(rewards_B, chosen_BT)
    kl_BT = jnp.zeros_like(rewards_BT)
    if settings.kl_coef:
        assert batch.ref_logprobs_BT is not None, "a KL term needs the reference's"
        difference_BT = (batch.ref_logprobs_BT - batch.old_logprobs_BT)[:, 1:]
        kl_BT = estimate_kl(jnp.where(chosen_BT, difference_BT, 0.0), settings.kl_estimator)
        rewards_BT -= settings.kl_coef * kl_BT
    targets = value_targets.estimate(
        rewards_BT, values_BT, chosen_BT, gamma=settings.gamma, gae_lambda=settings.gae_lambda
    )
    sums = value_targets.sum_tokens(targets, values_BT, chosen_BT)
    measured = placement.constrain_replicated((sums, jnp.sum(kl_BT)))
    return Estimates(chosen_BT, values_BT, targets, *measured)


@jax.jit
def sum_squares(estimates: Estimates, sums: TokenSums) -> SquareSums:
    """Sum a microbatch's squared distances from the means of the whole batch."""
    squares = value_targets.sum_squares(estimates.targets, estimates.chosen_BT, sums)
    return placement.constrain_replicated(squares)


@functools.partial(jax.jit, static_argnames=("is_whitened",))
def add_advantages(
    batch: Microbatch,
    estimates: Estimates,
    sums: TokenSums,
    squares: SquareSums,
    *,
    is_whitened: bool,
) -> Microbatch:
    """Give the policy's microbatch the advantage of each token."""
    advantages_BT = estimates.targets.advantages_BT
    if is_whitened:
        advantages_BT = value_targets.whiten(advantages_BT, estimates.chosen_BT, sums, squares)
    return batch._replace(advantages_BT=jnp.pad(advantages_BT, ((0, 0), (1, 0))))


@jax.jit
def zero_accumulator(params: CriticParams) -> ValueAccumulator:
    """Start a sum over microbatches."""
    gradients = placement.constrain_like_params(jax.tree.map(jnp.zeros_like, params))
    return ValueAccumulator(gradients, ValueSums(*[jnp.float32(0.0)] * len(ValueSums._fields)))


@functools.partial(
    jax.jit, static_argnames=("critic", "value_clip"), donate_argnames=("accumulator",)
)
def accumulate_gradients(
    accumulator: ValueAccumulator,
    params: CriticParams,
    base: Params | None,
    tokens_BT: jax.Array,
    estimates: Estimates,
    *,
    critic: Critic,
    value_clip: float,
) -> ValueAccumulator:
    """Add one microbatch."""

    def loss_sum(params: CriticParams) -> tuple[jax.Array, ValueSums]:
        return value_loss.sum_loss(
            critic.values(params, base, tokens_BT),
            estimates.values_BT,
            estimates.targets.returns_BT,
            estimates.chosen_BT,
            value_clip=value_clip,
        )

    gradients, sums = jax.grad(loss_sum, has_aux=True)(params)
    added = jax.tree.map(jnp.add, accumulator, ValueAccumulator(gradients, sums))
    return placement.constrain_like_params(added)


def update(
    critic_state: state.TrainState,
    base: Params | None,
    minibatches: Sequence[Sequence[tuple[Microbatch, Estimates]]],
    critic: Critic,
    config: CriticConfig,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, list[CriticStats]]:
    """Make the critic's optimizer steps of one batch; `critic_state` is donated."""
    dispatched = []
    for minibatch in [*minibatches] * config.num_iterations:
        total = zero_accumulator(critic_state.params)
        for batch, estimates in minibatch:
            total = accumulate_gradients(
                total,
                critic_state.params,
                base,
                batch.tokens_BT,
                estimates,
                critic=critic,
                value_clip=config.value_clip,
            )
        critic_state, norm = grpo_step.apply_step(
            critic_state, total.gradients, total.sums.tokens, tx=tx
        )
        dispatched.append(CriticStats(total.sums, norm))
    return critic_state, dispatched


def metrics(sums: TokenSums, squares: SquareSums, stats: Sequence[CriticStats]) -> dict[str, float]:
    """Describe a step from numbers on the host; loss and norm are means over optimizer steps.

    The explained variance is missing where all returns are equal: there is nothing to explain.
    """
    tokens = float(sums.tokens)
    found = {
        "critic/loss": np.mean([each.sums.loss / each.sums.tokens for each in stats]),
        "critic/clip_fraction": np.mean([each.sums.clipped / each.sums.tokens for each in stats]),
        "critic/grad_norm": np.mean([each.grad_norm for each in stats]),
        "critic/value_mean": sums.value / tokens,
        "critic/return_mean": sums.returns / tokens,
    }
    if squares.returns > value_targets.WHITENING_EPS * tokens:
        found["critic/explained_variance"] = 1.0 - squares.advantage / squares.returns
    return {name: float(value) for name, value in found.items()}
