"""Generate questions: assign each to a split, with enough distinct ones per split."""

import hashlib
from collections.abc import Collection, Iterator

from r1ci_jax.config import DatasetConfig
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example, Task

SPLITS = ("sft", "grpo", "eval")

_TRIES_PER_QUESTION = 40
"""Indices looked at for one wanted question before the task counts as exhausted."""
_MIN_TRIES = 2_000
_REPETITIONS = 400
"""Questions in a row that were met before, after which there are taken to be no new ones."""


def split_sizes(questions: DatasetConfig) -> dict[str, int]:
    """Questions a task, by split."""
    return {
        "sft": questions.sft_per_task,
        "grpo": questions.grpo_per_task,
        "eval": questions.eval_per_task,
    }


def split_of(question: str, counts: dict[str, int]) -> str:
    """The split of a question, decided by its normalised text alone.

    So the splits of all tasks with the same `counts` are disjoint, although each task is drawn
    without looking at the others. `counts` sets how often each split comes up.
    """
    digest = hashlib.sha256(b"split\x1f" + base.normalize_question(question).encode()).digest()
    point = int.from_bytes(digest[:8], "big") % sum(counts.values())
    for split, count in counts.items():
        if point < count:
            return split
        point -= count
    raise AssertionError("unreachable: the counts sum to the modulus")


def question_key(question: str) -> bytes:
    """Return a digest of the normalized text: it identifies a question."""
    return hashlib.sha256(base.normalize_question(question).encode()).digest()[:16]


def levels(task: Task, questions: DatasetConfig) -> tuple[int, ...]:
    """The difficulties asked of a task.

    Of the five usual levels a task takes those that it has, one that has none of them (published
    questions come in one level only) takes its own. Any other level must be the task's.
    """
    unknown = sorted(set(questions.difficulties) - {*task.difficulties, *Task.difficulties})
    if unknown:
        raise UserError(
            f"{task.name} has no difficulty {unknown[0]}; "
            f"choose questions.difficulties from {', '.join(map(str, task.difficulties))}"
        )
    chosen = tuple(level for level in questions.difficulties if level in task.difficulties)
    return chosen or task.difficulties


def questions_per_split(task: Task, questions: DatasetConfig) -> dict[str, int]:
    """Questions asked of a task, by split: one that is for testing has only those of `eval`."""
    return {
        split: count if split == "eval" or task.split != "test" else 0
        for split, count in split_sizes(questions).items()
    }


def generate_splits(
    task: Task, questions: DatasetConfig, *, seed: int, reserved: Collection[bytes] = frozenset()
) -> dict[str, list[Example]]:
    """All splits of one task; difficulties alternate within each split.

    Args:
        task: The task.
        questions: How many, and which difficulties.
        seed: Decides the questions.
        reserved: Identities of questions that tasks for testing ask; they are never trained on.

    A level with too few different questions gives all it has and the others make up for it.

    A task of published questions may have fewer than are asked. Then each of its questions still
    goes where its text says, so that its splits shrink in proportion, up to what is asked of each.

    Raises:
        UserError: an unknown difficulty, or a generator with too few different questions.
    """
    counts = questions_per_split(task, questions)
    chosen = [_Level(task, level, seed, counts, reserved) for level in levels(task, questions)]
    seen: set[str] = set()
    missing, live = counts, chosen
    while live and any(missing.values()):
        for rank, level in enumerate(live):
            # The first levels take what an even share leaves over.
            level.fill(
                {s: (n - rank + len(live) - 1) // len(live) for s, n in missing.items()}, seen
            )
        # What a level does not have the others make up for.
        missing = {s: n - sum(len(level.rows[s]) for level in chosen) for s, n in counts.items()}
        live = [level for level in live if not level.is_spent]
    if any(missing.values()) and task.count() is None:
        found = ", ".join(f"{s} {n - missing[s]} of {n}" for s, n in counts.items())
        named = ", ".join(str(level.difficulty) for level in chosen)
        raise UserError(
            f"{task.name} at difficulty {named} has too few different questions ({found}); "
            "lower questions.*_per_task or add difficulties"
        )
    return {split: list(_alternate([level.rows[split] for level in chosen])) for split in counts}


class _Level:
    """The questions of one difficulty, taken in the order of their index."""

    def __init__(
        self,
        task: Task,
        difficulty: int,
        seed: int,
        counts: dict[str, int],
        reserved: Collection[bytes],
    ) -> None:
        self.difficulty = difficulty
        self.rows: dict[str, list[Example]] = {split: [] for split in counts}
        self.is_spent = False
        """There are no more, or it would take too long to find them."""
        self._task = task
        self._seed = seed
        self._counts = counts
        self._reserved = reserved
        self._published = task.count()
        self._index = 0
        self._met: set[str] = set()

    def fill(self, counts: dict[str, int], seen: set[str]) -> None:
        """Take so many more of each split; `seen` are the questions of all levels so far."""
        full = {split: len(self.rows[split]) + share for split, share in counts.items()}
        missing = sum(counts.values())
        last = self._index + max(_MIN_TRIES, _TRIES_PER_QUESTION * missing)
        if self._published is not None:
            last = self._published
        repeated = 0
        while missing and self._index < last and repeated < _REPETITIONS:
            example = self._task.generate(self._index, self._seed, self.difficulty)
            self._index += 1
            text = base.normalize_question(example.question)
            repeated = repeated + 1 if text in self._met else 0
            self._met.add(text)
            split = split_of(text, self._counts)
            if text in seen or len(self.rows[split]) == full[split]:
                continue
            if split != "eval" and question_key(text) in self._reserved:
                continue
            seen.add(text)
            self.rows[split].append(example)
            missing -= 1
        self.is_spent = missing > 0


def _alternate(levels: list[list[Example]]) -> Iterator[Example]:
    for position in range(max(map(len, levels))):
        for level in levels:
            if position < len(level):
                yield level[position]
