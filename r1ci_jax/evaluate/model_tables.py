"""The table of one evaluated model: by agent, suite and split, as in the paper's Table 3."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1ci_jax.evaluate import bootstrap, pass_at_k
from r1ci_jax.evaluate.results import (
    Result,
    RunResults,
    group_by_model_and_split,
    mean_majority,
    mean_over_tasks,
    model_name,
    weighted_mean,
)
from r1ci_jax.evaluate.tables import CONSTANT_ANSWER, Table

_STOPS_SHOWN = 4
"""Most frequent stop reasons that a line shows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """Results that one line averages."""

    model: str
    agent: str
    suite: str
    """Name of the suite, or `all`."""
    split: str
    results: Sequence[Result]


def build(run: RunResults, *, seconds: Mapping[tuple[str, str], float] | None = None) -> Table:
    """Build a line per agent, suite and split.

    `seconds` are the mean wall seconds of a trajectory, by agent and task.
    """
    samples = max((q.n for result in run.results for q in result.counts), default=1)
    ks = pass_at_k.chosen_ks(samples)
    records = tuple(_summarize(part, ks, seconds or {}) for part in _parts(run.results))
    return Table(
        title=f"{run.name}: accuracy on held-out questions, %",
        columns=(
            *("agent", "tasks of", "tasks", "questions", f"avg@{samples}"),
            *("95 % over questions", "95 % over tasks"),
            *(f"pass@{k}" for k in ks),
            *(CONSTANT_ANSWER, "uses code", "calls", "tokens", "seconds", "stops, %", "void"),
        ),
        rows=tuple(_cells(record, ks) for record in records),
        records=records,
        note=_note(run, samples),
    )


def _parts(results: Sequence[Result]) -> Iterator[_Part]:
    """Yield the tasks of each agent and split together, then by suite if there are several."""
    for (model, agent, split), members in group_by_model_and_split(results).items():
        named = {"model": model, "agent": agent, "split": split}
        suites = dict.fromkeys(result.suite for result in members)
        if len(suites) == 1:
            yield _Part(**named, suite=next(iter(suites)) or "all", results=members)
            continue
        yield _Part(**named, suite="all", results=members)
        for suite in suites:
            of_suite = [result for result in members if result.suite == suite]
            yield _Part(**named, suite=suite, results=of_suite)


def _summarize(
    part: _Part, ks: Sequence[int], seconds: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    results = part.results
    tasks = [result.counts for result in results]
    estimate, of_tasks = mean_over_tasks(results), bootstrap.over_tasks(tasks)
    stops = sum((collections.Counter(result.stops) for result in results), collections.Counter())
    timed = [each for each in results if (part.agent, each.task) in seconds]
    answers = sum(each.n for each in timed)
    spent = sum(seconds[part.agent, each.task] * each.n for each in timed)
    return {
        "model": part.model,
        "agent": part.agent,
        "suite": part.suite,
        "split": part.split,
        "tasks": len(results),
        "questions": sum(len(counts) for counts in tasks),
        "answers": sum(result.n for result in results),
        "accuracy": estimate.mean,
        "interval": [estimate.low, estimate.high],
        "bootstrap_questions": list(bootstrap.over_questions(tasks)),
        "bootstrap_tasks": None if of_tasks is None else list(of_tasks),
        "pass_at_k": {str(k): _percent(pass_at_k.mean_over_tasks(tasks, k)) for k in ks},
        "constant_answer": mean_majority(results),
        "used_code_fraction": weighted_mean(results, "used_code_fraction"),
        "code_calls_per_trajectory": weighted_mean(results, "code_calls_per_trajectory"),
        "tokens_per_trajectory": weighted_mean(results, "tokens_per_trajectory"),
        "seconds_per_trajectory": spent / answers if answers else None,
        "stops": dict(stops.most_common()),
        "void": sum(result.void for result in results),
        "too_long": sum(result.too_long for result in results),
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _cells(record: Mapping[str, Any], ks: Sequence[int]) -> tuple[str, ...]:
    of_tasks, total = record["bootstrap_tasks"], sum(record["stops"].values())
    shown = list(record["stops"].items())[:_STOPS_SHOWN]
    used = _percent(record["used_code_fraction"])
    return (
        record["agent"],
        record["split"] if record["suite"] == "all" else f"{record['suite']} {record['split']}",
        str(record["tasks"]),
        str(record["questions"]),
        f"{record['accuracy']:.1f}",
        str(bootstrap.Interval(*record["bootstrap_questions"])),
        "-" if of_tasks is None else str(bootstrap.Interval(*of_tasks)),
        *(_number(record["pass_at_k"][str(k)], 1) for k in ks),
        _number(record["constant_answer"], 1),
        _number(used, 0),
        _number(record["code_calls_per_trajectory"], 2),
        _number(record["tokens_per_trajectory"], 0),
        _number(record["seconds_per_trajectory"], 1),
        ", ".join(f"{stop} {100 * count / total:.0f}" for stop, count in shown) or "-",
        str(record["void"]),
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _note(run: RunResults, samples: int) -> str:
    models = ", ".join(dict.fromkeys(model_name(result.model) for result in run.results))
    passed = " pass@k is the unbiased estimate, the mean over questions and then tasks." * (
        samples > 1
    )
    return (
        f"{models}: mean over tasks of the mean over answers.{passed} The intervals are "
        "bootstrapped: other questions of the same tasks, other tasks of the same kind; where all "
        "answers are alike the first has no width. Void: trajectories whose interpreter failed, "
        "left out. Uses code: % of trajectories; calls, tokens, seconds: per trajectory, of which "
        f"several run at a time. {run.note}"
    ).strip()
