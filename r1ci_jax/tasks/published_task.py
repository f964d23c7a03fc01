"""Base class of tasks with published items: read once, drop unusable items, permute."""

import abc
import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, override

from r1ci_jax.tasks import base, published_files
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A published item that can be used."""

    number: int
    """Its position in the file, from 0."""
    question: str
    """The question with the sentence that states the answer's form."""
    answer: str
    metadata: dict[str, Any]
    """The data that the scorer needs, of JSON types."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
    """A published item that is never used."""

    task: str
    index: int
    """Its position in the file, from 0."""
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """All items of a task."""

    items: tuple[Item, ...]
    dropped: tuple[Dropped, ...]


class PublishedTask(base.Task):
    """A task whose questions are published items.

    `generate(index, seed, 1)` is position `index` of a permutation that the seed determines, so one
    seed with disjoint ranges of indices gives disjoint questions. There are `count()` positions; an
    index beyond them raises IndexError.
    """

    split = "train"  # The fixed split is in tasks/train_test_split.py.
    difficulties = (1,)

    def __init__(self, data: pathlib.Path | None = None) -> None:
        """Read from `data`, else from `published_files.data_folder()`, determined on first use."""
        self._data = data

    @abc.abstractmethod
    def read(self, data: pathlib.Path) -> Contents:
        """Read the items from the data folder; raises UserError where they are missing."""

    def contents(self) -> Contents:
        """Return the items, which are read once."""
        return _contents(self, published_files.data_folder(self._data))

    @override
    def count(self) -> int:
        """Return the number of questions."""
        return len(self.contents().items)

    def dropped_items(self) -> tuple[Dropped, ...]:
        """Return the items that are never used, with the reasons."""
        return self.contents().dropped

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        self.require_difficulty(difficulty)
        items = self.contents().items
        if not 0 <= index < len(items):
            raise IndexError(f"{self.name} has {len(items)} questions, there is no index {index}")
        item = items[_permutation(self.name, seed, len(items))[index]]
        return Example(
            id=f"{self.name}/d{difficulty}/s{seed}/{index}",
            task=self.name,
            question=item.question,
            answer=json.dumps(item.answer),
            difficulty=difficulty,
            metadata=json.dumps(item.metadata | {"number": item.number}, sort_keys=True),
        )


def deduplicate(task: str, items: Sequence[Item], dropped: Iterable[Dropped]) -> Contents:
    """Return the contents without repeated questions.

    A repetition with the same answer is dropped and the first item stays; questions with two
    different answers are all dropped, because the right answer is unknown.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(base.normalize_question(item.question), []).append(item)
    kept: list[Item] = []
    gone = list(dropped)
    for group in groups.values():
        first, *others = group
        if len({item.answer for item in group}) > 1:
            numbers = ", ".join(str(item.number) for item in group)
            reason = f"one question with contradicting answers: items {numbers}"
            gone += [Dropped(task=task, index=item.number, reason=reason) for item in group]
            continue
        kept.append(first)
        reason = f"repeats item {first.number}"
        gone += [Dropped(task=task, index=item.number, reason=reason) for item in others]
    return Contents(items=tuple(kept), dropped=tuple(sorted(gone, key=lambda drop: drop.index)))


@functools.lru_cache(maxsize=64)
def _contents(task: PublishedTask, data: pathlib.Path) -> Contents:
    return task.read(data)


@functools.lru_cache(maxsize=256)
def _permutation(task: str, seed: int, count: int) -> tuple[int, ...]:
    order = list(range(count))
    base.example_rng(task, seed, 1, 0).shuffle(order)
    return tuple(order)
