"""Group-relative policy optimisation over the stages of a curriculum (paper section 5).

Each step asks P questions R times with the interpreter in the loop, compares the R answers to one
question with each other, and moves the policy towards the better ones. Only tokens that the policy
chose carry loss. The reference of the KL term is the model that the training started from.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from etils import epath

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.stages import Stage, curriculum_state
from r1ci_jax.data import batching
from r1ci_jax.rollout import serialize, summaries
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.runtime import metrics, preemption, progress
from r1ci_jax.tasks.base import Example
from r1ci_jax.train import checkpoint, grpo_step, guards, rollout_collector
from r1ci_jax.train import train_state as state
from r1ci_jax.train.policy import Params, Policy


def train(
    policy: Policy,
    params: Params,
    stages: Sequence[Stage],
    questions: Callable[[str], batching.RandomAccess[Example]],
    source: TrajectorySource,
    config: GrpoConfig,
    *,
    name: str,
    seed: int,
    checkpoints_dir: epath.PathLike,
    metrics_path: Path,
    trajectories_path: Path,
    rollouts_dir: Path,
    diverged_dir: Path,
    before_commit: Callable[[], None] = lambda: None,
) -> Params:
    """Train through all stages, from the last checkpoint if there is one. `params` is used up.

    What `params` holds, the model after supervised fine-tuning, stays the reference. `questions`
    gives those of a split. `name` is that of this training in metrics and trajectories.
    `rollouts_dir` is where `config.dump_rollouts` keeps what each step was trained on,
    `diverged_dir` where a batch lies whose loss or gradient is no number. `before_commit` is that
    of the checkpoints. Returns all weights.
    """
    # A copy, unless LoRA leaves it alone: the training state is donated to every step.
    trainable, base = policy.split_trainable(params, seed=seed)
    reference = jax.tree.map(jnp.copy, params) if base is None else base
    schedule = state.constant_schedule(config.lr, warmup_steps=config.warmup_steps)
    tx = state.make_optimizer(schedule, clip_norm=config.clip_norm)
    train_state = state.create_state(trainable, tx)
    total = sum(stage.steps for stage in stages)
    updates = config.num_minibatches * config.num_iterations

    with (
        checkpoint.CheckpointManager(
            checkpoints_dir,
            config.checkpoint_keep,
            keep_best=config.checkpoint_keep_best,
            better="higher",
            training={"seed": seed, "stages": [dataclasses.asdict(stage) for stage in stages]},
            before_commit=before_commit,
        ) as checkpoints,
        metrics.MetricsWriter(metrics_path) as writer,
        metrics.JsonlLog(trajectories_path) as trajectory_log,
    ):
        # --- Resume ---
        done, saved, reward = 0, None, None
        found = checkpoints.restore_latest(checkpoint.abstract(train_state))
        if found is not None:
            done, train_state, saved = found
            assert saved["curriculum"] == curriculum_state(stages, done), (
                "the curriculum's state is of others"
            )
        writer.truncate_after(name, done)
        trajectory_log.truncate_after(name, done)
        spikes = guards.LossSpikeDetector()
        spikes.resume(metrics.column(metrics_path, name, "optim/loss"))

        with progress.Progress(name, total, start=done) as bar:
            if done < total:
                with (
                    source.weights_loaded(
                        functools.partial(policy.sampler_weights, train_state.params, frozen=base)
                    ),
                    bar.compiling("sampler", about=15),
                ):
                    source.warm_up()
                with bar.compiling("update", about=20):
                    grpo_step.warm_up(train_state.params, reference, base, policy, config)
            for stage, first_step in _with_first_steps(stages):
                if done >= first_step + stage.steps:
                    continue
                steps = range(first_step, first_step + stage.steps)
                collector = rollout_collector.RolloutCollector(
                    source, questions(stage.split), config, steps=steps, seed=seed + stage.number
                )
                if done > first_step:
                    assert saved is not None, "a checkpoint without its place in the data"
                    collector.restore(saved)
                bar.note(f"stage {stage.number}: {stage.steps} steps on {stage.split}")

                # --- Train loop ---
                for step in steps[max(done - first_step, 0) :]:
                    wanted = config.prompts_per_step * config.rollouts_per_prompt
                    here = {"curriculum": curriculum_state(stages, step)} | collector.state()
                    with (
                        checkpoints.save_on_preemption(name, step, train_state, here, reward),
                        # Not longer: the update makes them old and needs their memory.
                        source.weights_loaded(
                            functools.partial(
                                policy.sampler_weights, train_state.params, frozen=base
                            )
                        ),
                        bar.activity(f"sampling {wanted}"),
                    ):
                        trajectories, values = collector.collect(step)
                    if config.dump_rollouts:
                        serialize.write(serialize.step_path(rollouts_dir, step + 1), trajectories)

                    sampled = time.monotonic()
                    with bar.activity("updating"), guards.no_implicit_transfers():
                        advantages = grpo_step.compute_advantages(trajectories, config)
                        train_state, learnt = grpo_step.update(
                            train_state,
                            reference,
                            trajectories,
                            advantages,
                            policy,
                            config,
                            tx,
                            base,
                        )
                    updated = time.monotonic()
                    guards.require_finite(
                        learnt,
                        step=step + 1,
                        save=functools.partial(
                            _save_diverged, diverged_dir, name, step + 1, trajectories
                        ),
                        advice="lower grpo.lr",
                    )
                    guards.report_logprob_mismatch(name, step + 1, learnt)

                    # --- Log and save ---
                    values |= learnt | summaries.compute_metrics(trajectories)
                    values |= {
                        "group/zero_advantage_fraction": grpo_step.zero_advantage_fraction(
                            advantages
                        ),
                        "curriculum/stage": stage.number,
                        "optim/lr": state.learning_rate_at(schedule, step * updates),
                        "check/loss_deviation": spikes.report(name, step + 1, learnt["optim/loss"]),
                        "time/update": updated - sampled,
                    }
                    writer.write(name, step + 1, values)
                    for kept in summaries.sample_by_reward(
                        trajectories, config.logged_trajectories
                    ):
                        trajectory_log.append(
                            summaries.to_record(kept, policy.tokenizer, stage=name, step=step + 1)
                        )
                    shown = ("reward/mean", "accuracy", "tool/calls_per_traj")
                    bar.update(step + 1, {key: values[key] for key in shown})
                    reward = values["reward/mean"]
                    is_due = (step + 1) % config.checkpoint_every == 0 or step + 1 == total
                    stop = preemption.is_requested()
                    if is_due or stop:
                        here = {
                            "curriculum": curriculum_state(stages, step + 1)
                        } | collector.state()
                        checkpoints.save(step + 1, train_state, here, metric=reward)
                    if stop:
                        raise preemption.preempted_error(after=f"{name} step {step + 1}")
    return policy.merge_adapters(train_state.params, base)


def _save_diverged(
    directory: Path, name: str, step: int, trajectories: Sequence[Trajectory]
) -> Path:
    path = directory / f"{name}_step_{step}.jsonl.gz"
    serialize.write(path, trajectories)
    return path


def _with_first_steps(stages: Sequence[Stage]) -> list[tuple[Stage, int]]:
    """Each stage with the number of steps before it."""
    before = 0
    pairs = []
    for stage in stages:
        pairs.append((stage, before))
        before += stage.steps
    return pairs
