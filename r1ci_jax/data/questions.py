"""Drawing questions: which split a question belongs to, and enough different ones for each."""

import hashlib
from collections.abc import Iterator

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

    So the splits are disjoint across all tasks, although each task is drawn without looking at the
    others. `counts` sets how often each split comes up.
    """
    digest = hashlib.sha256(b"split\x1f" + base.normalised(question).encode()).digest()
    point = int.from_bytes(digest[:8], "big") % sum(counts.values())
    for split, count in counts.items():
        if point < count:
            return split
        point -= count
    raise AssertionError("unreachable: the counts sum to the modulus")


def draw(task: Task, questions: Questions, *, seed: int) -> dict[str, list[Example]]:
    """All splits of one task; difficulties alternate within each split."""
    # Published questions come in one level only.
    chosen = questions.difficulties if len(task.difficulties) > 1 else task.difficulties
    unknown = sorted(set(chosen) - set(task.difficulties))
    if unknown:
        raise UserError(
            f"{task.name} has no difficulty {unknown[0]}; "
            f"choose questions.difficulties from {', '.join(map(str, task.difficulties))}"
        )
    counts = wanted(questions)
    if task.split == "test":
        counts = {split: n if split == "eval" else 0 for split, n in counts.items()}
    levels = len(chosen)
    by_level: list[dict[str, list[Example]]] = []
    seen: set[str] = set()
    for rank, difficulty in enumerate(chosen):
        # The first levels take what an even share leaves over.
        shares = {split: (n - rank + levels - 1) // levels for split, n in counts.items()}
        by_level.append(_fill(task, difficulty, shares, counts, seed, seen))
    return {split: list(_alternate([level[split] for level in by_level])) for split in counts}


def _fill(
    task: Task,
    difficulty: int,
    shares: dict[str, int],
    counts: dict[str, int],
    seed: int,
    seen: set[str],
) -> dict[str, list[Example]]:
    """Questions of one level, in order of their index, until every split has its share."""
    chosen: dict[str, list[Example]] = {split: [] for split in shares}
    missing = sum(shares.values())
    tries = max(_MIN_TRIES, _TRIES_PER_QUESTION * missing)
    if (count := task.count()) is not None:
        tries = min(tries, count)
    for index in range(tries):
        if missing == 0:
            return chosen
        example = task.generate(index, seed, difficulty)
        text = base.normalised(example.question)
        split = split_of(text, counts)
        if text in seen or len(chosen[split]) == shares[split]:
            continue
        seen.add(text)
        chosen[split].append(example)
        missing -= 1
    if missing == 0:
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
