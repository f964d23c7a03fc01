"""Text against code, task by task: what a model does in words, and what with an interpreter.

Question   Which tasks are dead in words and alive with an interpreter?
Command    r1ci eval MODEL --agents all_text all_code code_agent --workdir runs/eval-NAME
           r1ci table text_code --runs runs/eval-NAME
Needs      results of All Text and of an agent that writes code, on the same tasks
Prints     a row per task, the largest difference first: accuracy of each agent, All Code less All
           Text (without All Code the Code Agent, or CodeSteer) with its 95 % interval, and what
           that says; below, the means over tasks

The interval of a difference is that of Newcombe (Statistics in Medicine 1998, method 10), from
those of `r1ci_jax/evaluate/intervals.py`. Both agents answer the same questions, which it does not
use: it is too wide rather than too narrow. With many tasks some of these intervals exclude 0 by
chance, one of 20 where nothing differs.
"""

import collections
import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from r1ci_jax.evaluate import intervals, results, tables
from r1ci_jax.evaluate.intervals import Difference, Estimate
from r1ci_jax.evaluate.results import Result, RunResults

WORDS: Final = "all_text"
CODE: Final = ("all_code", "code_agent", "codesteer")
"""Agents that may write code; the first of them that was evaluated is compared with All Text."""

VERDICTS: Final = ("code alone", "code better", "no difference shown", "neither", "words better")
"""`code alone`: nothing right in words, and the difference is above 0. `neither`: nothing right
with either. The others say whether the interval of the difference excludes 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """One model on one task."""

    model: str
    task: str
    split: str
    majority: float | None
    """Percent of the questions that the most common answer solves."""
    percents: Mapping[str, float]
    """Accuracy by agent."""
    difference: Difference
    verdict: str


def build(runs: Sequence[RunResults]) -> tables.Table:
    """The table for the given evaluations and runs."""
    found, notes = [], []
    for label, by_agent in _models(runs):
        compared = next((agent for agent in CODE if agent in by_agent), None)
        if WORDS not in by_agent or compared is None:
            notes.append(f"{label}: left out, it needs {WORDS} and one of {', '.join(CODE)}.")
            continue
        contrasts = _contrast_tasks(label, by_agent, compared)
        found += contrasts
        notes += _summarize(label, by_agent, compared, contrasts)
    found.sort(key=lambda each: -each.difference.mean)
    agents = [a for a in (WORDS, *CODE) if any(a in each.percents for each in found)]
    return tables.Table(
        title="Text against code: accuracy by task, %",
        columns=("model", "task", "split", "constant answer", *agents, "code - words", "verdict"),
        rows=tuple(_row(each, agents) for each in found),
        records=tuple(dataclasses.asdict(each) | _bounds(each) for each in found),
        note=" ".join([*notes, *dict.fromkeys(run.note for run in runs if run.note)]),
    )


def subtract(code: Estimate, words: Estimate) -> Difference:
    """Return code - words with its interval, from the two intervals (Newcombe's method 10)."""
    mean = code.mean - words.mean
    low = mean - math.hypot(code.mean - code.low, words.high - words.mean)
    high = mean + math.hypot(code.high - code.mean, words.mean - words.low)
    return Difference(mean, low, high)


def judge(code: float, words: float, difference: Difference) -> str:
    """Return the verdict on a task with these accuracies."""
    if code == words == 0:
        return "neither"
    if difference.low > 0:
        return "code better" if words else "code alone"
    return "words better" if difference.high < 0 else "no difference shown"


type _ByAgent = Mapping[str, Mapping[str, Result]]
"""Results of a model by agent and task."""


def _models(runs: Sequence[RunResults]) -> Iterator[tuple[str, _ByAgent]]:
    """Yield each model that was evaluated, by the name that the rows have."""
    for run in runs:
        by_model: dict[str, dict[str, dict[str, Result]]] = {}
        for (model, agent), members in results.group_by_model(run.results).items():
            known = {result.task: result for result in members}
            by_model.setdefault(model, {})[agent] = known
        for model, by_agent in by_model.items():
            yield run.label(model), by_agent


def _contrast_tasks(label: str, by_agent: _ByAgent, compared: str) -> list[Contrast]:
    contrasts = []
    for task, words in by_agent[WORDS].items():
        code = by_agent[compared].get(task)
        if code is None:
            continue
        difference = subtract(*(intervals.mean_of_tasks([each.counts]) for each in (code, words)))
        contrasts.append(
            Contrast(
                model=label,
                task=task,
                split=words.part,
                majority=None if words.majority is None else 100 * words.majority,
                percents={
                    agent: known[task].percent for agent, known in by_agent.items() if task in known
                },
                difference=difference,
                verdict=judge(code.percent, words.percent, difference),
            )
        )
    return contrasts


def _summarize(
    label: str, by_agent: _ByAgent, compared: str, contrasts: Sequence[Contrast]
) -> Iterator[str]:
    """Say what the tasks of each split say together."""
    for split in dict.fromkeys(each.split for each in contrasts):
        tasks = [each.task for each in contrasts if each.split == split]
        means = [
            intervals.mean_of_tasks([by_agent[agent][task].counts for task in tasks])
            for agent in (compared, WORDS)
        ]
        counts = collections.Counter(each.verdict for each in contrasts if each.split == split)
        verdicts = ", ".join(f"{name} {counts[name]}" for name in VERDICTS if counts[name])
        yield (
            f"{label}, {len(tasks)} {split} tasks: {compared} {means[0]}, {WORDS} {means[1]}, "
            f"difference {subtract(*means)}; {verdicts}."
        )


def _row(contrast: Contrast, agents: Sequence[str]) -> tuple[str, ...]:
    majority = "-" if contrast.majority is None else f"{contrast.majority:.1f}"
    percents = contrast.percents
    return (
        contrast.model,
        contrast.task,
        contrast.split,
        majority,
        *(f"{percents[agent]:.1f}" if agent in percents else "-" for agent in agents),
        str(contrast.difference),
        contrast.verdict,
    )


def _bounds(contrast: Contrast) -> dict[str, Any]:
    return {"difference": contrast.difference.mean, "interval": list(contrast.difference[1:])}


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "text_code", *sys.argv[1:]]))
