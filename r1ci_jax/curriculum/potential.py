"""Improvement potential of a question and the curriculum's groups (paper section 4.2).

A question that the model always or never answers teaches nothing by comparing answers. With p the
share of correct ones among N answers, given in four different ways at several temperatures, its
potential is Π = 4p(1-p): 1 where right and wrong are equally likely, 0 where all answers agree.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from r1ci_jax.config import PotentialConfig, SamplingParams
from r1ci_jax.data.datasets import GradedExample
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks.base import Example

QUESTIONS_PER_BLOCK = 32
"""Questions measured between two writes to potential.jsonl: what an interruption can cost."""


def potential(p: float) -> float:
    """Π = 4p(1-p).

    >>> potential(0.5), potential(0.2), potential(1.0)
    (1.0, 0.64, 0.0)
    """
    return round(4 * p * (1 - p), 12)


def group_number(value: float, lower_bounds: Sequence[float]) -> int:
    """Group of a potential, 1 for the largest; an edge belongs to the group above it.

    >>> [group_number(value, (0.64, 0.48, 0.32)) for value in (1.0, 0.64, 0.51, 0.36, 0.19)]
    [1, 1, 2, 3, 4]
    """
    return 1 + sum(value < edge for edge in lower_bounds)


def measure(
    runner: Runner,
    examples: Sequence[Example],
    config: PotentialConfig,
    path: Path,
    *,
    on_done: Callable[[int], None],
) -> list[GradedExample]:
    """Measure every question that `path` (potential.jsonl) does not hold yet; returns all, graded.

    Whole blocks are measured, also where an interrupted run has left a part of one: the same
    requests side by side give the same answers, bit for bit.

    Args:
        runner: Holds the model to be measured.
        examples: All questions, always in the same order.
        config: How often each is answered, and the groups' edges.
        path: Of potential.jsonl.
        on_done: Called with the number of measured questions.

    Raises:
        UserError: The interpreter failed in every answer to some question.
    """
    known: dict[str, float] = {row["example_id"]: row["p"] for row in metrics.read(path)}
    done = 0
    with metrics.JsonlLog(path) as log:
        for block in itertools.batched(enumerate(examples), QUESTIONS_PER_BLOCK):
            missing = [example for _, example in block if example.id not in known]
            votes = _count_correct(runner, block, config) if missing else {}
            for example in missing:
                p = _fraction_correct(example, votes[example.id])
                known[example.id] = p
                graded = _grade(example, p, config)
                log.append(
                    {
                        "example_id": example.id,
                        "task": example.task,
                        "p": p,
                        "potential": graded.potential,
                        "group": graded.group,
                        "answers": len(votes[example.id]),
                    }
                )
            done += len(block)
            on_done(done)
    return [_grade(example, known[example.id], config) for example in examples]


def _count_correct(
    runner: Runner, block: Sequence[tuple[int, Example]], config: PotentialConfig
) -> dict[str, list[bool]]:
    """For each question, which of its answers are correct; those that the sandbox lost are out."""
    votes: dict[str, list[bool]] = {example.id: [] for _, example in block}
    requests = [
        request for number, example in block for request in _make_requests(number, example, config)
    ]
    for trajectory in runner.run(requests):
        if trajectory.is_valid:
            votes[trajectory.example_id].append(trajectory.correct)
    return votes


def _fraction_correct(example: Example, votes: Sequence[bool]) -> float:
    if not votes:
        raise UserError(
            f"the interpreter failed in every answer to {example.id}: see `r1ci sandbox doctor`, "
            "then run again; what has been measured is kept"
        )
    return sum(votes) / len(votes)


def _grade(example: Example, p: float, config: PotentialConfig) -> GradedExample:
    value = potential(p)
    group = group_number(value, config.lower_bounds)
    return GradedExample(example=example, group=group, accuracy=p, potential=value)


def _make_requests(number: int, example: Example, config: PotentialConfig) -> Iterator[Request]:
    """Every way of answering, each at the configured temperatures."""
    for way, agent in enumerate(agents.AGENTS):
        for answer in range(config.samples_per_agent):
            yield Request(
                example=example,
                agent=agent,
                rollout_id=(number, way * config.samples_per_agent + answer),
                sampling=SamplingParams(
                    temperature=config.temperatures[answer % len(config.temperatures)]
                ),
            )
