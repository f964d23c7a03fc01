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
    "gridworld": "own generator, rules of GridWorld1",
    "boxnet": "own generator, rules of BoxNet1_v2",
    "gridworld_moves": "own game and generator",
    "boxnet_actions": "own generator, rules of CodeSteer's BoxNet1",
}


_TABLE_HEAD: Final = (
    "",
    "| task | split | kind | levels | answer format | scored by | source |",
    "|---|---|---|---:|---|---|---|",
)
_REPOSITORY: Final = "`yongchao98/Code-as-Symbolic-Planner` (MIT; arXiv 2503.01700)"


def render_markdown() -> str:
    """Render the whole page."""
    tasks = [
        registry.get(name)
        for suite in registry.PAPER_SUITES
        for name in registry.names(suite=suite)
    ]
    extra = [registry.get(name) for name in registry.names(suite="extra")]
    parts = [*_head(tasks), *_tables(tasks), *_extra(extra), *_released_games()]
    return "\n".join([*parts, *_defects([*tasks, *extra]), ""])


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
        yield from _TABLE_HEAD
        for task in tasks:
            if task.suite == suite:
                yield _row(task)


def _row(task: Task) -> str:
    scored_by = "rules" if task.many_answers else "answer"
    source = _PUBLISHED.get(task.name) or _SOURCES[task.suite]
    form = task.answer_format.replace("|", "\\|").replace("\n", " ")
    cells = (task.name, task.split, task.kind, len(task.difficulties), form, scored_by, source)
    return f"| {' | '.join(map(str, cells))} |"


def _extra(tasks: list[Task]) -> Iterator[str]:
    yield ""
    yield "## extra"
    yield ""
    yield (
        f"{len(tasks)} more games, outside the 144: relatives of gridworld and boxnet. They may be "
        "trained on and have scripted teachers; `experiments/tasks.py` does not list them."
    )
    yield from _TABLE_HEAD
    yield from map(_row, tasks)


def _released_games() -> Iterator[str]:
    yield ""
    yield "## gridworld and boxnet"
    yield ""
    yield (
        "The paper's data names them GridWorld1 and BoxNet1_v2. Items, generators and checkers of "
        f"both lie in {_REPOSITORY}, by the paper's first author; that the paper asks the same "
        "questions is likely and not confirmed. Our generators use the released sizes, one or two "
        "for each level, and our scorers the released rules; the words of the questions are ours."
    )
    yield ""
    yield (
        "- gridworld: a robot on a grid of 4 x 4 to 6 x 7 named cells (`C1,1` is the first) with 5 "
        "to 10 obstacles visits 4 to 7 goals. The answer lists the cells of its route from the "
        "start on. Each is a neighbor of the one before, none is an obstacle, all goals are among "
        "them; the number of steps is not limited. Released are 120 items of six sizes: a seventh "
        "configuration (5 x 5 with 4 goals) was overwritten by another of the same file names."
    )
    yield (
        "- boxnet: 3 to 8 boxes on a grid of 2 x 6 to 4 x 8 or 5 x 5 cells, with an arm in each "
        "cell. The answer lists states (the cell of every box), at least two, from the start to "
        "the goals. From one to the next a box stays or goes to a neighboring cell, and at most "
        "one box leaves each cell. Cells hold any number of boxes, so each question is solvable."
    )
    yield (
        "- A defect of boxnet's files: number i of a size holds the samples of all numbers up to "
        "i, and the release's runner asks the first sample of each. Of 120 files it asks six "
        "different questions. The last sample of each file is a question of its own; "
        "`r1ci tasks check --released DIR` reads that one."
    )
    yield (
        "- The released checkers take the first answer of a response, and gridworld's raises at an "
        "unknown cell; here the last answer counts, and an unknown cell is wrong. As with every "
        "plan, a text of more than 20,000 characters is wrong without being read."
    )
    yield (
        "- Neither release stores answers. `check --released` solves each item by our own search "
        "and scores what it finds; likewise for blocksworld, boxlift and boxnet_actions."
    )


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
