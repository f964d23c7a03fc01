"""Statistics of demonstrations by task: strategies, turns, lengths, failed scripts, duplicates."""

import collections
import dataclasses
import re
import statistics
from collections.abc import Callable, Iterable
from typing import Final

from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external import selection

_FAILED: Final = re.compile(
    r"[\w.]*(?:Error|Exception|Expired|OutputLimit|Exit|Interrupt|StopIteration)\b|Killed:"
)
"""Beginning of a line of an observation that tells of a failure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemonstrationStats:
    """Statistics of one task's demonstrations."""

    task: str
    count: int
    strategies: dict[str, int]
    """Number of demonstrations by `agent/kind`."""
    mean_turns: float
    """Turns of the policy; the scripts of a trajectory are one less, or as many."""
    median_length: int
    """Tokens (characters without a tokenizer) of all turns and observations, without the prompt."""
    max_length: int
    scripts: int
    failed_scripts: int
    """Scripts that raised: slips that the next turn repairs."""
    duplicates: int
    """Demonstrations with the same scripts as an earlier one of the task."""

    @property
    def failed_fraction(self) -> float:
        """Fraction of the scripts that raised."""
        return self.failed_scripts / self.scripts if self.scripts else 0.0


def by_task(
    demonstrations: Iterable[Demonstration], length: Callable[[str], int] = len
) -> list[DemonstrationStats]:
    """Compute the statistics of every task; `length` measures a text."""
    rows: dict[str, list[Demonstration]] = {}
    for demonstration in demonstrations:
        rows.setdefault(demonstration.task, []).append(demonstration)
    return [_task(task, own, length) for task, own in rows.items()]


def _task(task: str, rows: list[Demonstration], length: Callable[[str], int]) -> DemonstrationStats:
    sizes = [sum(length(segment.text) for segment in row.segments) for row in rows]
    outputs = [s.text for row in rows for s in row.segments if s.role == "observation"]
    turns = [sum(segment.role == "assistant" for segment in row.segments) for row in rows]
    kinds = collections.Counter(f"{row.agent}/{row.kind}" for row in rows)
    return DemonstrationStats(
        task=task,
        count=len(rows),
        strategies=dict(sorted(kinds.items())),
        mean_turns=round(statistics.fmean(turns), 2),
        median_length=int(statistics.median(sizes)),
        max_length=max(sizes),
        scripts=len(outputs),
        failed_scripts=sum(_is_failure(text) for text in outputs),
        duplicates=len(rows) - len({selection.identity(row) for row in rows}),
    )


def _is_failure(observation: str) -> bool:
    return any(_FAILED.match(line) for line in observation.split("\n"))
