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
from r1ci_jax.core.config import GrpoConfig, Sampling
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data import pipeline
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents, record
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example
from r1ci_jax.train import checkpoint, losses, state
from r1ci_jax.train.policy import Params, Policy


class MicroBatch(NamedTuple):
    """Some trajectories of a step, padded on the right; a row of padding has no sampled token."""

    tokens_BT: jax.Array
    sampled_BT: jax.Array
    """True where the policy chose the token."""
    behaviour_BT: jax.Array
    """Log-probabilities recorded while sampling."""
    advantages_B: jax.Array


class MicroSums(NamedTuple):
    """Sums over a micro-batch, for gradient and metrics."""

    grpo: losses.GrpoSums
    entropy: jax.Array
    logprob_gap: jax.Array
    """Over sampled tokens, of |trainer - sampler| log-probability."""


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
        gap_BT = jnp.where(mask_BT, jnp.abs(logprobs_BT - old_BT), 0.0)
        entropy = jnp.sum(entropy_BT, where=mask_BT)
        return loss, (MicroSums(sums, entropy, gap_BT.sum()), gap_BT.max())

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
    runner: Runner,
    config: GrpoConfig,
    *,
    name: str,
    seed: int,
    checkpoints_dir: Path,
    metrics_path: Path,
    trajectories_path: Path,
) -> Params:
    """Train through all stages, from the last checkpoint if there is one. `params` is used up.

    What `params` holds, the model after supervised fine-tuning, stays the reference. `questions`
    gives those of a split. `name` is that of this training in metrics and trajectories.
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
        done, saved_place = checkpoints.latest() or 0, None
        if done:
            train_state, saved = checkpoints.restore(done, checkpoint.abstract(train_state))
            saved_place = saved["batches"]
        writer.truncate_after(name, done)
        trajectory_log.truncate_after(name, done)

        with progress.Progress(name, total, start=done) as bar:
            if done < total:
                runner.engine.load(policy.sampler_weights(train_state.params))
                with bar.compiling("sampler", about=15):
                    runner.engine.warm_up()
                with bar.compiling("update", about=20):
                    _warm_up(train_state.params, reference, policy, config)
            for stage, first_step in _with_first_steps(stages):
                if done >= first_step + stage.steps:
                    continue
                batches = pipeline.prompt_batches(
                    questions(stage.split), config.prompts_per_step, seed=seed + stage.number
                )
                if done > first_step:
                    assert saved_place is not None, "a checkpoint without its place in the data"
                    batches.set_state(saved_place.encode())
                bar.note(f"stage {stage.number}: {stage.steps} steps on {stage.split}")

                # --- Train loop ---
                for step in range(max(done, first_step), first_step + stage.steps):
                    examples = next(batches)
                    began, waited_before = time.monotonic(), runner.waited_seconds
                    runner.engine.load(policy.sampler_weights(train_state.params))
                    with bar.activity(f"sampling {len(examples) * config.rollouts_per_prompt}"):
                        trajectories = runner.run(_requests(examples, step, config))
                    sampled = time.monotonic()

                    with bar.activity("updating"):
                        advantages = relative_advantages(trajectories, config)
                        train_state, values = update(
                            train_state, reference, trajectories, advantages, policy, config, tx
                        )
                    updated = time.monotonic()
                    _refuse_non_finite(values, step + 1)

                    # --- Log and save ---
                    values |= record.statistics(trajectories)
                    values |= {
                        "group/flat_fraction": flat_fraction(advantages),
                        "curriculum/stage": stage.number,
                        "optim/lr": float(np.asarray(schedule(step))),
                        "time/rollout": sampled - began,
                        "time/sandbox": runner.waited_seconds - waited_before,
                        "time/update": updated - sampled,
                        "rate/tokens_per_second": sum(sum(t.sampled) for t in trajectories)
                        / (sampled - began),
                    }
                    writer.write(name, step + 1, values)
                    for kept in record.representative(trajectories, config.trajectories_logged):
                        trajectory_log.append(
                            record.row(kept, policy.tokenizer, stage=name, step=step + 1)
                        )
                    shown = ("reward/mean", "accuracy", "tool/calls_per_traj")
                    bar.update(step + 1, {key: values[key] for key in shown})
                    if (step + 1) % config.checkpoint_every == 0 or step + 1 == total:
                        saved = {"batches": batches.get_state().decode()}
                        checkpoints.save(step + 1, train_state, saved)
    return train_state.params


def _with_first_steps(stages: Sequence[Stage]) -> list[tuple[Stage, int]]:
    """Each stage with the number of steps before it."""
    before = 0
    pairs = []
    for stage in stages:
        pairs.append((stage, before))
        before += stage.steps
    return pairs


def _requests(examples: Sequence[Example], step: int, config: GrpoConfig) -> list[Request]:
    """R requests a question, with rollout ids that no other step uses."""
    return [
        Request(
            example=example,
            agent=agents.CodeAgent(),
            rollout=(step * config.prompts_per_step + number, member),
            sampling=Sampling(temperature=config.temperature),
        )
        for number, example in enumerate(examples)
        for member in range(config.rollouts_per_prompt)
    ]


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
    return train_state, {
        **{f"optim/{key}": float(value) for key, value in means.items()},
        "optim/grad_norm": float(norm),
        "optim/entropy": float(sums.entropy) / tokens,
        "check/sampler_trainer_logprob_diff": float(sums.logprob_gap) / tokens,
        "check/sampler_trainer_logprob_diff_max": largest_gap,
    }


def _warm_up(params: Params, reference: Params, policy: Policy, config: GrpoConfig) -> None:
    """Compile the update for every row length, on rows of padding."""
    for length in config.sequence_lengths:
        batch = _pad([], length, policy, config)
        jax.block_until_ready(
            micro_gradients(params, reference, batch, policy=policy, config=config)
        )


def micro_batches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[MicroBatch]:
    """Valid trajectories by length, `micro_batch` rows at a time, padded to a configured length.

    Sorting keeps long rows together, so that most micro-batches are short; the loss is a sum, so
    the order does not matter.
    """
    pairs = [pair for pair in zip(trajectories, advantages, strict=True) if pair[0].is_valid]
    pairs.sort(key=lambda pair: (len(pair[0].tokens), pair[0].rollout))
    batches = []
    for first in range(0, len(pairs), config.micro_batch):
        members = pairs[first : first + config.micro_batch]
        longest = len(members[-1][0].tokens)
        length = next(size for size in config.sequence_lengths if size >= longest)
        batches.append(_pad(members, length, policy, config))
    return batches


def _pad(
    members: Sequence[tuple[Trajectory, float]], length: int, policy: Policy, config: GrpoConfig
) -> MicroBatch:
    shape = (config.micro_batch, length)
    tokens_BT = np.full(shape, policy.tokenizer.pad_id, np.int32)
    sampled_BT = np.zeros(shape, bool)
    behaviour_BT = np.zeros(shape, np.float32)
    advantages_B = np.zeros(config.micro_batch, np.float32)
    for number, (trajectory, advantage) in enumerate(members):
        size = len(trajectory.tokens)
        tokens_BT[number, :size] = trajectory.tokens
        sampled_BT[number, :size] = trajectory.sampled
        behaviour_BT[number, :size] = trajectory.logprobs
        advantages_B[number] = advantage
    arrays = state.place_batch((tokens_BT, sampled_BT, behaviour_BT, advantages_B))
    return MicroBatch(*arrays)


def _refuse_non_finite(values: dict[str, float], step: int) -> None:
    if not np.isfinite(list(values.values())).all():
        raise UserError(f"training diverged at step {step} ({values}): lower grpo.lr")
