"""Statistics of a dataset: counts, lengths, answers, duplicates, score of a constant answer."""

import collections
import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from r1ci_jax.data import question_splits
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.tasks import answers, registry
from r1ci_jax.tasks.base import Example

COMMONEST: Final = 5
"""Answers listed of each task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of a task's questions."""

    mean: float
    p95: int
    """At least 95 of 100 questions are no longer."""
    max: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskStats:
    """One task."""

    task: str
    suite: str
    split: str
    """train | test: whether the task's questions are ever trained on."""
    counts: dict[str, int]
    """Questions by split."""
    is_short: dict[str, int]
    """By split, how many questions were asked, where the source had fewer."""
    difficulties: dict[int, int]
    """Questions by difficulty."""
    question_chars: Lengths
    question_tokens: Lengths | None
    """None: there is no tokenizer."""
    answers: int
    """Different golds."""
    most_common: dict[str, int]
    """The commonest golds, long ones shortened, with how often they occur."""
    majority_fraction: float
    """Share of the commonest gold: what naming one constant would score."""
    duplicates: int
    """Questions that occur again within the task, splits together."""


def task_stats(
    task_name: str,
    splits: Mapping[str, Sequence[Example]],
    *,
    requested: Mapping[str, int],
    tokens: Callable[[str], int] | None = None,
) -> TaskStats:
    """Statistics of one task.

    Args:
        task_name: The task.
        splits: Its questions.
        asked: How many questions were asked of each split.
        tokens: Counts the tokens of a text.
    """
    examples = [example for rows in splits.values() for example in rows]
    assert examples, f"{task_name} has no questions"
    task = registry.get(task_name)
    golds = collections.Counter(gold for e in examples if (gold := task.gold(e)) is not None)
    texts = [example.question for example in examples]
    return TaskStats(
        task=task_name,
        suite=task.suite,
        split=task.split,
        counts={split: len(rows) for split, rows in splits.items()},
        is_short={split: n for split, n in requested.items() if n > len(splits.get(split, ()))},
        difficulties=dict(sorted(collections.Counter(e.difficulty for e in examples).items())),
        question_chars=_lengths([len(text) for text in texts]),
        question_tokens=_lengths([tokens(text) for text in texts]) if tokens else None,
        answers=len(golds),
        most_common={answers.format_answer(gold): n for gold, n in golds.most_common(COMMONEST)},
        majority_fraction=round(max(golds.values(), default=0) / len(examples), 4),
        duplicates=len(examples) - len({question_splits.question_key(text) for text in texts}),
    )


class Owners:
    """In which splits each question stands, over all tasks."""

    def __init__(self) -> None:
        self._splits: dict[bytes, set[str]] = collections.defaultdict(set)

    def add(self, splits: Mapping[str, Iterable[Example]]) -> None:
        """Take a task's questions in."""
        for split, examples in splits.items():
            for example in examples:
                self._splits[question_splits.question_key(example.question)].add(split)

    def shared(self) -> int:
        """Questions that stand in more than one split. Must be 0."""
        return sum(len(names) > 1 for names in self._splits.values())


def demonstration_counts(demonstrations: Iterable[Demonstration]) -> dict[str, int]:
    """Demonstrations by `agent/kind`."""
    counts = collections.Counter(f"{d.agent}/{d.kind}" for d in demonstrations)
    return dict(sorted(counts.items()))


def _lengths(values: Sequence[int]) -> Lengths:
    ordered = sorted(values)
    return Lengths(
        mean=round(statistics.fmean(ordered), 1),
        p95=ordered[-(len(ordered) // 20) - 1],
        max=ordered[-1],
    )
