"""The files that say more of a training step than its metrics: trajectories and diagnostics."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from r1ci_jax.config import GrpoConfig
from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.diagnostics.group_signal import Grades
from r1ci_jax.rollout.diagnostics.step_diagnostics import StepDiagnostics
from r1ci_jax.rollout.diagnostics.token_sums import RowSums
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.text.tokenizer import Tokenizer


class StepLog:
    """Writes trajectories.jsonl and diagnostics.jsonl of one training; a context manager."""

    def __init__(
        self,
        stage: str,
        trajectories_path: Path,
        diagnostics_path: Path,
        *,
        tokenizer: Tokenizer,
        config: GrpoConfig,
        find_grades: Callable[[], Grades],
    ) -> None:
        """Open the files.

        Args:
            stage: Name of the training in the records.
            trajectories_path: Path of trajectories.jsonl.
            diagnostics_path: Path of diagnostics.jsonl; not touched where the settings want none.
            tokenizer: Decodes trajectories.
            config: How much is written.
            find_grades: Returns the questions with their potential, as known at a step.
        """
        self._stage = stage
        self._tokenizer = tokenizer
        self._config = config
        self._find_grades = find_grades
        with contextlib.ExitStack() as stack:
            self._trajectories = stack.enter_context(metrics.JsonlLog(trajectories_path))
            self._diagnostics = None
            if config.diagnostics != "none":
                self._diagnostics = stack.enter_context(metrics.JsonlLog(diagnostics_path))
            self._open = stack.pop_all()

    def truncate_after(self, step: int) -> None:
        """Drop the training's records after `step`: a resumed one writes them again."""
        for log in (self._trajectories, self._diagnostics):
            if log is not None:
                log.truncate_after(self._stage, step)

    def describe(
        self,
        sampled: Sequence[Trajectory],
        trained: Sequence[Trajectory],
        rows: Sequence[RowSums],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Return metrics of a step's batch, and the records of its parts.

        Args:
            sampled: All trajectories of the step.
            trained: Those that it trained on.
            rows: Sums by row of the update on them.
        """
        if self._diagnostics is None:
            return {}, []
        began = time.monotonic()
        grades = self._find_grades()
        diagnostics = StepDiagnostics.of(sampled, trained, rows, self._tokenizer, grades)
        records = list(diagnostics.records(self._config.diagnostics))
        totals = diagnostics.totals()
        return totals | {"time/diagnostics": time.monotonic() - began}, records

    def write(
        self, step: int, trajectories: Sequence[Trajectory], records: Sequence[dict[str, Any]]
    ) -> None:
        """Write some trajectories of a step, and the records of its parts."""
        place = {"stage": self._stage, "step": step}
        for one in summaries.sample_by_reward(trajectories, self._config.logged_trajectories):
            self._trajectories.append(summaries.to_record(one, self._tokenizer, **place))
        if self._diagnostics is not None:
            for record in records:
                self._diagnostics.append({**place, **record})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
