"""Summaries of trajectories: metrics for metrics.jsonl, records for trajectories.jsonl."""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

from r1ci_jax.rollout import sandbox_faults
from r1ci_jax.rollout.trajectory import RewardTerms, Trajectory
from r1ci_jax.sandbox import Status
from r1ci_jax.text.tokenizer import Tokenizer

TIMEOUTS = (Status.TIMEOUT_CPU, Status.TIMEOUT_WALL)


def compute_means(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Compute means over a batch or a part of it, under the names of docs/metrics.md.

    Of a trajectory whose interpreter failed, only the stop reason and the fault count.
    """
    valid = [trajectory for trajectory in trajectories if trajectory.is_valid]
    results = [call.result for trajectory in valid for call in trajectory.code_calls]
    found = {
        "reward/mean": _mean([trajectory.reward for trajectory in valid]),
        "accuracy": _mean([trajectory.correct for trajectory in valid]),
        "tool/calls_per_traj": _mean([trajectory.num_calls for trajectory in valid]),
        "tool/used_fraction": _mean([trajectory.num_calls > 0 for trajectory in valid]),
        "tool/error_rate": _mean([result.status is not Status.OK for result in results]),
        "tool/timeout_rate": _mean([result.status in TIMEOUTS for result in results]),
        "tool/sandbox_fault_rate": sandbox_faults.fault_fraction(trajectories),
        "len/tokens": _mean([sum(trajectory.sampled) for trajectory in valid]),
        "len/turns": _mean([trajectory.num_turns for trajectory in valid]),
    }
    terms = [trajectory.reward_terms for trajectory in valid if trajectory.reward_terms]
    if terms and len(terms) == len(valid):
        for term, values in zip(RewardTerms._fields, zip(*terms, strict=True), strict=True):
            found[f"reward_term/{term}"] = _mean(values)
    for stop, count in collections.Counter(t.stop.value for t in trajectories).items():
        found[f"stop/{stop}"] = count / len(trajectories)
    return found


def compute_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Compute means over a batch, reward and accuracy also by task."""
    found = compute_means(trajectories)
    by_task = collections.defaultdict(list)
    for trajectory in trajectories:
        if trajectory.is_valid:
            by_task[trajectory.task].append(trajectory)
    for task, members in sorted(by_task.items()):
        found[f"reward/{task}"] = _mean([member.reward for member in members])
        found[f"accuracy/{task}"] = _mean([member.correct for member in members])
    return found


def sample_by_reward(trajectories: Sequence[Trajectory], count: int) -> list[Trajectory]:
    """Return the best, the worst and an even spread in between, by reward."""
    ranked = sorted(
        trajectories, key=lambda trajectory: (-trajectory.reward, trajectory.rollout_id)
    )
    if len(ranked) <= count:
        return ranked
    if count == 1:
        return ranked[:1]
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def to_record(
    trajectory: Trajectory, tokenizer: Tokenizer, stage: str, step: int
) -> dict[str, Any]:
    """Return one record of trajectories.jsonl."""
    terms = trajectory.reward_terms
    pairs = zip(trajectory.tokens, trajectory.sampled, strict=True)
    segments = [
        (sampled, [token for token, _ in members])
        for sampled, members in itertools.groupby(pairs, key=lambda pair: pair[1])
    ]
    return {
        "stage": stage,
        "step": step,
        "task": trajectory.task,
        "example_id": trajectory.example_id,
        "question": trajectory.question,
        "agent": trajectory.agent,
        "reward": trajectory.reward if trajectory.is_valid else None,
        "reward_terms": terms._asdict() if terms and trajectory.is_valid else None,
        "correct": trajectory.correct if trajectory.is_valid else None,
        "stop": trajectory.stop.value,
        # The first segment is the prompt, which `question` already shows.
        "segments": [
            {"text": tokenizer.decode(ids), "sampled": sampled} for sampled, ids in segments[1:]
        ],
        "code_calls": [
            {
                "code": call.code,
                "status": call.result.status.value,
                "stdout": call.result.stdout,
                "stderr": call.result.stderr,
                "wall_seconds": round(call.result.wall_seconds, 4),
            }
            for call in trajectory.code_calls
        ],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
