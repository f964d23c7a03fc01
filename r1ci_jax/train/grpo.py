"""Group-relative policy optimization over the stages of a curriculum (paper section 5).

Each step samples R trajectories for each of P prompts with the interpreter in the loop, compares
the R rewards of a prompt with each other, and moves the policy towards the better trajectories.
Only tokens that the policy chose carry loss. The reference of the KL term is the model that the
training started from.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.stages import Stage, curriculum_state
from r1ci_jax.data import batching
from r1ci_jax.rollout import serialize, summaries
from r1ci_jax.rollout.diagnostics.group_signal import Grades
from r1ci_jax.rollout.diagnostics.step_log import StepLog
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.tasks.base import Example
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import grpo_step, guards, optimizer
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.rollout_collector import RolloutCollector
from r1ci_jax.train.training_run import TrainingLoop, TrainingRun

_SHOWN = {name: name for name in ("reward/mean", "accuracy", "tool/calls_per_traj")}
_ADVICE = "lower grpo.lr"


def train(
    policy: Policy,
    params: Params,
    tokenizer: Tokenizer,
    stages: Sequence[Stage],
    load_examples: Callable[[str], batching.RandomAccess[Example]],
    source: TrajectorySource,
    config: GrpoConfig,
    run: TrainingRun,
    grades: Grades | None = None,
) -> Params:
    """Train through all stages, from the last checkpoint if there is one; return all parameters.

    `params` are used up. `load_examples` returns the examples of a split, `source`
    yields trajectories. `grades` are the questions' potentials, for diagnostics alone.
    """
    # --- Weights, optimizer, state ---
    initial = policy.split_trainable(params, seed=run.seed)
    (trainable, base), reference = initial, _make_reference(initial, config.kl_coef)
    num_steps = sum(stage.steps for stage in stages)
    num_rollouts = config.prompts_per_step * config.rollouts_per_prompt
    tx, learning_rates = _make_optimizer(config, num_steps)
    identity = {"stages": [dataclasses.asdict(stage) for stage in stages]}

    with (
        run.start(trainable, tx, config, num_steps, identity=identity, better="higher") as loop,
        _open_step_log(run, tokenizer, config, grades) as step_log,
    ):
        train_state, reward = loop.train_state, None
        step_log.truncate_after(loop.first_step)
        if loop.first_step < num_steps:
            _warm_up(loop, source, base, reference, policy, config, tokenizer.pad_id)
        for stage, steps in _step_ranges(stages):
            if loop.first_step >= steps.stop:
                continue
            seed, examples = run.seed + stage.number, load_examples(stage.split)
            collector = RolloutCollector(source, examples, config, steps=steps, seed=seed)
            _restore(collector, loop, stages, steps)
            loop.progress.note(f"stage {stage.number}: {stage.steps} steps on {stage.split}")
            for step in steps[max(loop.first_step - steps.start, 0) :]:
                # --- Sample ---
                weights = Weights(train_state.params, base)
                to_sampler = functools.partial(policy.to_sampler_weights, weights)
                metadata = {"curriculum": curriculum_state(stages, step)} | collector.state()
                with (
                    loop.save_on_preemption(step, train_state, metadata, reward),
                    source.weights_loaded(to_sampler),  # no longer: the update needs the memory
                    loop.progress.activity(f"sampling {num_rollouts}"),
                ):
                    trajectories, values = collector.collect(step)
                if config.dump_rollouts:
                    serialize.write(serialize.step_path(run.rollouts_dir, step + 1), trajectories)

                # --- Update ---
                began = time.monotonic()
                with loop.progress.activity("updating"), guards.no_implicit_transfers():
                    advantages_PR = grpo_step.compute_advantages(trajectories, config)
                    minibatches = grpo_step.make_minibatches(
                        trajectories, advantages_PR, config, tokenizer.pad_id
                    )
                    # Metrics come with the update: the next step samples with its weights, so
                    # there is nothing to dispatch before they are known to be finite.
                    train_state, learned, rows = grpo_step.update(
                        train_state, base, reference, minibatches, policy, config, tx
                    )
                values |= learned | {"time/update": time.monotonic() - began}

                # --- Check, log and save ---
                values |= _batch_metrics(trajectories, advantages_PR, stage)
                totals, parts = step_log.describe(trajectories, trajectories, rows)
                values |= totals | {"optim/lr": float(learning_rates[step])}
                save_batch = functools.partial(_save_diverged, run, step + 1, trajectories)
                loop.record(step + 1, values, save_batch=save_batch, advice=_ADVICE, shown=_SHOWN)
                step_log.write(step + 1, trajectories, parts)
                reward = values["reward/mean"]
                if loop.must_save(step + 1):
                    metadata = {"curriculum": curriculum_state(stages, step + 1)}
                    loop.save(step + 1, train_state, metadata | collector.state(), metric=reward)
    return policy.merge_weights(Weights(train_state.params, base))


def _open_step_log(
    run: TrainingRun, tokenizer: Tokenizer, config: GrpoConfig, grades: Grades | None
) -> StepLog:
    return StepLog(
        run.name,
        run.trajectories_path,
        run.diagnostics_path,
        tokenizer=tokenizer,
        config=config,
        grades=grades or {},
    )


def _make_reference(initial: Weights, kl_coef: float) -> Weights | None:
    """Keep the weights of the KL term's reference; without such a term there are none to keep."""
    if not kl_coef:
        return None
    if initial.base is not None:
        return Weights(initial.base)  # adapters start as nothing, and no step changes the base
    # A copy: the training state is donated to every step.
    return Weights(jax.tree.map(jnp.copy, initial.trainable))


def _make_optimizer(
    config: GrpoConfig, num_steps: int
) -> tuple[optax.GradientTransformation, np.ndarray]:
    """Build the optimizer; also return the learning rate at the first update of each step."""
    schedule = optimizer.constant_schedule(config.lr, warmup_steps=config.warmup_steps)
    num_updates = config.num_minibatches * config.num_iterations
    learning_rates = optimizer.tabulate(schedule, num_steps * num_updates)[::num_updates]
    return optimizer.make_optimizer(schedule, clip_norm=config.clip_norm), learning_rates


def _warm_up(
    loop: TrainingLoop,
    source: TrajectorySource,
    base: Params | None,
    reference: Weights | None,
    policy: Policy,
    config: GrpoConfig,
    pad_id: int,
) -> None:
    """Compile the sampler and the update before the first step."""
    weights = Weights(loop.train_state.params, base)
    to_sampler = functools.partial(policy.to_sampler_weights, weights)
    with source.weights_loaded(to_sampler), loop.progress.compiling("sampler", about=15):
        source.warm_up()
    with loop.progress.compiling("update", about=20):
        grpo_step.warm_up(weights, reference, policy, config, pad_id)


def _step_ranges(stages: Sequence[Stage]) -> list[tuple[Stage, range]]:
    """Pair each stage with its steps, counted from 0 over the whole training."""
    pairs, start = [], 0
    for stage in stages:
        pairs.append((stage, range(start, start + stage.steps)))
        start += stage.steps
    return pairs


def _restore(
    collector: RolloutCollector, loop: TrainingLoop, stages: Sequence[Stage], steps: range
) -> None:
    """Continue in the middle of a stage: the same prompts come next, the same rollouts wait."""
    if loop.metadata is not None:
        expected = curriculum_state(stages, loop.first_step)
        assert loop.metadata["curriculum"] == expected, "the checkpoint is of another curriculum"
    if loop.first_step > steps.start:
        assert loop.metadata is not None, "a step was restored without its metadata"
        collector.restore(loop.metadata)


def _batch_metrics(
    trajectories: Sequence[Trajectory], advantages_PR: np.ndarray, stage: Stage
) -> dict[str, float]:
    return summaries.compute_metrics(trajectories) | {
        "group/zero_advantage_fraction": grpo_step.zero_advantage_fraction(advantages_PR),
        "curriculum/stage": stage.number,
    }


def _save_diverged(run: TrainingRun, step: int, trajectories: Sequence[Trajectory]) -> Path:
    path = run.diverged_dir / f"{run.name}_step_{step}.jsonl.gz"
    serialize.write(path, trajectories)
    return path
