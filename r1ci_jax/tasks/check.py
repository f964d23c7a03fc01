"""Checks of a task: its golds are right, cheap answers are wrong, its questions never change."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example, Task

ITEMS = 200
"""The number of questions checked, spread evenly over the difficulties."""

_CONSTANTS = ("", "0", "None", "I do not know")
_FOREIGN_SHARE = 0.05
"""The largest fraction of other golds that may score, where several answers are right."""
_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The result of checking one task."""

    task: str
    items: int
    distinct: int
    """Number of distinct questions among the items."""
    num_golds_correct: int
    majority_fraction: float
    """Fraction of the most frequent gold: the score of a constant answer."""
    num_foreign_correct: int
    """Number of different golds of other items that score as well."""
    same_elsewhere: bool
    """True if a process with another hash seed generates equal questions."""
    problems: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Return True if no check failed."""
        return not self.problems


def check(names: Sequence[str], *, seed: int = 0, items: int = ITEMS) -> Iterator[Report]:
    """Check tasks one by one; one other process repeats the questions of all of them."""
    elsewhere = _digests_elsewhere(names, seed, items)
    for name in names:
        yield _check_task(registry.get(name), seed, items, elsewhere[name])


def sample_examples(task: Task, seed: int, items: int) -> list[Example]:
    """Return questions spread evenly over the difficulties."""
    levels = task.difficulties
    count = task.count()
    items = items if count is None else min(items, count * len(levels))
    return [task.generate(i // len(levels), seed, levels[i % len(levels)]) for i in range(items)]


def digest(examples: Sequence[Example]) -> str:
    """Return a fingerprint of whole examples."""
    rows = [dataclasses.astuple(example) for example in examples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _check_task(task: Task, seed: int, items: int, elsewhere: str) -> Report:
    examples = sample_examples(task, seed, items)
    items = len(examples)
    golds = [task.gold(example) for example in examples]
    problems = list(_wrong_golds(task, examples, golds))
    num_golds_correct = len(examples) - len(
        {problem.partition(": gold")[0] for problem in problems}
    )
    problems += _lucky_answers(task, examples, golds)
    foreign = list(_foreign_golds(task, examples, golds))
    if len(foreign) > (_FOREIGN_SHARE * items if task.many_answers else 0):
        problems += [f"the gold of another item scores: {case}" for case in foreign]
    same = digest(examples) == elsewhere
    if not same:
        problems.append("another process generates other questions from the same seed")
    return Report(
        task=task.name,
        items=items,
        distinct=len({base.normalize_question(example.question) for example in examples}),
        num_golds_correct=num_golds_correct,
        majority_fraction=max(map(golds.count, golds)) / items,
        num_foreign_correct=len(foreign),
        same_elsewhere=same,
        problems=tuple(problems[:_SHOWN]),
    )


def _wrong_golds(
    task: Task, examples: Sequence[Example], golds: Sequence[str | None]
) -> Iterator[str]:
    # Sampled answers have blanks and line ends around them.
    pairs = [
        (example, text)
        for example, gold in zip(examples, golds, strict=True)
        if gold is not None
        for text in (gold, f" {gold}\n")
    ]
    for (example, text), verdict in zip(pairs, task.score_all(pairs), strict=True):
        if not verdict.correct:
            yield f"{example.id}: gold {text!r} scores as wrong: {verdict.reason}"


def _lucky_answers(
    task: Task, examples: Sequence[Example], golds: Sequence[str | None]
) -> Iterator[str]:
    cases = []
    for example, gold in zip(examples, golds, strict=True):
        hedged = (f"{gold}\n{gold}1", f"{gold} or 1") if gold else ()
        cases += [
            (example, text, gold)
            for text in (*_CONSTANTS, example.question, *hedged)
            if text != gold
        ]
    verdicts = task.score_all([(example, text) for example, text, _ in cases])
    for (example, text, gold), verdict in zip(cases, verdicts, strict=True):
        if verdict.correct:
            yield f"{example.id}: {text!r} scores as correct, the gold is {gold!r}"


def _foreign_golds(
    task: Task, examples: Sequence[Example], golds: Sequence[str | None]
) -> Iterator[str]:
    cases = []
    for position, (example, gold) in enumerate(zip(examples, golds, strict=True)):
        # The next item of the same difficulty is the most similar one.
        other = golds[(position + len(task.difficulties)) % len(golds)]
        if other is not None and other != gold:
            cases.append((example, other, gold))
    verdicts = task.score_all([(example, other) for example, other, _ in cases])
    for (example, other, gold), verdict in zip(cases, verdicts, strict=True):
        if verdict.correct:
            yield f"{example.id}: {other!r}, the gold is {gold!r}"


def _digests_elsewhere(names: Sequence[str], seed: int, items: int) -> dict[str, str]:
    """Compute the digests in a new interpreter with another hash seed."""
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(seed), str(items), *names],
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _print_digests(arguments: Sequence[str]) -> None:
    seed, items, *names = arguments
    found = {
        name: digest(sample_examples(registry.get(name), int(seed), int(items))) for name in names
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _print_digests(sys.argv[1:])
