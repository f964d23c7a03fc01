"""Improvement potential of questions, and its groups (paper section 4.2).

A question that the model always or never answers correctly teaches nothing by comparing answers.
With p the fraction of correct ones among N answers, sampled with four agents at several
temperatures, its potential is Π = 4p(1-p): 1 if right and wrong are equally likely, 0 if all
answers agree.

A policy that guesses between two classes has p near one half, and so the largest potential. With
`chance_corrected`, p' = max(0, (p - c) / (1 - c)) takes the place of p: c is the score of a
constant answer, the fraction of the task's most common gold among the questions. Then guessing has
no potential, and Π is 1 halfway between guessing and knowing.

N answers are few: Wilson's 95 % interval of p is stored with it. It takes the answers for alike and
independent of each other, though four agents at several temperatures gave them.
"""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import PotentialConfig, SamplingParams
from r1ci_jax.data import stats
from r1ci_jax.data.datasets import GradedExample
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents, sandbox_faults
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks.base import Example

QUESTIONS_PER_BLOCK = 32
"""Measure this many questions per write to potential.jsonl; an interruption loses at most these."""

RECORD_FIELDS = {
    "example_id": str,
    "task": str,
    "p": (int, float),
    "potential": (int, float),
    "group": int,
}
"""Fields of every record of potential.jsonl, with their types."""


FIRST_SAMPLE_AGAIN = 1 << 20
"""Sample index of a question's first answer where it is measured again during a training, whose own
trajectories have smaller ones: none of them shares its random numbers with another."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remeasurement:
    """One measurement during the training of an arm."""

    arm: str
    step: int
    """Steps of the training that are done."""
    number: int
    """Measurements of an arm are numbered from 1; the one before its training is not among them."""

    @property
    def label(self) -> dict[str, str | int]:
        """Fields that tell its records from others."""
        return {"arm": self.arm, "step": self.step}


def potential(p: float) -> float:
    """Compute Π = 4p(1-p).

    >>> potential(0.5), potential(0.2), potential(1.0)
    (1.0, 0.64, 0.0)
    """
    return round(4 * p * (1 - p), 12)


def above_chance(p: float, chance: float) -> float:
    """Compute p' = max(0, (p - c) / (1 - c)); 0 where a constant answer is always right.

    >>> above_chance(0.75, 0.5), above_chance(0.5, 0.5), above_chance(1.0, 0.5)
    (0.5, 0.0, 1.0)
    """
    return max(0.0, (p - chance) / (1 - chance)) if chance < 1 else 0.0


def measure_chance(examples: Sequence[Example]) -> dict[str, float]:
    """Compute what a constant answer scores, by task; 0 where no answers are stored."""
    by_task: dict[str, list[Example]] = collections.defaultdict(list)
    for example in examples:
        by_task[example.task].append(example)
    return {task: stats.majority_fraction(task, rows) or 0.0 for task, rows in by_task.items()}


def group_number(value: float, lower_bounds: Sequence[float]) -> int:
    """Return the group of a potential, 1 for the largest; a lower bound belongs to its group.

    >>> [group_number(value, (0.64, 0.48, 0.32)) for value in (1.0, 0.64, 0.51, 0.36, 0.19)]
    [1, 1, 2, 3, 4]
    """
    return 1 + sum(value < bound for bound in lower_bounds)


def possible_groups(
    low: float, high: float, config: PotentialConfig, *, chance: float = 0.0
) -> tuple[int, int]:
    """Return the first and the last group that a question with p in [low, high] may belong to.

    Π rises up to p = 1/2 and falls from there. `chance` counts with `chance_corrected` alone.

    >>> possible_groups(0.3, 0.7, PotentialConfig()), possible_groups(0.0, 0.16, PotentialConfig())
    ((1, 1), (2, 4))
    """
    if config.chance_corrected:
        low, high = above_chance(low, chance), above_chance(high, chance)
    ends = potential(low), potential(high)
    largest = 1.0 if low <= 0.5 <= high else max(ends)
    bounds = config.lower_bounds
    return group_number(largest, bounds), group_number(min(ends), bounds)


def measure(
    runner: Runner,
    examples: Sequence[Example],
    config: PotentialConfig,
    path: Path,
    *,
    on_done: Callable[[int], None],
    again: Remeasurement | None = None,
) -> list[GradedExample]:
    """Measure every question that `path` (potential.jsonl) does not hold yet; return all, graded.

    Blocks are measured completely, even if an interrupted run has left a part of one, and the next
    ones fill the slots that a block leaves free.

    Args:
        runner: Holds the model to be measured.
        examples: All questions, always in the same order.
        config: The number of answers and their temperatures, and the groups' lower bounds.
        path: Path of potential.jsonl, or of remeasured.jsonl.
        on_done: Called with the number of measured questions.
        again: The measurement, where it is one of several in `path`; its records alone count.

    Raises:
        UserError: The interpreter failed in every answer to a question, or too often in a block.
    """
    records = metrics.read(path, required=RECORD_FIELDS)
    label = again.label if again is not None else {}
    known: dict[str, float] = {
        record["example_id"]: record["p"] for record in records if label.items() <= record.items()
    }
    chance = measure_chance(examples)
    blocks = _unfinished(examples, known)
    done = len(examples) - sum(map(len, blocks))
    if done:
        on_done(done)
    first = _first_rollout(again, len(examples))
    measured = runner.run_batches(_block_requests(block, config, first) for block in blocks)
    with metrics.JsonlLog(path) as log, contextlib.closing(measured):
        for block, trajectories in zip(blocks, measured, strict=True):
            sandbox_faults.require_few(
                trajectories,
                config.max_sandbox_fault_fraction,
                section="potential",
                where=f"questions {block[0][0] + 1} to {block[-1][0] + 1}",
            )
            scores = _scores(trajectories)
            for example in [example for _, example in block if example.id not in known]:
                p = _fraction_correct(example, scores[example.id])
                known[example.id] = p
                graded = _grade(example, p, chance[example.task], config)
                record = _record(graded, chance[example.task], len(scores[example.id]))
                log.append(label | record)
            done += len(block)
            on_done(done)
    return grade(examples, known, config)


def grade(
    examples: Sequence[Example], accuracies: Mapping[str, float], config: PotentialConfig
) -> list[GradedExample]:
    """Grade the questions by their fractions p of correct answers, given by id."""
    chance = measure_chance(examples)
    return [
        _grade(example, accuracies[example.id], chance[example.task], config)
        for example in examples
    ]


def _first_rollout(again: Remeasurement | None, num_questions: int) -> RolloutId:
    """Return the id of the first answer to the first question."""
    if again is None:
        return RolloutId(0, 0)
    return RolloutId(again.number * num_questions, FIRST_SAMPLE_AGAIN)


def _unfinished(
    examples: Sequence[Example], known: Collection[str]
) -> list[tuple[tuple[int, Example], ...]]:
    """Return the blocks that have a question which was not measured yet."""
    return [
        block
        for block in itertools.batched(enumerate(examples), QUESTIONS_PER_BLOCK)
        if any(example.id not in known for _, example in block)
    ]


def _block_requests(
    block: Sequence[tuple[int, Example]], config: PotentialConfig, first: RolloutId
) -> list[Request]:
    return [
        request
        for number, example in block
        for request in _make_requests(number, example, config, first)
    ]


def _scores(trajectories: Iterable[Trajectory]) -> dict[str, list[bool]]:
    """Return the scores of each question's answers, except those that the sandbox lost."""
    scores: dict[str, list[bool]] = collections.defaultdict(list)
    for trajectory in trajectories:
        if trajectory.is_valid:
            scores[trajectory.example_id].append(trajectory.correct)
    return scores


def _fraction_correct(example: Example, scores: Sequence[bool]) -> float:
    if not scores:
        raise UserError(
            f"the interpreter failed in every answer to {example.id}: see `r1ci sandbox doctor`, "
            "then run again; what has been measured is kept"
        )
    return sum(scores) / len(scores)


def _record(graded: GradedExample, chance: float, answers: int) -> dict[str, Any]:
    """Return the record of potential.jsonl."""
    low, high = stats.wilson(graded.accuracy, answers)
    return {
        "example_id": graded.example.id,
        "task": graded.example.task,
        "p": graded.accuracy,
        "p_low": low,
        "p_high": high,
        "chance": chance,
        "potential": graded.potential,
        "group": graded.group,
        "answers": answers,
    }


def _grade(example: Example, p: float, chance: float, config: PotentialConfig) -> GradedExample:
    value = potential(above_chance(p, chance) if config.chance_corrected else p)
    group = group_number(value, config.lower_bounds)
    return GradedExample(example=example, group=group, accuracy=p, potential=value)


def _make_requests(
    number: int, example: Example, config: PotentialConfig, first: RolloutId
) -> Iterator[Request]:
    """Yield requests for answers of every agent at the configured temperatures."""
    for agent_index, agent in enumerate(agents.get_all(config.agents)):
        for answer in range(config.samples_per_agent):
            yield Request(
                example=example,
                agent=agent,
                rollout_id=RolloutId(
                    first.group_id + number,
                    first.sample_index + agent_index * config.samples_per_agent + answer,
                ),
                sampling=SamplingParams(
                    temperature=config.temperatures[answer % len(config.temperatures)]
                ),
            )
