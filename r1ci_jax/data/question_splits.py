"""Generate questions: assign each to a split, with enough distinct ones per split."""

import hashlib
from collections.abc import Collection, Iterator, Mapping

from r1ci_jax.config import DatasetConfig
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example, Task

SPLITS = ("sft", "grpo", "eval")

_TRIES_PER_QUESTION = 40
"""The number of indices tried per requested question before the task counts as exhausted."""
_MIN_TRIES = 2_000
_REPETITIONS = 400
"""The number of consecutive repeated questions after which no new ones are expected."""


def split_sizes(questions: DatasetConfig) -> dict[str, int]:
    """Numbers of questions per task, by split."""
    return {
        "sft": questions.sft_per_task,
        "grpo": questions.grpo_per_task,
        "eval": questions.eval_per_task,
    }


def split_of(question: str, counts: dict[str, int]) -> str:
    """Return the split of a question, which depends on its normalized text alone.

    So the splits of all tasks with the same `counts` are disjoint, although each task is generated
    independently of the others. `counts` sets how often each split is chosen.
    """
    digest = hashlib.sha256(b"split\x1f" + _identity(question)).digest()
    point = int.from_bytes(digest[:8], "big") % sum(counts.values())
    for split, count in counts.items():
        if point < count:
            return split
        point -= count
    raise AssertionError("unreachable: the counts sum to the modulus")


def _identity(question: str) -> bytes:
    # A published question may hold half of a surrogate pair, which UTF-8 proper cannot.
    return base.normalize_question(question).encode("utf-8", "surrogatepass")


def question_key(question: str) -> bytes:
    """Return a digest of the normalized text: it identifies a question."""
    return hashlib.sha256(_identity(question)).digest()[:16]


def levels(task: Task, questions: DatasetConfig) -> tuple[int, ...]:
    """Return the difficulties at which questions of a task are generated.

    A task uses those of the five usual levels that it has; a task that has none of them (published
    questions have one level only) uses its own. Any other level must be one of the task's levels.
    """
    unknown = sorted(set(questions.difficulties) - {*task.difficulties, *Task.difficulties})
    if unknown:
        raise UserError(
            f"{task.name} has no difficulty {unknown[0]}; "
            f"choose difficulties from {', '.join(map(str, task.difficulties))}"
        )
    chosen = tuple(level for level in questions.difficulties if level in task.difficulties)
    return chosen or task.difficulties


def questions_per_split(task: Task, questions: DatasetConfig) -> dict[str, int]:
    """Return the questions requested from a task, by split; a test task has only `eval`."""
    return {
        split: count if split == "eval" or task.split != "test" else 0
        for split, count in split_sizes(questions).items()
    }


def generate_splits(
    task: Task,
    questions: DatasetConfig,
    *,
    seed: int,
    reserved: Collection[bytes] = frozenset(),
    wanted: Mapping[str, int] | None = None,
) -> dict[str, list[Example]]:
    """Generate all splits of one task; difficulties alternate within each split.

    Args:
        task: The task.
        questions: The numbers of questions and their difficulties.
        seed: The seed that determines the questions.
        reserved: Keys of questions of test tasks, which are never trained on.
        wanted: Questions to generate, by split, where the first ones are enough; a split that it
            lacks gets none. None: as many as `questions` says.

    A level with too few distinct questions gives all it has, and the other levels supply the rest.

    A task of published questions may have fewer than requested. Then each of its questions is still
    assigned by its text, so that the splits shrink in proportion, up to the requested numbers.

    Raises:
        UserError: A difficulty is unknown, or a generator has too few distinct questions.
    """
    counts = questions_per_split(task, questions)
    chosen = [_Level(task, level, seed, counts, reserved) for level in levels(task, questions)]
    seen: set[str] = set()
    sizes = counts if wanted is None else {s: min(n, wanted.get(s, 0)) for s, n in counts.items()}
    missing, live = sizes, chosen
    while live and any(missing.values()):
        for rank, level in enumerate(live):
            # The first levels take the remainder of an even division.
            level.fill(
                {s: (n - rank + len(live) - 1) // len(live) for s, n in missing.items()}, seen
            )
        # The other levels supply the questions that a level lacks.
        missing = {s: n - sum(len(level.rows[s]) for level in chosen) for s, n in sizes.items()}
        live = [level for level in live if not level.is_spent]
    if any(missing.values()) and task.count() is None:
        found = ", ".join(f"{s} {n - missing[s]} of {n}" for s, n in sizes.items())
        named = ", ".join(str(level.difficulty) for level in chosen)
        raise UserError(
            f"{task.name} at difficulty {named} has too few different questions ({found}); "
            "lower dataset.*_per_task or add to dataset.difficulties"
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
        """True when no questions are left, or finding them would take too long."""
        self._task = task
        self._seed = seed
        self._counts = counts
        self._reserved = reserved
        self._published = task.count()
        self._index = 0
        self._met: set[str] = set()

    def fill(self, counts: dict[str, int], seen: set[str]) -> None:
        """Add so many questions to each split; `seen` holds those of all levels so far."""
        full = {split: len(self.rows[split]) + count for split, count in counts.items()}
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
