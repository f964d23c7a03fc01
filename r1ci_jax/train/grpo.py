"""Group-relative policy optimization over the stages of a curriculum (paper section 5).

Each step samples R trajectories for each of P prompts with the interpreter in the loop, compares
the R rewards of a prompt with each other, and moves the policy towards the better trajectories.
Only tokens that the policy chose carry loss. The reference of the KL term is the model that the
training started from, or with `grpo.stages.reset_reference` that with which the stage began.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.online import OnlineGroups
from r1ci_jax.curriculum.schedule import StageSchedule, StageSpan
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data import batching
from r1ci_jax.rollout import serialize, summaries
from r1ci_jax.rollout.diagnostics.group_signal import Grades
from r1ci_jax.rollout.diagnostics.step_log import StepLog
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.rollout.trajectory_source import MakeWeights, TrajectorySource
from r1ci_jax.sharding import placement
from r1ci_jax.tasks.base import Example
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import grpo_step, guards, microbatching, optimizer
from r1ci_jax.train import train_state as state
from r1ci_jax.train.critic import critic_baseline
from r1ci_jax.train.critic.critic_baseline import CriticBaseline
from r1ci_jax.train.microbatching import Microbatch
from r1ci_jax.train.objective import kl_reward
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.rollout_collector import RolloutCollector
from r1ci_jax.train.train_state import TrainState
from r1ci_jax.train.training_run import InitialCritic, TrainingLoop, TrainingRun

_SHOWN = {name: name for name in ("reward/mean", "accuracy", "tool/calls_per_traj")}


def train(
    policy: Policy,
    params: Params,
    tokenizer: Tokenizer,
    stages: Sequence[Stage],
    load_examples: Callable[[str], batching.RandomAccess[Example]],
    source: TrajectorySource,
    config: GrpoConfig,
    run: TrainingRun,
    *,
    online: OnlineGroups | None = None,
    grades: Grades | None = None,
) -> Params:
    """Train through all stages, from the last checkpoint if there is one; return all parameters.

    `params` are used up; `load_examples` returns the examples of a split. With `online` the groups
    are measured again as the policy changes. `grades`, the potentials, serve diagnostics alone.
    """
    # --- Weights, optimizer, state ---
    initial = policy.split_trainable(params, seed=run.seed)
    (trainable, base), reference = initial, _make_reference(initial, config)
    critic = critic_baseline.make_critic(policy, initial, config)
    schedule = StageSchedule(stages, load_examples, config, online)
    optimizers = _make_optimizers(config, stages, schedule.num_steps)
    advice = "lower grpo.lr" + (" or grpo.critic.lr" if config.has_critic else "")

    with (
        _start(run, trainable, critic, optimizers, config, stages) as loop,
        _open_step_log(run, tokenizer, config, grades, online) as step_log,
    ):
        train_state, reward = loop.train_state, None
        reference = reference if loop.reference is None else Weights(loop.reference, base)
        step_log.truncate_after(loop.first_step)
        schedule.restore(loop.first_step, loop.metadata)
        baseline = _make_baseline(loop, critic, base, policy, config, tokenizer.pad_id)
        if loop.first_step < schedule.num_steps:
            _warm_up(loop, source, base, reference, policy, baseline)
        for span in schedule.spans(loop.first_step):
            # --- Begin a stage, or a span of one ---
            if span.changes_stage:
                train_state, reference = _reset(loop, train_state, base, reference, config)
            measured = _measure_again(span, schedule, loop, source, policy, train_state, base)
            collector = _make_collector(span, schedule, source, config, loop, run.seed)
            tx, learning_rates = optimizers[span.stage.number]
            for step in span.steps_after(loop.first_step):
                # --- Sample ---
                to_sampler = _make_to_sampler(policy, train_state, base)
                metadata = schedule.state(step) | collector.state()
                with (
                    loop.save_on_preemption(step, train_state, metadata, reward),
                    source.weights_loaded(to_sampler),  # no longer: the update needs the memory
                    loop.progress.activity(f"sampling {config.num_rollouts}"),
                ):
                    sampled, trajectories, values = collector.collect(step)
                _dump_rollouts(run, step + 1, sampled, config)

                # --- Update ---
                began = time.monotonic()
                with loop.progress.activity("updating"), guards.no_implicit_transfers():
                    minibatches, compared = baseline.compare(step, trajectories, reference)
                    train_state, learned, rows = grpo_step.update(
                        train_state, base, reference, minibatches, policy, config, tx
                    )
                values |= learned | compared | {"time/update": time.monotonic() - began}

                # --- Check, log and save ---
                values |= _batch_metrics(sampled, span.stage)
                totals, records = step_log.describe(sampled, trajectories, rows)
                values |= totals | {"optim/lr": float(learning_rates[step])}
                values |= measured if step == span.start else {}
                save_batch = functools.partial(_save_diverged, run, step + 1, trajectories)
                loop.record(step + 1, values, save_batch=save_batch, advice=advice, shown=_SHOWN)
                step_log.write(step + 1, sampled, records)
                reward = values.get("reward/mean", reward)
                schedule.record(step + 1, values.get("accuracy", 1.0))  # the stage may end here
                collector.end_at(span.stop)
                if loop.must_save(step + 1):
                    metadata = schedule.state(step + 1) | collector.state()
                    loop.save(step + 1, train_state, metadata, metric=reward)
    return policy.merge_weights(Weights(train_state.params, base))


def _dump_rollouts(
    run: TrainingRun, step: int, sampled: Sequence[Trajectory], config: GrpoConfig
) -> None:
    if config.dump_rollouts:
        serialize.write(serialize.step_path(run.rollouts_dir, step), sampled)


def _open_step_log(
    run: TrainingRun,
    tokenizer: Tokenizer,
    config: GrpoConfig,
    grades: Grades | None,
    online: OnlineGroups | None,
) -> StepLog:
    """Open the files; where groups are measured again, a step has the grades of its own time."""
    return StepLog(
        run.name,
        run.trajectories_path,
        run.diagnostics_path,
        tokenizer=tokenizer,
        config=config,
        find_grades=(lambda: grades or {}) if online is None else online.grades,
    )


def _keeps_reference(config: GrpoConfig) -> bool:
    """Return True if the reference changes, so that checkpoints must hold it."""
    return config.stages.reset_reference and config.kl_coef > 0


def _make_reference(initial: Weights, config: GrpoConfig) -> Weights | None:
    """Keep the weights of the KL term's reference, where they are the same in all stages.

    Without a KL term there are none to keep.
    """
    if not config.kl_coef or _keeps_reference(config):
        return None
    if initial.base is not None:
        return Weights(initial.base)  # adapters start as nothing, and no step changes the base
    # A copy: the training state is donated to every step.
    return Weights(jax.tree.map(jnp.copy, initial.trainable))


class _StageOptimizer(NamedTuple):
    tx: optax.GradientTransformation
    learning_rates: np.ndarray
    """Learning rate at the first update of each step of the training, were it all this stage."""


def _make_optimizers(
    config: GrpoConfig, stages: Sequence[Stage], num_steps: int
) -> dict[int, _StageOptimizer]:
    """Build the optimizer of each stage, by its number; their states have the same form.

    The learning rate is the only difference, and the warm-up counts updates over all stages.
    """
    num_updates = config.num_minibatches * config.num_iterations

    @functools.cache
    def make(lr: float) -> _StageOptimizer:
        schedule = optimizer.constant_schedule(lr, warmup_steps=config.warmup_steps)
        rates = optimizer.tabulate(schedule, num_steps * num_updates)[::num_updates]
        if lead := config.critic.lead_steps:  # the policy has no rate while it waits
            rates = np.concatenate([np.zeros(lead, rates.dtype), rates])[:num_steps]
        return _StageOptimizer(
            optimizer.make_optimizer(schedule, clip_norm=config.clip_norm), rates
        )

    rates = config.stages.lr
    return {stage.number: make(rates[stage.number - 1] if rates else config.lr) for stage in stages}


def _start(
    run: TrainingRun,
    trainable: Params,
    critic: InitialCritic | None,
    optimizers: Mapping[int, _StageOptimizer],
    config: GrpoConfig,
    stages: Sequence[Stage],
) -> contextlib.AbstractContextManager[TrainingLoop]:
    """Open the training's files, or resume it."""
    return run.start(
        trainable,
        optimizers[stages[0].number].tx,
        config,
        sum(stage.steps for stage in stages),
        identity={"stages": [dataclasses.asdict(stage) for stage in stages]},
        better="higher",
        keeps_reference=_keeps_reference(config),
        critic=critic,
    )


def _warm_up(
    loop: TrainingLoop,
    source: TrajectorySource,
    base: Params | None,
    reference: Weights | None,
    policy: Policy,
    baseline: "GroupBaseline | CriticBaseline",
) -> None:
    """Compile the sampler and the update before the first step."""
    weights = Weights(loop.train_state.params, base)
    to_sampler = _make_to_sampler(policy, loop.train_state, base)
    with source.weights_loaded(to_sampler), loop.progress.compiling("sampler", about=15):
        source.warm_up()
    # The guard is a part of what is compiled: without it here, the first step compiles it again.
    with loop.progress.compiling("update", about=20), guards.no_implicit_transfers():
        baseline.warm_up(weights, reference)


def _make_to_sampler(policy: Policy, train_state: TrainState, base: Params | None) -> MakeWeights:
    return functools.partial(policy.to_sampler_weights, Weights(train_state.params, base))


def _reset(
    loop: TrainingLoop,
    train_state: TrainState,
    base: Params | None,
    reference: Weights | None,
    config: GrpoConfig,
) -> tuple[TrainState, Weights | None]:
    """Reset what `grpo.stages` says at a stage's start. A second time changes nothing.

    So a checkpoint of a border may be of either side of it.
    """
    if config.stages.reset_optimizer:
        train_state = state.reset_moments(train_state)
        loop.critic = None if loop.critic is None else state.reset_moments(loop.critic)
    if loop.reference is not None:
        placement.delete(loop.reference)  # first: there is no room for another copy
        loop.reference = jax.tree.map(jnp.copy, train_state.params)
        reference = Weights(loop.reference, base)
    return train_state, reference


def _measure_again(
    span: StageSpan,
    schedule: StageSchedule,
    loop: TrainingLoop,
    source: TrajectorySource,
    policy: Policy,
    train_state: TrainState,
    base: Params | None,
) -> dict[str, float]:
    """Measure the groups with the current weights where that is due; return metrics."""
    if schedule.online is None or not schedule.is_measured_again(span):
        return {}
    to_sampler, metadata = _make_to_sampler(policy, train_state, base), schedule.state(span.start)
    with (
        loop.save_on_preemption(span.start, train_state, metadata, None),
        source.weights_loaded(to_sampler),
        loop.progress.activity("measuring potential"),
    ):
        return schedule.online.measure(span.start)


def _make_collector(
    span: StageSpan,
    schedule: StageSchedule,
    source: TrajectorySource,
    config: GrpoConfig,
    loop: TrainingLoop,
    seed: int,
) -> RolloutCollector:
    """Collect for a span of the training; in its middle the same prompts and rollouts come next."""
    stage, found = span.stage, schedule.questions(span)
    # Every span has an order of its own; a stage's first does not depend on the spans there are.
    seed += stage.number + (0 if span.is_stage_start else 1000 * span.start)
    collector = RolloutCollector(
        source,
        found.examples,
        config,
        steps=span.steps,
        seed=seed,
        earlier=found.earlier,
        earlier_share=found.earlier_share,
        pass_rates=schedule.pass_rates,
        budget=schedule.budget,
    )
    if span.is_resumed:
        assert loop.metadata is not None, "a step was restored without its metadata"
        collector.restore(loop.metadata)
    loop.progress.note(f"stage {stage.number}: {stage.steps} steps on {stage.split}")
    return collector


@dataclasses.dataclass(frozen=True)
class GroupBaseline:
    """Compares rewards within their group."""

    policy: Policy
    config: GrpoConfig
    pad_id: int

    def warm_up(self, weights: Weights, reference: Weights | None) -> None:
        """Compile the update for every row length, on rows of padding."""
        empty = microbatching.empty_microbatches(self.config, self.pad_id)
        grpo_step.warm_up(weights, reference, self.policy, self.config, empty)
        kl_reward.warm_up(reference, self.policy, self.config, self.pad_id)

    def compare(
        self, step: int, trajectories: Sequence[Trajectory], reference: Weights | None
    ) -> tuple[list[list[Microbatch]], dict[str, float]]:
        """Return minibatches with the advantage of each trajectory, and metrics."""
        del step  # all steps compare alike
        config = self.config
        kl = kl_reward.compute_kl(trajectories, reference, self.policy, config, self.pad_id)
        advantages_PR = grpo_step.compute_advantages(trajectories, config, kl)
        values = kl_reward.kl_metrics(trajectories, kl)
        if len(advantages_PR):
            share = grpo_step.zero_advantage_fraction(advantages_PR)
            values["group/zero_advantage_fraction"] = share
        return microbatching.make_minibatches(
            trajectories, advantages_PR, config, self.pad_id
        ), values


def _make_baseline(
    loop: TrainingLoop,
    critic: InitialCritic | None,
    base: Params | None,
    policy: Policy,
    config: GrpoConfig,
    pad_id: int,
) -> GroupBaseline | CriticBaseline:
    if critic is None:
        return GroupBaseline(policy, config, pad_id)
    return CriticBaseline(loop, critic.tx, base, policy, config, pad_id)


def _batch_metrics(sampled: Sequence[Trajectory], stage: Stage) -> dict[str, float]:
    """Describe what a step sampled, where it sampled something."""
    values: dict[str, float] = {"curriculum/stage": stage.number}
    return values | (summaries.compute_metrics(sampled) if sampled else {})


def _save_diverged(run: TrainingRun, step: int, trajectories: Sequence[Trajectory]) -> Path:
    path = run.diverged_dir / f"{run.name}_step_{step}.jsonl.gz"
    serialize.write(path, trajectories)
    return path
