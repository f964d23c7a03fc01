"""The catalogue of the paper's 144 tasks, as Markdown: docs/tasks.md is made from it."""

import collections
from collections.abc import Iterator
from typing import Final

from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Task
from r1ci_jax.tasks.published_task import PublishedTask
from r1ci_jax.tasks.symbench import released_items

_SOURCES: Final = {
    "symbench": "own generator",
    "bbh": "published questions (MIT)",
    "reasoning_gym": "package `reasoning-gym` (Apache-2.0)",
}
_PUBLISHED: Final = {
    "gsm_hard": "GSM-Hard (MIT)",
    "math_geometry": "MATH (MIT)",
    "math_counting_and_probability": "MATH (MIT)",
}


def render_markdown() -> str:
    """Render the whole page."""
    tasks = [
        registry.get(name)
        for suite in registry.PAPER_SUITES
        for name in registry.names(suite=suite)
    ]
    return "\n".join([*_head(tasks), *_tables(tasks), *_defects(tasks), ""])


def _head(tasks: list[Task]) -> Iterator[str]:
    suites = collections.Counter(task.suite for task in tasks)
    splits = collections.Counter(task.split for task in tasks)
    yield "# The 144 tasks"
    yield ""
    yield "Made by `r1ci tasks list --markdown > docs/tasks.md`; a test compares."
    yield ""
    listed = ", ".join(f"{count} {suite}" for suite, count in suites.items())
    yield (
        f"{len(tasks)} tasks: {listed}. {splits['train']} are trained on, {splits['test']} are "
        "only tested on (`r1ci_jax/tasks/train_test_split.py` says how they were chosen)."
    )
    yield ""
    yield (
        "Every answer is scored by rules, never by a model and never by running it. Scored by "
        "*rules*: any answer that obeys the question's rules is right; by *answer*: one value is. "
        "Marks around an answer do not count: emphasis, backticks, quotes, round brackets, "
        "`$...$`, `\\boxed{}`, a final full stop, the commas of 1,234, a Unicode minus "
        "(`r1ci_jax/tasks/answer_forms.py`), unless the right answer begins or ends with them."
    )


def _tables(tasks: list[Task]) -> Iterator[str]:
    for suite in registry.PAPER_SUITES:
        yield ""
        yield f"## {suite}"
        yield ""
        yield "| task | split | kind | levels | answer format | scored by | source |"
        yield "|---|---|---|---:|---|---|---|"
        for task in tasks:
            if task.suite == suite:
                yield _row(task)


def _row(task: Task) -> str:
    scored_by = "rules" if task.many_answers else "answer"
    source = _PUBLISHED.get(task.name, _SOURCES[task.suite])
    form = task.answer_format.replace("|", "\\|").replace("\n", " ")
    cells = (task.name, task.split, task.kind, len(task.difficulties), form, scored_by, source)
    return f"| {' | '.join(map(str, cells))} |"


def _defects(tasks: list[Task]) -> Iterator[str]:
    yield ""
    yield "## Defects of the released items"
    yield ""
    yield (
        "Found when our scorers scored the golds of a sample of the released SymBench items "
        "(`r1ci tasks check --released DIR`). The scorers follow the rules that the released "
        "question states. The check finds the reason of every such gold by a rule, so it holds for "
        "other items of the release too."
    )
    yield ""
    yield "| task | items | what |"
    yield "|---|---:|---|"
    for task in tasks:
        for why, count in released_items.defects(task).items():
            yield f"| {task.name} | {count} | gold wrong: {why} |"
        for why, count in released_items.remarks(task).items():
            yield f"| {task.name} | {count} | gold right, question weak: {why} |"


def count_dropped() -> str:
    """Count the published questions that are never used; this reads the published files."""
    lines = [
        "# Published questions that are never used",
        "",
        "Made by `r1ci tasks list --dropped > docs/dropped.md`; a test compares. BIG-Bench-Hard;",
        "the number is the item's position in its file, from 0.",
        "",
        "| task | item | why |",
        "|---|---:|---|",
    ]
    for name in registry.names(suite="bbh"):
        task = registry.get(name)
        assert isinstance(task, PublishedTask)
        for item in task.dropped_items():
            reason = item.reason.replace("|", "\\|")
            lines.append(f"| {name} | {item.index} | {reason} |")
    return "\n".join([*lines, ""])
