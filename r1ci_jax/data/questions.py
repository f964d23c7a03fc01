"""Drawing questions: which split a question belongs to, and enough different ones for each."""

import hashlib
from collections.abc import Collection, Iterator

from r1ci_jax.core.config import Questions
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example, Task

SPLITS = ("sft", "grpo", "eval")

_TRIES_PER_QUESTION = 40
"""Indices looked at for one wanted question before the task counts as exhausted."""
_MIN_TRIES = 2_000


def wanted(questions: Questions) -> dict[str, int]:
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
    digest = hashlib.sha256(b"split\x1f" + base.normalised(question).encode()).digest()
    point = int.from_bytes(digest[:8], "big") % sum(counts.values())
    for split, count in counts.items():
        if point < count:
            return split
        point -= count
    raise AssertionError("unreachable: the counts sum to the modulus")


def identity(question: str) -> bytes:
    """What tells a question from another: a digest of its normalised text."""
    return hashlib.sha256(base.normalised(question).encode()).digest()[:16]


def levels(task: Task, questions: Questions) -> tuple[int, ...]:
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


def asked(task: Task, questions: Questions) -> dict[str, int]:
    """Questions asked of a task, by split: one that is for testing has only those of `eval`."""
    return {
        split: count if split == "eval" or task.split != "test" else 0
        for split, count in wanted(questions).items()
    }


def draw(
    task: Task, questions: Questions, *, seed: int, reserved: Collection[bytes] = frozenset()
) -> dict[str, list[Example]]:
    """All splits of one task; difficulties alternate within each split.

    Args:
        task: The task.
        questions: How many, and which difficulties.
        seed: Decides the questions.
        reserved: Identities of questions that tasks for testing ask; they are never trained on.

    A task of published questions may have fewer than are asked. Then each of its questions still
    goes where its text says, so that its splits shrink in proportion, up to what is asked of each.

    Raises:
        UserError: an unknown difficulty, or a generator with too few different questions.
    """
    counts = asked(task, questions)
    chosen = levels(task, questions)
    by_level: list[dict[str, list[Example]]] = []
    seen: set[str] = set()
    for rank, difficulty in enumerate(chosen):
        # The first levels take what an even share leaves over.
        shares = {split: (n - rank + len(chosen) - 1) // len(chosen) for split, n in counts.items()}
        by_level.append(_fill(task, difficulty, shares, counts, seed, seen, reserved))
    return {split: list(_alternate([level[split] for level in by_level])) for split in counts}


def _fill(
    task: Task,
    difficulty: int,
    shares: dict[str, int],
    counts: dict[str, int],
    seed: int,
    seen: set[str],
    reserved: Collection[bytes],
) -> dict[str, list[Example]]:
    """Questions of one level, in order of their index, until every split has its share."""
    chosen: dict[str, list[Example]] = {split: [] for split in shares}
    missing = sum(shares.values())
    published = task.count()
    tries = max(_MIN_TRIES, _TRIES_PER_QUESTION * missing) if published is None else published
    for index in range(tries):
        if missing == 0:
            return chosen
        example = task.generate(index, seed, difficulty)
        text = base.normalised(example.question)
        split = split_of(text, counts)
        if text in seen or len(chosen[split]) == shares[split]:
            continue
        if split != "eval" and identity(text) in reserved:
            continue
        seen.add(text)
        chosen[split].append(example)
        missing -= 1
    if missing == 0 or published is not None:
        return chosen
    found = ", ".join(f"{split} {len(chosen[split])} of {n}" for split, n in shares.items())
    raise UserError(
        f"{task.name} at difficulty {difficulty} has too few different questions ({found}); "
        "lower questions.*_per_task or add difficulties"
    )


def _alternate(levels: list[list[Example]]) -> Iterator[Example]:
    for position in range(max(map(len, levels))):
        for level in levels:
            if position < len(level):
                yield level[position]
