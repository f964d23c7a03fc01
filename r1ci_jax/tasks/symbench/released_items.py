"""A check of our scorers on the released SymBench items: the published golds should score.

A folder contains `<task>.jsonl`, one item per line, or the release's own layout:
`<task>/.../sample_N/question.txt` with `solution.json` in the same folder, or a file for each item.
Of items that store no answer, those of tasks with a search (`SymbenchTask.solve`) are solved by it.
"""

import collections
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedReport:
    """A report on the released items of one task."""

    task: str
    items: int
    golds: int
    """Number of items that store an answer."""
    num_scored: int
    """Number of golds that our scorer accepts."""
    searched: int
    """Number of items without a gold for which our own search looked for an answer."""
    num_solved: int
    """Number of those for which it found one that our scorer accepts."""
    explained: dict[str, int]
    """Wrong golds by the reason why they are wrong, which was checked on each of them."""
    failures: tuple[str, ...]
    """Some golds that do not score and that no rule explains, with the scorer's reason, and some
    items that were not solved."""

    @property
    def is_passed(self) -> bool:
        """Return True if every gold scores or is explained, and every search succeeded."""
        golds_hold = self.num_scored + sum(self.explained.values()) == self.golds
        return self.items > 0 and golds_hold and self.num_solved == self.searched


def score_released(folder: pathlib.Path) -> list[ReleasedReport]:
    """Score the golds of every task that has items in the folder.

    Raises:
        UserError: The folder does not exist or is empty.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; name the one that holds <task>.jsonl or <task>/")
    judged = [_score_task(task, list(read_items(folder, task))) for task in tasks()]
    found = [one for one in judged if one.items]
    if not found:
        raise UserError(f"{folder} holds no items of SymBench; it needs <task>.jsonl or <task>/")
    return found


def tasks() -> list[SymbenchTask]:
    """Return the tasks whose items were released and are generated anew by this project."""
    names = [*registry.names(suite="symbench"), *registry.names(suite="extra")]
    return [task for name in names if isinstance(task := registry.get(name), SymbenchTask)]


def read_items(folder: pathlib.Path, task: SymbenchTask) -> Iterator[tuple[str, Any]]:
    """Yield question and solution of each item, as published."""
    name = task.released_name or task.name
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
    for path in sorted(folder.glob(task.released_files)) if task.released_files else ():
        text = _read_text(path)
        is_json = path.suffix == ".json"
        yield "", last_entry(json_reader.parse(text, path)) if is_json else text


def last_entry(parsed: Any) -> Any:
    """Return the last of a file's samples.

    The files of BoxNet1_v2 are cumulative: number i holds the samples of all numbers up to i. The
    release asks the first one of each, so all files of one size ask the same question; the last
    one of each is a question of its own.
    """
    return parsed[-1] if isinstance(parsed, list) and parsed else parsed


def _read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; is the folder complete?") from error


def _first(folder: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _score_task(task: SymbenchTask, found: list[tuple[str, Any]]) -> ReleasedReport:
    golds = scored = searched = solved = 0
    failures: list[str] = []
    explained: collections.Counter[str] = collections.Counter()
    has_search = type(task).solve is not SymbenchTask.solve
    for number, (question, solution) in enumerate(found):
        item = task.parse_released(number, question, solution)
        if item.gold is None and has_search:
            searched += 1
            answer = task.solve(item.example)
            found_one = answer is not None and task.score(item.example, answer).correct
            solved += found_one
            failures += [] if found_one else [f"item {number}: our search found no answer"]
        if item.gold is None:
            continue
        golds += 1
        verdict = task.score(item.example, item.gold)
        scored += verdict.correct
        if verdict.correct:
            continue
        if (reason := task.explain_gold(item)) is not None:
            explained[reason] += 1
        else:
            failures.append(f"item {number}: {verdict.reason}")
    return ReleasedReport(
        task=task.name,
        items=len(found),
        golds=golds,
        num_scored=scored,
        searched=searched,
        num_solved=solved,
        explained=dict(explained),
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
