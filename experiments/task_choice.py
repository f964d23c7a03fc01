"""The tasks that a small model is trained and tested on: a rule, written before any measurement.

A task that the SFT model never solves, or always, teaches nothing by comparing answers and shows
no gain. One with few different answers is guessed. Long questions cost what two cores do not have.
So `RULE` takes tasks by their p, the fraction of correct answers of the SFT model:

    p above 0.1 and below 0.8; more than 10 different answers; no question beyond 200 tokens;
    of those the nearest to p = 1/2, at most 12 for training and 6 for testing

p is that of potential.jsonl for a training task (four agents, N answers a question) and that of the
SFT model in results.jsonl for a test task (the Code Agent alone): test tasks have no potential.

    r1ci run experiments/smollm2_135m.py:choose
    r1ci table task_choice --runs runs/smollm2-135m-choose
"""

import collections
import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from r1ci_jax.curriculum import potential
from r1ci_jax.data import datasets
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import results
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.tasks import registry
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import load_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Bounds on the tasks that are chosen."""

    p_above: float = 0.1
    p_below: float = 0.8
    answers_above: int = 10
    """Number of different answers among a task's questions that must be exceeded."""
    max_question_tokens: int = 200
    """Tokens of the longest question."""
    max_train: int = 12
    max_test: int = 6


RULE: Final = Rule()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """Measurements of one task."""

    task: str
    split: str
    """train or test."""
    p: float
    """Fraction of correct answers of the SFT model, as a mean over questions."""
    answers: int
    """Number of different answers among the task's questions."""
    question_tokens: int
    """Tokens of its longest question."""


class Choice(NamedTuple):
    """The tasks that the rule takes, in alphabetical order."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def broken_bounds(facts: TaskFacts, rule: Rule = RULE) -> tuple[str, ...]:
    """Return the bounds that a task breaks; a bound itself is outside, but for the tokens.

    >>> broken_bounds(TaskFacts(task="a", split="train", p=0.1, answers=10, question_tokens=200))
    ('p is not above 0.1', '10 different answers, not above 10')
    """
    found = []
    if not facts.p > rule.p_above:
        found.append(f"p is not above {rule.p_above}")
    if not facts.p < rule.p_below:
        found.append(f"p is not below {rule.p_below}")
    if not facts.answers > rule.answers_above:
        found.append(f"{facts.answers} different answers, not above {rule.answers_above}")
    if facts.question_tokens > rule.max_question_tokens:
        found.append(f"a question of {facts.question_tokens} tokens")
    return tuple(found)


def choose(facts: Iterable[TaskFacts], rule: Rule = RULE) -> Choice:
    """Take the tasks that break no bound, of more than are wanted those nearest to p = 1/2."""
    fitting = [each for each in facts if not broken_bounds(each, rule)]
    fitting.sort(key=lambda each: (abs(each.p - 0.5), each.task))

    def take(split: str, count: int) -> tuple[str, ...]:
        return tuple(sorted([each.task for each in fitting if each.split == split][:count]))

    return Choice(take("train", rule.max_train), take("test", rule.max_test))


def read_facts(path: Path) -> list[TaskFacts]:
    """Read the measurements of a run, in the order of its tasks.

    Raises:
        UserError: The run has no p of a task yet.
    """
    run = RunDir.view(path)
    config = run.config["experiment"]
    tokenizer = load_model.load_tokenizer(
        load_model.tokenizer_path(run), config["model"]["checkpoint"]
    )
    fractions = _pass_rates(run, path)
    missing = [task for task in config["dataset"]["tasks"] if task not in fractions]
    if missing:
        raise UserError(
            f"{path} has not measured {missing[0]}; finish it with r1ci run, the stages potential "
            "and eval among them"
        )
    return [_facts(run, task, fractions[task], tokenizer) for task in config["dataset"]["tasks"]]


def _pass_rates(run: RunDir, path: Path) -> Mapping[str, float]:
    """Return p of every task that has one: of training tasks the mean over their questions."""
    by_task: dict[str, list[float]] = collections.defaultdict(list)
    for record in metrics.read(run.potential_path, required=potential.RECORD_FIELDS):
        by_task[record["task"]].append(record["p"])
    tested = {
        result.task: result.correct / result.n
        for result in results.read_run(path).results
        if result.model == "sft" and result.split == "test"
    }
    return tested | {task: statistics.fmean(rates) for task, rates in by_task.items()}


def _facts(run: RunDir, name: str, p: float, tokenizer: Tokenizer) -> TaskFacts:
    task = registry.get(name)
    splits = "sft+grpo+eval" if task.split == "train" else "eval"
    examples = list(datasets.load_examples(run.data, [name], splits))
    return TaskFacts(
        task=name,
        split=task.split,
        p=p,
        answers=len({gold for each in examples if (gold := task.gold(each)) is not None}),
        question_tokens=max(len(tokenizer.encode(each.question)) for each in examples),
    )


def as_constants(choice: Choice) -> str:
    """Write a choice as it stands in an experiment's file."""

    def lines(name: str, tasks: Sequence[str]) -> list[str]:
        return [f"{name} = (", *(f'    "{task}",' for task in tasks), ")"]

    return "\n".join([*lines("TRAIN_TASKS", choice.train), *lines("TEST_TASKS", choice.test)])
