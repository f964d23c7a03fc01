"""Choose the tasks of an evaluation by words, and generate their held-out questions.

A word is a task, a suite, a split (`train`, `test`), `paper` (its 144 tasks), `offline` (those of
them that need no download) or a pattern such as `rg_*`; `symbench:test` is what both sides name.
"""

import difflib
import fnmatch
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry, train_test_split
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.published_task import PublishedTask

DEFAULT_TASKS: Final = ("offline",)


def default_questions(tasks: tuple[str, ...]) -> DatasetConfig:
    """Return levels and splits of the questions for a model that was not trained here.

    They are those of experiments/tasks.py: its models are evaluated on the same questions.
    """
    return DatasetConfig(
        tasks=tasks,
        difficulties=(1, 2, 3, 4, 5),
        sft_per_task=70,
        grpo_per_task=50,
        eval_per_task=200,
    )


def choose(words: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks that the words name, in the order of the registry.

    Raises:
        UserError: A word names none.
    """
    chosen: set[str] = set()
    for word in itertools.chain(*(each.split(",") for each in words)):
        sides = [_named(side, is_alone=":" not in word) for side in word.split(":")]
        found = set.intersection(*sides)
        if not found:
            raise UserError(_unknown(word, sides))
        chosen |= found
    return tuple(name for name in registry.names() if name in chosen)


def _named(word: str, *, is_alone: bool) -> set[str]:
    """Return the tasks of one word; a split that stands alone is one of the paper's tasks."""
    names = registry.names()
    paper = [name for suite in registry.PAPER_SUITES for name in registry.names(suite=suite)]
    if word in names:
        return {word}
    if word in registry.suites():
        return set(registry.names(suite=word))
    match word:
        case "train" | "test":
            of = paper if is_alone else names
            return {name for name in of if train_test_split.split_of_task(name) == word}
        case "paper":
            return set(paper)
        case "offline":
            return {name for name in paper if not isinstance(registry.get(name), PublishedTask)}
        case _:
            return {*fnmatch.filter(names, word)}


def _unknown(word: str, sides: Sequence[set[str]]) -> str:
    if len(sides) > 1 and all(sides):
        return f"--tasks {word}: no task is in both; name others, see r1ci tasks list"
    suites, known = registry.suites(), ("train", "test", "paper", "offline")
    close = difflib.get_close_matches(word, [*registry.names(), *suites, *known], n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see r1ci tasks list"
    return f"--tasks {word} names no task, suite ({', '.join(suites)}) or split; {hint}"


def generate(
    questions: DatasetConfig,
    count: int,
    *,
    seed: int,
    report: Callable[[int], None],
) -> list[Example]:
    """Generate the first held-out questions of each task: one of each task, then the next of each.

    So an evaluation that was stopped has answered about as many of every task.

    Args:
        questions: Tasks, levels, and sizes of the splits, which decide what is held out.
        count: Questions of each task; published questions may be fewer.
        seed: Seed of the questions.
        report: Called with the number of tasks that are done.

    Raises:
        UserError: `count` is more than are held out, or published questions are not there.
    """
    if count > questions.eval_per_task:
        raise UserError(
            f"--questions {count}: {questions.eval_per_task} of each task are held out; ask fewer"
        )
    by_task: list[list[Example]] = []
    for name in questions.tasks:
        wanted = {"eval": count}
        made = question_splits.generate_splits(
            registry.get(name), questions, seed=seed, wanted=wanted
        )
        by_task.append(made["eval"])
        report(len(by_task))
    return list(_in_turn(by_task))


def _in_turn(by_task: Sequence[Sequence[Example]]) -> Iterator[Example]:
    for row in itertools.zip_longest(*by_task):
        yield from (example for example in row if example is not None)
