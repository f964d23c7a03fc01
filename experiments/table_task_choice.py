"""The tasks that a small model is trained on: p, answers, longest question, chosen or why not.

Question   Which of the candidates does the rule of experiments/task_choice.py take?
Command    r1ci table task_choice --runs runs/smollm2-135m-choose
Needs      a finished run of `:choose` of smollm2_135m.py or qwen2_5_coder_0_5b.py
Prints     a row per task and, below, the constants that belong into the experiment's file
"""

import sys
from collections.abc import Sequence
from typing import Final

from experiments import task_choice
from r1ci_jax.evaluate import tables

COLUMNS: Final = ("run", "task", "split", "p", "answers", "longest question", "chosen")

TRAIN_WANTED: Final = 10
TEST_WANTED: Final = 4
"""With fewer tasks a mean over tasks says little."""


def build(runs: Sequence[tables.RunResults]) -> tables.Table:
    """The table for the given runs."""
    records, notes = [], []
    for run in runs:
        facts = task_choice.read_facts(run.path)
        choice = task_choice.choose(facts)
        records += [_record(run.path.name, each, choice) for each in facts]
        notes.append(_note(run.path.name, choice))
    rows = tuple(_row(record) for record in records)
    return tables.Table(
        title="Tasks of a small model, by the SFT model's p",
        columns=COLUMNS,
        rows=rows,
        records=tuple(records),
        note=" ".join(notes),
    )


def _record(
    run: str, facts: task_choice.TaskFacts, choice: task_choice.Choice
) -> dict[str, str | float | list[str]]:
    against = list(task_choice.broken_bounds(facts))
    is_chosen = facts.task in choice.train or facts.task in choice.test
    if not is_chosen and not against:
        against.append("others are nearer to p = 1/2")
    return {
        "run": run,
        "task": facts.task,
        "split": facts.split,
        "p": facts.p,
        "answers": facts.answers,
        "question_tokens": facts.question_tokens,
        "chosen": is_chosen,
        "why_not": against,
    }


def _row(record: dict) -> tuple[str, ...]:
    return (
        record["run"],
        record["task"],
        record["split"],
        f"{record['p']:.2f}",
        str(record["answers"]),
        str(record["question_tokens"]),
        "yes" if record["chosen"] else "; ".join(record["why_not"]),
    )


def _note(run: str, choice: task_choice.Choice) -> str:
    train, test = len(choice.train), len(choice.test)
    note = f"{run}: {train} tasks for training and {test} for testing are chosen."
    if train < TRAIN_WANTED or test < TEST_WANTED:
        note += f" Too few: {TRAIN_WANTED} and {TEST_WANTED} are wanted."
    return f"{note} {task_choice.as_constants(choice)}"


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "task_choice", *sys.argv[1:]]))
