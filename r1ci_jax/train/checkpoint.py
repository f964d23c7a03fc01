"""Checkpoints that survive a kill at any moment.

Each step is a directory of its own (see checkpoint_dir.py), named by its number:

    runs/toy/checkpoints/sft/
        120/    step.json  _CHECKPOINT_METADATA  state/...
        130/    step.json  _CHECKPOINT_METADATA  state/...

Orbax writes and reads the arrays. Its `training.Checkpointer`, which would also choose which steps
to keep, takes every directory with a step's name as a step: an interrupted deletion, a truncated
file, a flipped byte. It then fails on the newest, or trains on what it read. Here a step is checked
byte by byte before a training resumes from it, and a damaged one is replaced by the one before.
"""

import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, Self

import jax
from etils import epath

from r1ci_jax.errors import Resume, UserError
from r1ci_jax.rollout.sandbox_faults import SandboxFaults
from r1ci_jax.runtime import hosts, preemption
from r1ci_jax.train import checkpoint_dir
from r1ci_jax.train.checkpoint_dir import UnusableCheckpointError, abstract

__all__ = ["CheckpointManager", "Restored", "abstract", "load_params", "save_params"]

PyTree = Any
Metadata = dict[str, Any]
"""JSON values only: data-iterator state, curriculum state, partial rollouts."""

_NO_STEP: Final = -1
_NONE_USABLE: Final = -2
_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A step to resume from."""

    step: int
    tree: PyTree
    metadata: Metadata


class CheckpointManager:
    """Keeps the last `keep` steps of one training stage, and the `keep_best` best ones.

    Saving runs in the background: `save` returns once the arrays are copied, and their buffers may
    be donated at once. An error of a running save is raised by the next `save`, `wait` or `close`.

        with CheckpointManager(run / "checkpoints", training={"seed": 0}) as checkpoints:
            found = checkpoints.restore_latest(abstract(state))
            ...
            checkpoints.save(step, state, {"data": iterator.get_state()}, metric=loss)
    """

    def __init__(
        self,
        directory: epath.PathLike,
        keep: int = 2,
        *,
        keep_best: int = 0,
        better: Literal["lower", "higher"] = "lower",
        training: Metadata | None = None,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Remember the settings; nothing is read or written yet.

        `training` tells this training from others (its seed): a step of another is refused.
        `before_commit` runs before a step counts as complete, so that the files that a resumed run
        expects next to it (its metrics, in a bucket) exist.
        """
        assert keep >= 1, "a run without any checkpoint cannot resume"
        self._directory = checkpoint_dir.resolve_path(directory)
        self._keep = keep
        self._keep_best = keep_best
        self._better = better
        self._training = training or {}
        self._before_commit = before_commit
        self._newest: int | None = None
        """The step that was saved or found last; later ones are to be written again."""
        self._unreadable: set[int] = set()
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Return complete steps, ascending."""
        return [step for step in self._candidates() if checkpoint_dir.is_complete(self._path(step))]

    def latest(self) -> int | None:
        """Return the newest usable step, the same in every process; None if none was ever finished.

        Newer ones that are half-written or damaged are named in a warning, with the reason.

        Raises:
            UserError: there were steps, and none can be used.
        """
        self.wait()
        found = self._newest_usable() if hosts.is_first() else 0
        found = hosts.broadcast(f"newest step of {self._directory.name}", found)
        if found == _NONE_USABLE:
            raise UserError(
                f"no checkpoint in {self._directory} can be used (the warnings say why): put back "
                "a copy of one, or delete that directory to train from the start"
            )
        self._newest = found
        return None if found == _NO_STEP else found

    def restore_latest(self, abstract_tree: PyTree) -> Restored | None:
        """Read the newest readable step, in the shardings and dtypes of `abstract_tree`.

        Returns None if no step was ever finished.

        Raises:
            UserError: steps exist and none can be used, or the newest usable one is of another
                model or another training.
        """
        while (step := self.latest()) is not None:
            try:
                return Restored(step, *self._read(step, abstract_tree))
            except UnusableCheckpointError as reason:
                if jax.process_count() > 1:  # the others may have read it
                    raise self._unusable_error(step, reason) from reason
                self._skip(step, reason)
                self._unreadable.add(step)
        return None

    def restore(self, step: int, abstract_tree: PyTree) -> tuple[PyTree, Metadata]:
        """Read one step, in the shardings and dtypes of `abstract_tree`, and its metadata."""
        self.wait()
        try:
            return self._read(step, abstract_tree)
        except UnusableCheckpointError as reason:
            raise self._unusable_error(step, reason) from reason

    def save(
        self, step: int, tree: PyTree, metadata: Metadata, *, metric: float | None = None
    ) -> None:
        """Save in the background. A step that exists already is left as it is.

        `metric` decides which steps are the best; one without is never among them.
        """
        self.wait()
        if self._newest is None:
            self.latest()
        assert self._newest is not None
        if step <= self._newest:
            return
        self._remove_leftovers()
        facts = {"metadata": metadata, "training": self._training, "metric": metric}
        write = checkpoint_dir.start_write(self._path(step), tree, facts)
        self._running = self._worker.submit(self._finish, write, step)
        self._newest = step

    @contextlib.contextmanager
    def save_on_preemption(
        self, name: str, step: int, tree: PyTree, metadata: Metadata, metric: float | None
    ) -> Iterator[None]:
        """Guard work that a preemption or a sandbox that fails abandons.

        The `step` steps before it are saved first.
        """

        def save() -> None:
            if step > 0:
                self.save(step, tree, metadata, metric=metric)
                self.wait()

        try:
            yield
        except SandboxFaults:  # on every host: all have the same results
            save()
            raise
        except Resume:
            save()
            raise preemption.preempted_error(after=f"{name} step {step}") from None

    def wait(self) -> None:
        """Wait for a running save; raise its error."""
        running, self._running = self._running, None
        if running is not None:
            try:
                running.result()
            except BaseException:
                self._newest = None  # look again
                raise

    def close(self) -> None:
        """Wait for a running save and end the background thread."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()

    def _path(self, step: int) -> epath.Path:
        return self._directory / str(step)

    def _candidates(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdigit())

    def _newest_usable(self) -> int:
        was_finished = False
        for step in reversed(self._candidates()):
            path = self._path(step)
            was_finished |= checkpoint_dir.has_marker(path)
            if step in self._unreadable:
                continue
            try:
                checkpoint_dir.verify(path)
            except UnusableCheckpointError as reason:
                self._skip(step, reason)
            else:
                return step
        return _NONE_USABLE if was_finished else _NO_STEP

    def _skip(self, step: int, reason: UnusableCheckpointError) -> None:
        _log.warning("checkpoint %s is skipped: %s", self._path(step), reason)

    def _unusable_error(self, step: int, reason: UnusableCheckpointError) -> UserError:
        return UserError(
            f"checkpoint {self._path(step)} cannot be used: {reason}; delete it to resume from the "
            "one before, or run the stage again"
        )

    def _read(self, step: int, abstract_tree: PyTree) -> tuple[PyTree, Metadata]:
        path = self._path(step)
        marker = checkpoint_dir.marker(path)
        saved = marker.get("training", {})
        for name, value in self._training.items():
            if saved.get(name) != value:
                raise UserError(
                    f"checkpoint {path} is of another training: {name} is {saved.get(name)} there, "
                    f"{value} in this run; use another workdir"
                )
        return checkpoint_dir.read(path, abstract_tree), marker["metadata"]

    def _finish(self, write: checkpoint_dir.Write, step: int) -> None:
        self._before_commit()
        checkpoint_dir.finish_write(write)
        if hosts.is_first():
            for old in self._steps_to_delete():
                checkpoint_dir.delete(self._path(old))

    def _steps_to_delete(self) -> list[int]:
        """Return steps that are neither among the last nor among the best."""
        steps = self.steps()
        metrics = {step: checkpoint_dir.marker(self._path(step)).get("metric") for step in steps}
        sign = 1 if self._better == "lower" else -1
        ranked = sorted(
            (sign * metric, -step) for step, metric in metrics.items() if metric is not None
        )
        best = {-step for _, step in ranked[: self._keep_best]}
        return [step for step in steps[: -self._keep] if step not in best]

    def _remove_leftovers(self) -> None:
        """Delete what a killed process left, and steps after the one that was resumed from.

        Only a process that saves does so: others may merely read.
        """
        if not hosts.is_first() or not self._directory.is_dir():
            return
        assert self._newest is not None, "nothing is deleted before it was read"
        for path in self._directory.iterdir():
            step = int(path.name) if path.name.isdigit() else None
            is_half = step is not None and not checkpoint_dir.is_complete(path)
            is_beyond = step is not None and step > self._newest
            if is_half or is_beyond or checkpoint_dir.is_from_failed_write(path):
                checkpoint_dir.delete(path)


def save_params(
    directory: epath.PathLike, params: PyTree, metadata: Metadata | None = None
) -> None:
    """Write the final weights of a stage, replacing any older ones.

    When it returns, every host can read them.
    """
    path = checkpoint_dir.resolve_path(directory)
    if hosts.is_first():
        checkpoint_dir.clear(path)
    checkpoint_dir.finish_write(
        checkpoint_dir.start_write(path, params, {"metadata": metadata or {}})
    )
    hosts.gather("the final weights", None)


def load_params(directory: epath.PathLike, abstract_params: PyTree) -> tuple[PyTree, Metadata]:
    """Read weights written by `save_params`, in the shardings and dtypes of `abstract_params`."""
    path = checkpoint_dir.resolve_path(directory)
    try:
        checkpoint_dir.verify(path)
        return checkpoint_dir.read(path, abstract_params), checkpoint_dir.marker(path)["metadata"]
    except UnusableCheckpointError as reason:
        raise UserError(
            f"the weights at {path} cannot be used: {reason}; run the stage that writes them again"
        ) from reason
