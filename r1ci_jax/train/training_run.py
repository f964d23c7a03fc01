"""The frame of a training's steps: files, resume, metrics, guards, checkpoints, preemption.

Both trainers use it in the same way; the steps themselves are their own:

    with run.start(params, tx, config, num_steps, identity={...}) as loop:
        train_state = loop.train_state
        for step in range(loop.first_step, num_steps):
            train_state, metrics = ...
            loop.record(step + 1, metrics, ...)
            if loop.must_save(step + 1):
                loop.save(step + 1, train_state, {...}, metric=loss)
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
from etils import epath

from r1ci_jax.config import GrpoConfig, SftConfig
from r1ci_jax.runtime import metrics, preemption
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sharding import placement
from r1ci_jax.train import checkpoint, guards
from r1ci_jax.train import train_state as state
from r1ci_jax.train.train_state import PyTree, TrainState


class StateAndReference(NamedTuple):
    """What a checkpoint holds of a training whose reference changes."""

    state: TrainState
    reference: PyTree


class TrainedStates(NamedTuple):
    """Everything that a checkpoint may hold."""

    state: TrainState
    reference: PyTree | None = None
    """None: the reference does not change."""
    critic: TrainState | None = None
    """None: the training has no critic."""

    def to_tree(self) -> PyTree:
        """Return what a checkpoint holds: the state alone, if there is nothing else."""
        if self.critic is not None:
            return {name: each for name, each in self._asdict().items() if each is not None}
        if self.reference is not None:
            return StateAndReference(self.state, self.reference)
        return self.state

    @classmethod
    def from_tree(cls, tree: PyTree) -> "TrainedStates":
        """Undo `to_tree`."""
        match tree:
            case dict():
                return cls(**tree)
            case StateAndReference():
                return cls(*tree)
            case _:
                return cls(tree)


class InitialCritic(NamedTuple):
    """A critic before the first step; its parameters are used up."""

    params: PyTree
    tx: optax.GradientTransformation


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training by name: its seed and its files."""

    name: str
    """Name in metrics, trajectories and messages."""
    seed: int
    checkpoints_dir: epath.PathLike
    metrics_path: Path
    trajectories_path: Path
    diagnostics_path: Path
    rollouts_dir: Path
    """Directory of the batches that `grpo.dump_rollouts` writes."""
    diverged_dir: Path
    """Directory of batches whose loss or gradient is not finite."""
    sync: Callable[[], None] = lambda: None
    """Copies the other files to where they must be before a checkpoint counts."""
    sinks: Sequence[metrics.Follower] = ()
    """Other places that get the metrics."""

    @classmethod
    def in_directory(
        cls, directory: RunDir, name: str, *, seed: int, sinks: Sequence[metrics.Follower] = ()
    ) -> Self:
        """Make the training `name` of a run directory."""
        return cls(
            name=name,
            seed=seed,
            checkpoints_dir=directory.checkpoints / name,
            metrics_path=directory.metrics_path,
            trajectories_path=directory.trajectories_path,
            diagnostics_path=directory.diagnostics_path,
            rollouts_dir=directory.rollouts / name,
            diverged_dir=directory.diverged,
            sync=directory.sync,
            sinks=sinks,
        )

    @contextlib.contextmanager
    def start(
        self,
        params: PyTree,
        tx: optax.GradientTransformation,
        config: SftConfig | GrpoConfig,
        num_steps: int,
        *,
        identity: Mapping[str, Any],
        better: Literal["lower", "higher"] = "lower",
        keeps_reference: bool = False,
        critic: InitialCritic | None = None,
    ) -> Iterator["TrainingLoop"]:
        """Open the files and restore the newest checkpoint, if there is one.

        Args:
            params: Trainable parameters before the first step; they are used up.
            tx: Optimizer.
            config: Settings of the trainer, of which the checkpoints' are used.
            num_steps: Steps of the whole training.
            identity: JSON values that tell this training from others; a checkpoint with other
                values is refused.
            better: Direction in which the metric of a checkpoint improves.
            keeps_reference: True: the training has a reference of its own, which is `params` at
                first, and checkpoints hold it.
            critic: A second model that is trained, which checkpoints hold too.
        """
        with (
            checkpoint.CheckpointManager(
                self.checkpoints_dir,
                config.checkpoint_keep,
                keep_best=config.checkpoint_keep_best,
                better=better,
                training={"seed": self.seed, **identity},
                before_commit=self.sync,
            ) as checkpoints,
            metrics.MetricsWriter(self.metrics_path, self.sinks) as writer,
        ):
            first_step, tree, metadata = _restore_or_create(
                checkpoints, params, tx, critic, keeps_reference=keeps_reference
            )
            writer.truncate_after(self.name, first_step)
            spikes = guards.LossSpikeDetector()
            spikes.resume(metrics.column(self.metrics_path, self.name, "optim/loss"))
            with Progress(self.name, num_steps, start=first_step) as progress:
                yield TrainingLoop(
                    name=self.name,
                    num_steps=num_steps,
                    first_step=first_step,
                    train_state=tree.state,
                    reference=tree.reference,
                    critic=tree.critic,
                    metadata=metadata,
                    progress=progress,
                    _checkpoint_every=config.checkpoint_every,
                    _checkpoints=checkpoints,
                    _writer=writer,
                    _spikes=spikes,
                )


def _restore_or_create(
    checkpoints: checkpoint.CheckpointManager,
    params: PyTree,
    tx: optax.GradientTransformation,
    critic: InitialCritic | None,
    *,
    keeps_reference: bool,
) -> tuple[int, TrainedStates, checkpoint.Metadata | None]:
    """Return the steps that are done, the states after them, and the metadata if there are any."""
    shapes = state.abstract_state(params, tx)
    wanted = TrainedStates(
        shapes,
        shapes.params if keeps_reference else None,
        state.abstract_state(*critic) if critic is not None else None,
    )
    restored = checkpoints.restore_latest(wanted.to_tree())
    if restored is not None:
        # Callers hold them, and no step needs them any more.
        placement.delete((params, critic.params if critic is not None else None))
        return restored.step, TrainedStates.from_tree(restored.tree), restored.metadata
    train_state = state.create_state(params, tx)
    # A copy: the training state is donated to every step.
    reference = jax.tree.map(jnp.copy, train_state.params) if keeps_reference else None
    begun = state.create_state(*critic) if critic is not None else None
    return 0, TrainedStates(train_state, reference, begun), None


@dataclasses.dataclass(kw_only=True)
class TrainingLoop:
    """A training in progress."""

    name: str
    num_steps: int
    first_step: int
    """Number of steps that are done already."""
    train_state: TrainState
    """State after `first_step` steps."""
    reference: PyTree | None
    """Weights of the reference that checkpoints hold beside the state; None: they hold none."""
    critic: TrainState | None
    """State of the critic after the last step that was trained; None without one."""
    metadata: checkpoint.Metadata | None
    """Metadata of the checkpoint that the training resumes from; None when it starts."""
    progress: Progress
    _checkpoint_every: int
    _checkpoints: checkpoint.CheckpointManager
    _writer: metrics.MetricsWriter
    _spikes: guards.LossSpikeDetector
    _is_preempted: bool = False

    def record(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        save_batch: Callable[[], Path],
        advice: str,
        shown: Mapping[str, str],
    ) -> None:
        """Check the metrics of a step, then write them; a step that changed nothing has no loss.

        Args:
            step: Number of steps done, this one included.
            values: Metrics of the step.
            save_batch: Writes the step's batch to a file and returns its path.
            advice: What to try when the step diverged.
            shown: Metrics to show on the terminal, {label: metric}.

        Raises:
            UserError: a loss or gradient is not finite; the step is not written.
        """
        checked = ("optim/", "critic/", "check/")
        learned = {name: x for name, x in values.items() if name.startswith(checked)}
        guards.require_finite(learned, step=step, save=save_batch, advice=advice)
        guards.report_logprob_mismatch(self.name, step, values)
        if "optim/loss" in values:
            deviation = self._spikes.report(self.name, step, values["optim/loss"])
            values = {**values, "check/loss_deviation": deviation}
        self._writer.write(self.name, step, values)
        known = {label: metric for label, metric in shown.items() if metric in values}
        self.progress.update(step, {label: values[metric] for label, metric in known.items()})

    def must_save(self, step: int) -> bool:
        """Return True if a checkpoint is due after this step, or the run is preempted.

        Every host calls it at the same step.
        """
        self._is_preempted = preemption.is_requested()
        is_due = step % self._checkpoint_every == 0 or step == self.num_steps
        return is_due or self._is_preempted

    def save(
        self,
        step: int,
        train_state: TrainState,
        metadata: checkpoint.Metadata,
        *,
        metric: float | None,
    ) -> None:
        """Save the state after a step in the background.

        Raises:
            Resume: the run is preempted; it resumes from this step.
        """
        self._checkpoints.save(step, self._tree(train_state), metadata, metric=metric)
        if self._is_preempted:
            raise preemption.preempted_error(after=f"{self.name} step {step}")

    def save_on_preemption(
        self,
        step: int,
        train_state: TrainState,
        metadata: checkpoint.Metadata,
        metric: float | None,
    ) -> contextlib.AbstractContextManager[None]:
        """Guard work that a preemption abandons: the `step` steps before it are saved first."""
        tree = self._tree(train_state)
        return self._checkpoints.save_on_preemption(self.name, step, tree, metadata, metric)

    def _tree(self, train_state: TrainState) -> PyTree:
        return TrainedStates(train_state, self.reference, self.critic).to_tree()
