"""What a dataset holds: counts, lengths, duplicates, how far one constant answer gets."""

import collections
import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence

from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskStats:
    """One task."""

    task: str
    counts: dict[str, int]
    """Questions by split."""
    difficulties: dict[int, int]
    """Questions by difficulty."""
    question_chars_mean: float
    question_chars_max: int
    answers: int
    """Different golds."""
    majority_share: float
    """Share of the commonest gold."""
    duplicates: int
    """Questions that occur more than once within the task, splits together."""


def task_stats(task_name: str, splits: Mapping[str, Sequence[Example]]) -> TaskStats:
    """Statistics of one task."""
    examples = [example for rows in splits.values() for example in rows]
    task = registry.get(task_name)
    golds = collections.Counter(task.gold(example) for example in examples)
    lengths = [len(example.question) for example in examples]
    return TaskStats(
        task=task_name,
        counts={split: len(rows) for split, rows in splits.items()},
        difficulties=dict(sorted(collections.Counter(e.difficulty for e in examples).items())),
        question_chars_mean=round(statistics.fmean(lengths), 1),
        question_chars_max=max(lengths),
        answers=len(golds),
        majority_share=round(max(golds.values()) / len(examples), 4),
        duplicates=len(examples) - len({base.normalised(e.question) for e in examples}),
    )


def shared_questions(splits: Mapping[str, Iterable[Example]]) -> int:
    """Questions that stand in more than one split, tasks together. Must be 0."""
    owners: dict[str, set[str]] = collections.defaultdict(set)
    for split, examples in splits.items():
        for example in examples:
            owners[base.normalised(example.question)].add(split)
    return sum(len(names) > 1 for names in owners.values())


def demonstration_counts(demonstrations: Iterable[Demonstration]) -> dict[str, int]:
    """Demonstrations by `agent/kind`."""
    counts = collections.Counter(f"{d.agent}/{d.kind}" for d in demonstrations)
    return dict(sorted(counts.items()))
