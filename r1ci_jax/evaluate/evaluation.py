"""Accuracy on held-out questions."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from r1ci_jax.config import EvalConfig
from r1ci_jax.rollout import agents, sandbox_faults
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

ANSWERS_PER_BLOCK = 256
"""Answers after which it is checked that the sandbox works."""


def evaluate(
    runner: Runner,
    examples: Sequence[Example],
    config: EvalConfig,
    *,
    on_done: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Answer every question as the code agent, `samples_per_question` times.

    Raises:
        SandboxFaults: The sandbox failed in too many scripts of a block of answers.
    """
    requests = [
        Request(
            example=example,
            agent=agents.CodeAgent(),
            rollout_id=RolloutId(number, sample),
            sampling=config.sampling,
        )
        for number, example in enumerate(examples)
        for sample in range(config.samples_per_question)
    ]
    trajectories: list[Trajectory] = []
    blocks = itertools.batched(requests, ANSWERS_PER_BLOCK)
    with contextlib.closing(runner.run_batches(blocks, on_done=on_done)) as answered:
        for block in answered:
            first = len(trajectories) + 1
            trajectories += block
            sandbox_faults.require_few(
                block,
                config.max_sandbox_fault_fraction,
                section="eval",
                where=f"answers {first} to {len(trajectories)}",
            )
    return trajectories


def make_records(
    model: str, trajectories: Sequence[Trajectory], examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Make the records of results.jsonl, one per task, without failures of the interpreter."""
    difficulty = {example.id: example.difficulty for example in examples}
    by_task: dict[str, list[Trajectory]] = collections.defaultdict(list)
    for trajectory in trajectories:
        by_task[trajectory.task].append(trajectory)
    records = []
    for task, members in sorted(by_task.items()):
        valid = [member for member in members if member.is_valid]
        levels: dict[str, dict[str, int]] = {}
        for member in sorted(valid, key=lambda member: difficulty[member.example_id]):
            level = levels.setdefault(str(difficulty[member.example_id]), {"n": 0, "correct": 0})
            level["n"] += 1
            level["correct"] += member.correct
        correct = sum(member.correct for member in valid)
        records.append(
            {
                "model": model,
                "agent": agents.CodeAgent.name,
                "task": task,
                "suite": registry.get(task).suite,
                "split": registry.get(task).split,
                "n": len(valid),
                "correct": correct,
                "accuracy": correct / max(len(valid), 1),
                "stops": dict(collections.Counter(member.stop.value for member in members)),
                "code_calls_per_trajectory": sum(len(m.code_calls) for m in valid)
                / max(len(valid), 1),
                "used_code_fraction": sum(bool(m.code_calls) for m in valid) / max(len(valid), 1),
                "difficulty": levels,
            }
        )
    return records
