"""The baseline of PPO in the trainer: it makes advantages of tokens, and trains the critic."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import GrpoConfig
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import grpo_step, microbatching, optimizer
from r1ci_jax.train.critic import critic_step
from r1ci_jax.train.critic.critic_model import Critic, CriticParams
from r1ci_jax.train.critic.critic_step import Estimates
from r1ci_jax.train.critic.value_targets import SquareSums, TokenSums
from r1ci_jax.train.microbatching import Microbatch
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.training_run import InitialCritic, TrainingLoop

type Minibatches = list[list[Microbatch]]


def make_critic(policy: Policy, initial: Weights, config: GrpoConfig) -> InitialCritic | None:
    """Make the critic and its optimizer from the policy's first weights; None without one."""
    if not config.has_critic:
        return None
    schedule = optimizer.constant_schedule(config.critic.lr)
    tx = optimizer.make_optimizer(schedule, clip_norm=config.critic.clip_norm)
    return InitialCritic(Critic.of(policy).init_params(initial.trainable), tx)


class CriticBaseline:
    """Compares rewards with the critic's values; the critic's state is `loop.critic`."""

    def __init__(
        self,
        loop: TrainingLoop,
        tx: optax.GradientTransformation,
        base: Params | None,
        policy: Policy,
        config: GrpoConfig,
        pad_id: int,
    ) -> None:
        """`tx` is the critic's optimizer, `base` the weights under LoRA adapters, or None."""
        self._loop = loop
        self._critic = Critic.of(policy)
        self._tx = tx
        self._base = base
        self._policy = policy
        self._config = config
        self._settings = critic_step.TargetSettings.of(config)
        self._pad_id = pad_id

    def warm_up(self, weights: Weights, reference: Weights | None) -> None:
        """Compile both updates for every row length, on rows of padding."""
        completed = []
        for batch in microbatching.empty_microbatches(self._config, self._pad_id):
            estimates, sums, squares = self._estimate([batch], reference)
            completed += self._add_advantages([batch], estimates, sums, squares)
            total = critic_step.zero_accumulator(self._params)
            jax.block_until_ready(
                critic_step.accumulate_gradients(
                    total,
                    self._params,
                    self._base,
                    batch.tokens_BT,
                    estimates[0],
                    critic=self._critic,
                    value_clip=self._config.critic.value_clip,
                )
            )
        grpo_step.warm_up(weights, reference, self._policy, self._config, completed)

    def compare(
        self, step: int, trajectories: Sequence[Trajectory], reference: Weights | None
    ) -> tuple[Minibatches, dict[str, float]]:
        """Return the policy's minibatches with their advantages, and metrics; train the critic.

        There are no minibatches while the critic learns alone (`grpo.critic.lead_steps`).
        """
        config = self._config
        rewards_PR = np.asarray([each.reward for each in trajectories], np.float32)
        rewards_PR = rewards_PR.reshape(-1, config.rollouts_per_prompt)
        # In place of advantages: the critic makes those of the rewards.
        minibatches = microbatching.make_minibatches(trajectories, rewards_PR, config, self._pad_id)
        if not minibatches:
            return [], {}
        batches = [batch for minibatch in minibatches for batch in minibatch]
        estimates, sums, squares = self._estimate(batches, reference)
        rows = iter(zip(batches, estimates, strict=True))
        parts = [[next(rows) for _ in minibatch] for minibatch in minibatches]
        assert self._loop.critic is not None
        self._loop.critic, stats = critic_step.update(
            self._loop.critic, self._base, parts, self._critic, config.critic, self._tx
        )
        completed = iter(self._add_advantages(batches, estimates, sums, squares))
        minibatches = [[next(completed) for _ in minibatch] for minibatch in minibatches]
        kl = [each.kl for each in estimates]
        sums, squares, stats, kl = jax.device_get((sums, squares, stats, kl))
        values = critic_step.metrics(sums, squares, stats)
        if self._settings.kl_coef:
            # As the mean that `kl_reward.kl_metrics` is, over the trajectories that train.
            values["reward/kl"] = float(sum(kl)) / sum(each.carries_loss for each in trajectories)
        return [] if step < config.critic.lead_steps else minibatches, values

    @property
    def _params(self) -> CriticParams:
        assert self._loop.critic is not None, "the training was started without a critic"
        return self._loop.critic.params

    def _estimate(
        self, batches: Sequence[Microbatch], reference: Weights | None
    ) -> tuple[list[Estimates], TokenSums, SquareSums]:
        """Ask the critic about all microbatches of a step; add up what describes the batch."""
        found = []
        for batch in batches:
            rewards_B = batch.advantages_B
            assert rewards_B is not None, "with a critic every row has a gradient"
            if self._settings.kl_coef:
                assert reference is not None, "a KL term has a reference"
                batch = grpo_step.compute_ref_logprobs(
                    reference, batch, policy=self._policy, temperature=self._config.temperature
                )
            found.append(
                critic_step.estimate(
                    self._params,
                    self._base,
                    rewards_B,
                    batch,
                    critic=self._critic,
                    settings=self._settings,
                )
            )
        sums = _add_up([each.sums for each in found])
        return found, sums, _add_up([critic_step.sum_squares(each, sums) for each in found])

    def _add_advantages(
        self,
        batches: Sequence[Microbatch],
        estimates: Sequence[Estimates],
        sums: TokenSums,
        squares: SquareSums,
    ) -> list[Microbatch]:
        is_whitened = self._config.critic.whiten
        return [
            critic_step.add_advantages(batch, each, sums, squares, is_whitened=is_whitened)
            for batch, each in zip(batches, estimates, strict=True)
        ]


def _add_up[T](trees: Sequence[T]) -> T:
    return functools.reduce(functools.partial(jax.tree.map, jnp.add), trees)
