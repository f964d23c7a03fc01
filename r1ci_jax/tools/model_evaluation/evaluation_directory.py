"""The directory of an evaluation: eval.json with its exact settings, and its rows.

eval.json           settings, environment, deviations from what the checkpoint asks for
questions.jsonl     the questions with their answers
evaluation.jsonl    one record per agent and question, as in a run directory
results.jsonl       one record per agent and task, as in a run directory
timings.jsonl       seconds of each question: measured, so not part of the records above
trajectories.jsonl  the first trajectory to some questions
tables/*.md
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from r1ci_jax.errors import Resume, UserError
from r1ci_jax.evaluate.results import EVALUATION_FILE
from r1ci_jax.runtime import atomic_files, json_reader, metrics, run_dir
from r1ci_jax.tasks.base import Example
from r1ci_jax.tools.model_evaluation.evaluation_settings import EvaluationSettings

_QUESTIONS_FILE: Final = "questions.jsonl"
_MAX_LISTED: Final = 4
"""Differing settings in one error message."""


@dataclasses.dataclass(frozen=True)
class EvaluationDirectory:
    """Files of one evaluation."""

    path: Path

    @property
    def evaluation_path(self) -> Path:
        """One record per agent and question."""
        return self.path / "evaluation.jsonl"

    @property
    def results_path(self) -> Path:
        """One record per agent and task."""
        return self.path / "results.jsonl"

    @property
    def timings_path(self) -> Path:
        """Seconds by agent and question."""
        return self.path / "timings.jsonl"

    @property
    def trajectories_path(self) -> Path:
        """The first trajectory to some questions."""
        return self.path / "trajectories.jsonl"

    @property
    def tables(self) -> Path:
        """Directory of Markdown tables."""
        return self.path / "tables"

    def read_questions(self) -> list[Example] | None:
        """Read the questions; None if they have not been generated yet."""
        path = self.path / _QUESTIONS_FILE
        if not path.exists():
            return None
        try:
            return [Example(**record) for record in metrics.read(path)]
        except TypeError as error:
            raise UserError(
                f"{path}: a record is no question ({error}); delete {self.path}"
            ) from None

    def remove_if_unused(self) -> None:
        """Delete the settings and the questions if none is answered."""
        answers = self.evaluation_path
        if answers.exists() and answers.stat().st_size:
            return
        logs = (answers, self.timings_path, self.trajectories_path)
        for path in (*logs, self.path / _QUESTIONS_FILE, self.path / EVALUATION_FILE):
            path.unlink(missing_ok=True)

    def write_questions(self, examples: Sequence[Example]) -> None:
        """Write all questions, or none if the write fails."""
        part = self.path / ".questions.jsonl.part"
        part.unlink(missing_ok=True)
        with metrics.JsonlLog(part) as log:
            for example in examples:
                log.append(dataclasses.asdict(example))
        os.replace(part, self.path / _QUESTIONS_FILE)


@contextlib.contextmanager
def open_directory(
    path: Path, settings: EvaluationSettings, deviations: Sequence[str]
) -> Iterator[EvaluationDirectory]:
    """Create the directory, or resume one with the same settings; no other process may use it.

    If it fails before a question is answered, the directory is free for other settings: the command
    may have been wrong. One that was stopped is resumed.

    Raises:
        UserError: It is in use, has other settings, or is no evaluation.
    """
    _require_evaluation(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = run_dir.lock_directory(path)
    try:
        plain = run_dir.to_plain_value(dataclasses.asdict(settings))
        file = path / EVALUATION_FILE
        if file.exists():
            _require_same(path, read_settings(path), plain)
        else:
            described = {
                "settings": plain,
                "deviations": list(deviations),
                "environment": run_dir.describe_environment(),
            }
            atomic_files.write_json(file, described)
        found = EvaluationDirectory(path)
        try:
            yield found
        except Exception as error:
            if not isinstance(error, Resume):
                found.remove_if_unused()
            raise
    finally:
        os.close(lock)


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of an evaluation as plain values."""
    file = path / EVALUATION_FILE
    found = json_reader.load_object(file, f"delete {path}").get("settings")
    if not isinstance(found, dict):
        raise UserError(f"{file} has no settings; delete {path}")
    return found


def _require_evaluation(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: name a directory with --workdir")
    if not path.exists() or (path / EVALUATION_FILE).exists():
        return
    # Hidden files are our own lock and the temporary file that a kill left.
    if any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise UserError(
            f"{path} has files but is no evaluation (no {EVALUATION_FILE}): name another directory "
            "with --workdir"
        )


def _require_same(path: Path, present: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = run_dir.find_differences(present, wanted)
    if not differing:
        return
    named = [f"{k} (there {a!r}, now {b!r})" for k, (a, b) in list(differing.items())[:_MAX_LISTED]]
    if len(differing) > _MAX_LISTED:
        named.append(f"and {len(differing) - _MAX_LISTED} more")
    raise UserError(
        f"{path} holds an evaluation with other settings: {', '.join(named)}; choose another "
        f"--workdir, delete {path}, or use the same settings to resume"
    )
