"""A check of our scorers on the released SymBench items: the published golds should score.

A folder contains `<task>.jsonl`, one item per line, or the release's own layout,
`<task>/.../sample_N/question.txt` with `solution.json` in the same folder.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Task
from r1ci_jax.tasks.symbench.symbench_task import SymbenchTask

_QUESTIONS: Final = ("question.txt", "input_prompt_1.txt")
_SOLUTIONS: Final = ("solution.json", "target_answer.txt", "blocksworld_task.txt")
_SHOWN: Final = 5
TOLERATED: Final = 0.01
"""The fraction of golds that may fail in addition to the known defects."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedReport:
    """A report on the released items of one task."""

    task: str
    items: int
    golds: int
    """Number of items that store an answer."""
    num_scored: int
    """Number of golds that our scorer accepts."""
    defects: dict[str, int]
    """Known defects of the released sample, with their counts."""
    failures: tuple[str, ...]
    """Some golds that do not score, with the scorer's reason."""

    @property
    def is_passed(self) -> bool:
        """Return True if all golds score but the known defects and one in a hundred."""
        unexplained = self.golds - self.num_scored - sum(self.defects.values())
        return self.items > 0 and unexplained <= TOLERATED * self.golds


def score_released(folder: pathlib.Path) -> list[ReleasedReport]:
    """Score the golds of every task that has items in the folder.

    Raises:
        UserError: The folder does not exist or is empty.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; name the one that holds <task>.jsonl or <task>/")
    tasks = [registry.get(name) for name in registry.names(suite="symbench")]
    judged = [_score_task(task, list(read_items(folder, task.name))) for task in tasks]
    found = [one for one in judged if one.items]
    if not found:
        raise UserError(f"{folder} holds no items of SymBench; it needs <task>.jsonl or <task>/")
    return found


def read_items(folder: pathlib.Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yield question and solution of each item, as published."""
    lines = folder / f"{name}.jsonl"
    if lines.is_file():
        for number, line in enumerate(_read_text(lines).split("\n"), start=1):
            if not line.strip():
                continue
            row = json_reader.parse(line, f"{lines}, line {number}")
            if not isinstance(row, dict) or not isinstance(row.get("question", ""), str):
                raise UserError(f"line {number} of {lines} is no item; is the file complete?")
            yield row.get("question", ""), row.get("solution", row)
        return
    for place in sorted(folder.glob(f"{name}*/**/sample_*")):
        question = _first(place, _QUESTIONS)
        solution = _first(place, _SOLUTIONS) or next(iter(sorted(place.glob("*.json"))), None)
        text = _read_text(solution) if solution else "null"
        is_json = solution is not None and solution.suffix == ".json"
        parsed = json_reader.parse(text, solution) if is_json else text
        yield _read_text(question) if question else "", parsed


def _read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; is the folder complete?") from error


def _first(folder: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _score_task(task: Task, found: list[tuple[str, Any]]) -> ReleasedReport:
    golds = scored = 0
    failures = []
    for number, (question, solution) in enumerate(found):
        if not isinstance(task, SymbenchTask):
            continue  # Tasks of published items read such a file themselves, with its golds.
        item = task.parse_released(number, question, solution)
        if item.gold is None:
            continue
        golds += 1
        verdict = task.score(item.example, item.gold)
        scored += verdict.correct
        if not verdict.correct:
            failures.append(f"item {number}: {verdict.reason}")
    return ReleasedReport(
        task=task.name,
        items=len(found) if isinstance(task, SymbenchTask) else 0,
        golds=golds,
        num_scored=scored,
        defects=defects(task),
        failures=tuple(failures[:_SHOWN]),
    )


def defects(task: Task) -> dict[str, int]:
    """Return the known defects of the released sample of a task."""
    module = importlib.import_module(type(task).__module__)
    return dict(getattr(module, "RELEASED_DEFECTS", {}))


def remarks(task: Task) -> dict[str, int]:
    """Return the weak released questions whose golds are nevertheless right."""
    module = importlib.import_module(type(task).__module__)
    return dict(getattr(module, "RELEASED_REMARKS", {}))
