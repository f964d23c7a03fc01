"""Accuracy on held-out questions, measured block by block and kept question by question."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import EvalConfig
from r1ci_jax.data import stats
from r1ci_jax.rollout import agents, sandbox_faults
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

TRAJECTORIES_PER_SLOT = 16
"""Each slot samples about this many trajectories per block; a block is kept at its end."""


def questions_per_block(config: EvalConfig, slots: int) -> int:
    """Return the number of questions between two writes; an interruption loses at most these."""
    return max(TRAJECTORIES_PER_SLOT * slots // config.samples_per_question, 1)


def evaluate(
    runner: Runner,
    examples: Sequence[Example],
    config: EvalConfig,
    path: Path,
    *,
    model: str,
    block_size: int,
    on_done: Callable[[int], None],
    on_block: Callable[[int, Sequence[Trajectory]], None],
) -> None:
    """Answer, as the code agent, every question that `path` (evaluation.jsonl) does not hold yet.

    Blocks are evaluated completely, even if an interrupted run has left a part of one: the same
    requests give the same answers, bit for bit. The runner does not wait between two blocks.

    Args:
        runner: Holds the model.
        examples: All questions, always in the same order.
        config: The number of answers to a question, and how they are sampled.
        path: Path of evaluation.jsonl.
        model: Name of the model in its records.
        block_size: Number of questions of a block; the last one may have fewer.
        on_done: Called with the number of finished trajectories.
        on_block: Called with a block's number, from 1, and its trajectories, before they are kept.

    Raises:
        SandboxFaults: The sandbox failed in too many scripts of a block.
    """
    known = set(read(path, model))
    blocks = [
        (number, block)
        for number, block in enumerate(itertools.batched(enumerate(examples), block_size), start=1)
        if any(example.id not in known for _, example in block)
    ]
    asked = sum(len(block) for _, block in blocks)
    before = (len(examples) - asked) * config.samples_per_question
    if before:
        on_done(before)
    answered = runner.run_batches(
        (_make_requests(block, config) for _, block in blocks),
        on_done=lambda done: on_done(before + done),
    )
    with metrics.JsonlLog(path) as log, contextlib.closing(answered):
        for (number, block), trajectories in zip(blocks, answered, strict=True):
            sandbox_faults.require_few(
                trajectories,
                config.max_sandbox_fault_fraction,
                section="eval",
                where=f"questions {block[0][0] + 1} to {block[-1][0] + 1}",
            )
            on_block(number, trajectories)
            by_question: dict[str, list[Trajectory]] = collections.defaultdict(list)
            for trajectory in trajectories:
                by_question[trajectory.example_id].append(trajectory)
            for example in [example for _, example in block if example.id not in known]:
                log.append(question_record(model, example, by_question[example.id]))


def _make_requests(block: Sequence[tuple[int, Example]], config: EvalConfig) -> list[Request]:
    return [
        Request(
            example=example,
            agent=agents.CodeAgent(),
            rollout_id=RolloutId(number, sample),
            sampling=config.sampling,
        )
        for number, example in block
        for sample in range(config.samples_per_question)
    ]


def read(path: Path, model: str) -> dict[str, metrics.Record]:
    """Read the records of evaluation.jsonl of one model, by question."""
    records = metrics.read(path, required={"model": str, "example_id": str})
    return {record["example_id"]: record for record in records if record["model"] == model}


def question_record(
    model: str, example: Example, trajectories: Sequence[Trajectory]
) -> dict[str, Any]:
    """Make the record of evaluation.jsonl: what the answers to one question were."""
    valid = [trajectory for trajectory in trajectories if trajectory.is_valid]
    return {
        "model": model,
        "agent": agents.CodeAgent.name,
        "task": example.task,
        "example_id": example.id,
        "n": len(valid),
        "correct": sum(trajectory.correct for trajectory in valid),
        "void": len(trajectories) - len(valid),
        "stops": dict(collections.Counter(each.stop.value for each in trajectories)),
        "code_calls": sum(len(trajectory.code_calls) for trajectory in valid),
        "used_code": sum(bool(trajectory.code_calls) for trajectory in valid),
    }


def make_records(
    model: str, answered: Mapping[str, Mapping[str, Any]], examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Make the records of results.jsonl, one per task, without failures of the interpreter.

    `answered` holds the records of `question_record`, by question.
    """
    by_task: dict[str, list[Example]] = collections.defaultdict(list)
    for example in examples:
        by_task[example.task].append(example)
    return [
        _task_record(model, task, members, answered) for task, members in sorted(by_task.items())
    ]


def _task_record(
    model: str,
    task: str,
    examples: Sequence[Example],
    answered: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    rows = [answered[example.id] for example in examples]
    n, correct = sum(row["n"] for row in rows), sum(row["correct"] for row in rows)
    stops = collections.Counter[str]()
    levels: dict[str, dict[str, int]] = {}
    for example, row in sorted(zip(examples, rows, strict=True), key=lambda p: p[0].difficulty):
        stops.update(row["stops"])
        if row["n"]:
            level = levels.setdefault(str(example.difficulty), {"n": 0, "correct": 0})
            level["n"] += row["n"]
            level["correct"] += row["correct"]
    return {
        "model": model,
        "agent": agents.CodeAgent.name,
        "task": task,
        "suite": registry.get(task).suite,
        "split": registry.get(task).split,
        "n": n,
        "correct": correct,
        "accuracy": correct / max(n, 1),
        "void": sum(row["void"] for row in rows),
        "majority": stats.majority_fraction(task, examples),
        "questions": {row["example_id"]: [row["n"], row["correct"]] for row in rows},
        "stops": dict(stops),
        "code_calls_per_trajectory": sum(row["code_calls"] for row in rows) / max(n, 1),
        "used_code_fraction": sum(row["used_code"] for row in rows) / max(n, 1),
        "difficulty": levels,
    }
