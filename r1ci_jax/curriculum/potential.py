"""Improvement potential of a question and the curriculum's groups (paper section 4.2).

A question that the model always or never answers teaches nothing by comparing answers. With p the share
of correct ones among N answers, given in four different ways at several temperatures, its potential is
Π = 4p(1-p): 1 where right and wrong are equally likely, 0 where all answers agree.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from r1ci_jax.core import metrics
from r1ci_jax.core.config import PotentialConfig
from r1ci_jax.data.builders import Graded
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example

QUESTIONS_PER_BLOCK = 32
"""Questions measured between two writes to potential.jsonl: what an interruption can cost."""


def potential(p: float) -> float:
    """Π = 4p(1-p).

    >>> potential(0.5), potential(0.2), potential(1.0)
    (1.0, 0.64, 0.0)
    """
    return round(4 * p * (1 - p), 12)


def group_of(value: float, edges: Sequence[float]) -> int:
    """Group of a potential, 1 for the largest; an edge belongs to the group above it.

    >>> [group_of(value, (0.64, 0.48, 0.32)) for value in (1.0, 0.64, 0.51, 0.36, 0.19)]
    [1, 1, 2, 3, 4]
    """
    return 1 + sum(value < edge for edge in edges)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Answers to one question, counted."""

    example: Example
    answers: int
    """Answers that count: those whose interpreter worked."""
    correct: int


def measure(
    runner: Runner,
    examples: Sequence[Example],
    config: PotentialConfig,
    path: Path,
    *,
    on_done: Callable[[int], None],
) -> list[Graded]:
    """Measure every question that `path` (potential.jsonl) does not hold yet; returns all, graded.

    Args:
        on_done: called with the number of measured questions.
    """
    known = {row["example_id"]: row["p"] for row in metrics.read(path)}
    with metrics.JsonlLog(path) as log:
        for first in range(0, len(examples), QUESTIONS_PER_BLOCK):
            block = list(enumerate(examples))[first : first + QUESTIONS_PER_BLOCK]
            missing = [(number, example) for number, example in block if example.id not in known]
            requests = [request for pair in missing for request in _requests(*pair, config)]
            trajectories = runner.run(requests) if requests else []
            for measured in _count([example for _, example in missing], trajectories):
                p = measured.correct / max(measured.answers, 1)
                known[measured.example.id] = p
                graded = _grade(measured.example, p, config)
                log.append(
                    {
                        "example_id": graded.example.id,
                        "task": graded.example.task,
                        "p": p,
                        "potential": graded.potential,
                        "group": graded.group,
                        "answers": measured.answers,
                    }
                )
            on_done(first + len(block))
    return [_grade(example, known[example.id], config) for example in examples]


def _grade(example: Example, p: float, config: PotentialConfig) -> Graded:
    value = potential(p)
    group = group_of(value, config.edges)
    return Graded(example=example, group=group, accuracy=p, potential=value)


def _requests(number: int, example: Example, config: PotentialConfig) -> Iterator[Request]:
    """Every way of answering, each at the configured temperatures."""
    for way, agent in enumerate(agents.ALL):
        for answer in range(config.answers_per_agent):
            yield Request(
                example=example,
                agent=agent,
                rollout=(number, way * config.answers_per_agent + answer),
                temperature=config.temperatures[answer % len(config.temperatures)],
            )


def _count(examples: Sequence[Example], trajectories: Sequence[Trajectory]) -> list[Measured]:
    answers: dict[str, list[bool]] = {example.id: [] for example in examples}
    for trajectory in trajectories:
        if trajectory.is_valid:
            answers[trajectory.example_id].append(trajectory.correct)
    return [
        Measured(
            example=example, answers=len(answers[example.id]), correct=sum(answers[example.id])
        )
        for example in examples
    ]
