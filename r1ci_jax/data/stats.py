"""Statistics of a dataset: counts, lengths, answers, duplicates, score of a constant answer.

And the interval of a fraction, for whoever counts right answers to its questions.
"""

import collections
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from r1ci_jax.data import question_splits
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.tasks import answers, registry
from r1ci_jax.tasks.base import Example

COMMONEST: Final = 5
"""Number of answers listed per task."""
Z: Final = statistics.NormalDist().inv_cdf(0.975)
"""Quantile of intervals that hold the true value in 95 of 100 cases."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of a task's questions."""

    mean: float
    p95: int
    """At least 95 percent of the questions are no longer than this."""
    max: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskStats:
    """Statistics of one task."""

    task: str
    suite: str
    split: str
    """`train` if the task's questions may be trained on, else `test`."""
    counts: dict[str, int]
    """Number of questions by split."""
    is_short: dict[str, int]
    """Number of requested questions by split, where the source had fewer."""
    difficulties: dict[int, int]
    """Number of questions by difficulty."""
    question_chars: Lengths
    question_tokens: Lengths | None
    """None means that there is no tokenizer."""
    answers: int
    """Number of distinct golds."""
    most_common: dict[str, int]
    """The most frequent golds, long ones shortened, with their counts."""
    majority_fraction: float
    """Fraction of the most frequent gold: the score of a constant answer."""
    duplicates: int
    """Number of questions that repeat another within the task, over all splits."""


def task_stats(
    task_name: str,
    splits: Mapping[str, Sequence[Example]],
    *,
    requested: Mapping[str, int],
    tokens: Callable[[str], int] | None = None,
) -> TaskStats:
    """Compute the statistics of one task.

    Args:
        task_name: The task.
        splits: The task's questions, by split.
        requested: The number of questions requested for each split.
        tokens: A function that counts the tokens of a text.
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
        majority_fraction=round(majority_fraction(task_name, examples) or 0, 4),
        duplicates=len(examples) - len({question_splits.question_key(text) for text in texts}),
    )


def majority_fraction(task_name: str, examples: Sequence[Example]) -> float | None:
    """Compute the fraction of the questions that have the most common gold.

    A constant answer scores this, or more where a question has several right answers. None: no
    question stores an answer.
    """
    task = registry.get(task_name)
    golds = collections.Counter(gold for e in examples if (gold := task.gold(e)) is not None)
    return max(golds.values()) / len(examples) if golds else None


def wilson(p: float, n: float) -> tuple[float, float]:
    """Compute Wilson's interval of a fraction p of n independent answers.

    >>> [round(bound, 3) for bound in wilson(1.0, 6)]
    [0.61, 1.0]
    """
    center = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return max(center - half, 0.0), min(center + half, 1.0)


class Owners:
    """The splits that contain each question, over all tasks."""

    def __init__(self) -> None:
        self._splits: dict[bytes, set[str]] = collections.defaultdict(set)

    def add(self, splits: Mapping[str, Iterable[Example]]) -> None:
        """Add a task's questions."""
        for split, examples in splits.items():
            for example in examples:
                self._splits[question_splits.question_key(example.question)].add(split)

    def shared(self) -> int:
        """Return the number of questions in more than one split, which must be 0."""
        return sum(len(names) > 1 for names in self._splits.values())


def demonstration_counts(demonstrations: Iterable[Demonstration]) -> dict[str, int]:
    """Count the demonstrations by `agent/kind`."""
    counts = collections.Counter(f"{d.agent}/{d.kind}" for d in demonstrations)
    return dict(sorted(counts.items()))


def _lengths(values: Sequence[int]) -> Lengths:
    ordered = sorted(values)
    return Lengths(
        mean=round(statistics.fmean(ordered), 1),
        p95=ordered[-(len(ordered) // 20) - 1],
        max=ordered[-1],
    )
