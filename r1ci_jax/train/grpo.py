"""Group-relative policy optimisation over the stages of a curriculum (paper section 5).

Each step asks P questions R times with the interpreter in the loop, compares the R answers to one
question with each other, and moves the policy towards the better ones. Only tokens that the policy
chose carry loss. The reference of the KL term is the model that the training started from.
"""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.core import metrics, progress
from r1ci_jax.core.config import GrpoConfig
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data import pipeline
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import dump, record
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example
from r1ci_jax.train import checkpoint, collect, losses, state
from r1ci_jax.train.policy import Params, Policy


class MicroBatch(NamedTuple):
    """Some trajectories of a step, padded on the right; a row of padding has no sampled token."""

    tokens_BT: jax.Array
    sampled_BT: jax.Array
    """True where the policy chose the token."""
    behaviour_BT: jax.Array
    """Log-probabilities recorded while sampling."""
    fresh_BT: jax.Array
    """True where the policy chose the token under the weights of this step."""
    advantages_B: jax.Array


class MicroSums(NamedTuple):
    """Sums over a micro-batch, for gradient and metrics."""

    grpo: losses.GrpoSums
    entropy: jax.Array
    logprob_gap: jax.Array
    """Over tokens sampled under the same weights, of |trainer - sampler| log-probability."""
    fresh: jax.Array
    """Number of such tokens."""


@functools.partial(jax.jit, static_argnames=("policy", "config"))
def micro_gradients(
    params: Params, reference: Params, batch: MicroBatch, *, policy: Policy, config: GrpoConfig
) -> tuple[Params, MicroSums, jax.Array]:
    """Gradient of the summed loss, the sums, and the largest trainer-sampler difference."""
    mask_BT = batch.sampled_BT[:, 1:]
    old_BT = batch.behaviour_BT[:, 1:]
    reference_BT, _ = policy.logprobs(reference, batch.tokens_BT, temperature=config.temperature)

    def loss_sum(params: Params) -> tuple[jax.Array, tuple[MicroSums, jax.Array]]:
        logprobs_BT, entropy_BT = policy.logprobs(
            params, batch.tokens_BT, temperature=config.temperature
        )
        loss, sums = losses.grpo_loss(
            logprobs_BT,
            old_BT,
            reference_BT,
            batch.advantages_B,
            mask_BT,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            kl_coef=config.kl_coef,
        )
        fresh_BT = batch.fresh_BT[:, 1:]
        gap_BT = jnp.where(fresh_BT, jnp.abs(logprobs_BT - old_BT), 0.0)
        entropy = jnp.sum(entropy_BT, where=mask_BT)
        fresh = fresh_BT.sum(dtype=jnp.float32)
        return loss, (MicroSums(sums, entropy, gap_BT.sum(), fresh), gap_BT.max())

    gradients, (sums, largest_gap) = jax.grad(loss_sum, has_aux=True)(params)
    return gradients, sums, largest_gap


@functools.partial(jax.jit, static_argnames=("tx",), donate_argnames=("train_state",))
def apply_step(
    train_state: state.TrainState,
    gradients: Params,
    sequences: jax.Array,
    *,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, jax.Array]:
    """Divide the summed gradients by the number of trajectories and move; also their norm."""
    gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(sequences, 1.0), gradients)
    return state.apply_gradients(train_state, gradients, tx), optax.tree.norm(gradients)


def train(
    policy: Policy,
    params: Params,
    stages: Sequence[Stage],
    questions: Callable[[str], pipeline.RandomAccess[Example]],
    runner: Runner | dump.Replay,
    config: GrpoConfig,
    *,
    name: str,
    seed: int,
    checkpoints_dir: Path,
    metrics_path: Path,
    trajectories_path: Path,
    rollouts_dir: Path,
) -> Params:
    """Train through all stages, from the last checkpoint if there is one. `params` is used up.

    What `params` holds, the model after supervised fine-tuning, stays the reference. `questions`
    gives those of a split. `name` is that of this training in metrics and trajectories.
    `rollouts_dir` is where `config.dump_rollouts` keeps what each step was trained on.
    """
    # A copy: the training state is donated to every step, the reference must outlive it.
    reference = jax.tree.map(jnp.copy, params)
    schedule = state.constant(config.lr, warmup_steps=config.warmup_steps)
    tx = state.make_optimizer(schedule, clip_norm=config.clip_norm)
    train_state = state.start(params, tx)
    total = sum(stage.steps for stage in stages)

    with (
        checkpoint.Checkpoints(checkpoints_dir) as checkpoints,
        metrics.MetricsWriter(metrics_path) as writer,
        metrics.JsonlLog(trajectories_path) as trajectory_log,
    ):
        # --- Resume ---
        done, saved = checkpoints.latest() or 0, None
        if done:
            train_state, saved = checkpoints.restore(done, checkpoint.abstract(train_state))
        writer.truncate_after(name, done)
        trajectory_log.truncate_after(name, done)

        with progress.Progress(name, total, start=done) as bar:
            if done < total:
                runner.load(policy.sampler_weights(train_state.params, runner.storage))
                with bar.compiling("sampler", about=15):
                    runner.warm_up()
                with bar.compiling("update", about=20):
                    _warm_up(train_state.params, reference, policy, config)
            for stage, first_step in _with_first_steps(stages):
                if done >= first_step + stage.steps:
                    continue
                steps = range(first_step, first_step + stage.steps)
                collector = collect.Collector(
                    runner, questions(stage.split), config, steps=steps, seed=seed + stage.number
                )
                if done > first_step:
                    assert saved is not None, "a checkpoint without its place in the data"
                    collector.restore(saved)
                bar.note(f"stage {stage.number}: {stage.steps} steps on {stage.split}")

                # --- Train loop ---
                for step in steps[max(done - first_step, 0) :]:
                    runner.load(policy.sampler_weights(train_state.params, runner.storage))
                    wanted = config.prompts_per_step * config.rollouts_per_prompt
                    with bar.activity(f"sampling {wanted}"):
                        trajectories, values = collector.collect(step)
                    if config.dump_rollouts:
                        dump.write(dump.step_path(rollouts_dir, step + 1), trajectories)

                    sampled = time.monotonic()
                    with bar.activity("updating"):
                        advantages = relative_advantages(trajectories, config)
                        train_state, learnt = update(
                            train_state, reference, trajectories, advantages, policy, config, tx
                        )
                    updated = time.monotonic()
                    _refuse_non_finite(learnt, step + 1)

                    # --- Log and save ---
                    values |= learnt | record.statistics(trajectories)
                    values |= {
                        "group/flat_fraction": flat_fraction(advantages),
                        "curriculum/stage": stage.number,
                        "optim/lr": float(np.asarray(schedule(step))),
                        "time/update": updated - sampled,
                    }
                    writer.write(name, step + 1, values)
                    for kept in record.representative(trajectories, config.trajectories_logged):
                        trajectory_log.append(
                            record.row(kept, policy.tokenizer, stage=name, step=step + 1)
                        )
                    shown = ("reward/mean", "accuracy", "tool/calls_per_traj")
                    bar.update(step + 1, {key: values[key] for key in shown})
                    if (step + 1) % config.checkpoint_every == 0 or step + 1 == total:
                        checkpoints.save(step + 1, train_state, collector.saved())
    return train_state.params


def _with_first_steps(stages: Sequence[Stage]) -> list[tuple[Stage, int]]:
    """Each stage with the number of steps before it."""
    before = 0
    pairs = []
    for stage in stages:
        pairs.append((stage, before))
        before += stage.steps
    return pairs


def relative_advantages(trajectories: Sequence[Trajectory], config: GrpoConfig) -> np.ndarray:
    """Advantage of each trajectory within its question's group."""
    shape = (-1, config.rollouts_per_prompt)
    rewards_PR = np.asarray([t.reward for t in trajectories], np.float32).reshape(shape)
    valid_PR = np.asarray([t.is_valid for t in trajectories]).reshape(shape)
    return np.asarray(losses.group_advantages(jnp.asarray(rewards_PR), jnp.asarray(valid_PR)))


def flat_fraction(advantages_PR: np.ndarray) -> float:
    """Share of the questions whose answers teach nothing: all equally good, or none valid."""
    return float((advantages_PR == 0).all(axis=1).mean())


def update(
    train_state: state.TrainState,
    reference: Params,
    trajectories: Sequence[Trajectory],
    advantages_PR: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, dict[str, float]]:
    """One optimiser step over all trajectories, a micro-batch at a time."""
    gradients, sums, largest_gap = None, None, 0.0
    for batch in micro_batches(trajectories, advantages_PR.reshape(-1), policy, config):
        more, batch_sums, gap = micro_gradients(
            train_state.params, reference, batch, policy=policy, config=config
        )
        if gradients is None or sums is None:
            gradients, sums = more, batch_sums
        else:
            gradients = jax.tree.map(jnp.add, gradients, more)
            sums = jax.tree.map(jnp.add, sums, batch_sums)
        largest_gap = max(largest_gap, float(gap))
    if gradients is None or sums is None:
        raise UserError(
            "the sandbox failed in every trajectory of a step; run `r1ci sandbox doctor`, then the "
            "same command again: it resumes"
        )
    train_state, norm = apply_step(train_state, gradients, sums.grpo.sequences, tx=tx)
    tokens = max(float(sums.grpo.tokens), 1.0)
    means = losses.grpo_metrics(sums.grpo, kl_coef=config.kl_coef)
    values = {
        **{f"optim/{key}": float(value) for key, value in means.items()},
        "optim/grad_norm": float(norm),
        "optim/entropy": float(sums.entropy) / tokens,
    }
    if fresh := float(sums.fresh):
        values["check/sampler_trainer_logprob_diff"] = float(sums.logprob_gap) / fresh
        values["check/sampler_trainer_logprob_diff_max"] = largest_gap
    return train_state, values


def _warm_up(params: Params, reference: Params, policy: Policy, config: GrpoConfig) -> None:
    """Compile the update for every row length, on rows of padding."""
    for length in config.sequence_lengths:
        batch = _pad([], (config.rows(length, state.batch_parts()), length), policy)
        jax.block_until_ready(
            micro_gradients(params, reference, batch, policy=policy, config=config)
        )


def micro_batches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[MicroBatch]:
    """Valid trajectories from the longest down, padded to a configured length.

    Long rows go together, so that most micro-batches are short and have many rows; the loss is a
    sum, so the order does not matter.
    """
    pairs = [pair for pair in zip(trajectories, advantages, strict=True) if pair[0].is_valid]
    pairs.sort(key=lambda pair: (-len(pair[0].tokens), pair[0].rollout))
    batches = []
    while pairs:
        longest = len(pairs[0][0].tokens)
        length = next(size for size in config.sequence_lengths if size >= longest)
        rows = config.rows(length, state.batch_parts())
        batches.append(_pad(pairs[:rows], (rows, length), policy))
        pairs = pairs[rows:]
    return batches


def _pad(
    members: Sequence[tuple[Trajectory, float]], shape: tuple[int, int], policy: Policy
) -> MicroBatch:
    tokens_BT = np.full(shape, policy.tokenizer.pad_id, np.int32)
    sampled_BT = np.zeros(shape, bool)
    behaviour_BT = np.zeros(shape, np.float32)
    fresh_BT = np.zeros(shape, bool)
    advantages_B = np.zeros(shape[0], np.float32)
    for number, (trajectory, advantage) in enumerate(members):
        size = len(trajectory.tokens)
        tokens_BT[number, :size] = trajectory.tokens
        sampled_BT[number, :size] = trajectory.sampled
        behaviour_BT[number, :size] = trajectory.logprobs
        fresh_BT[number, trajectory.stale : size] = trajectory.sampled[trajectory.stale :]
        advantages_B[number] = advantage
    arrays = state.place_batch((tokens_BT, sampled_BT, behaviour_BT, fresh_BT, advantages_B))
    return MicroBatch(*arrays)


def _refuse_non_finite(values: dict[str, float], step: int) -> None:
    if not np.isfinite(list(values.values())).all():
        raise UserError(f"training diverged at step {step} ({values}): lower grpo.lr")
