"""Carrying unfinished trajectories over to the next step, with a bound on how stale they get.

A step that waits for its longest trajectory leaves most slots empty. With more groups in flight
than a step needs, it can end as soon as enough of them are complete; the others go on under the
next weights. Each token keeps the log-probability under the weights that sampled it, which is what
the policy ratio of GRPO needs. No group is older than `max_age` steps when it is trained on: a step
waits for groups that would be.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from r1ci_jax.config import SamplingParams
from r1ci_jax.rollout import agents, serialize
from r1ci_jax.rollout.episode import Episode, PartialRollout, Request
from r1ci_jax.rollout.runner import RolloutScheduler, Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example


def run_groups(
    runner: Runner,
    requests: Iterable[Request],
    partial: Sequence[PartialRollout],
    *,
    groups: int,
    step: int,
    max_staleness: int,
    on_done: Callable[[int], None] | None = None,
) -> tuple[list[Trajectory], list[PartialRollout]]:
    """Make trajectories until `groups` groups are complete, and all that began max_age steps ago.

    Returns the trajectories of the `groups` oldest complete groups, in the order of their rollouts,
    and everything else, to be handed in at the next step.

    Raises:
        UserError: A prompt does not fit into the cache.
    """
    known = [_mark_stale(entry) for entry in partial]
    known += [
        PartialRollout(first_step=step, episode=runner.new_episode(0, request), trajectory=None)
        for request in requests
    ]
    for index, entry in enumerate(known):
        entry.episode.index = index
    assert groups <= len({entry.group_id for entry in known}), "fewer groups in flight than needed"
    ended = {
        index: entry.trajectory for index, entry in enumerate(known) if entry.trajectory is not None
    }
    batch = RolloutScheduler(runner, [entry.episode for entry in known if entry.trajectory is None])

    def complete() -> set[int]:
        all_ended = ended.keys() | batch.ended.keys()
        open_groups = {entry.group_id for entry in known if entry.episode.index not in all_ended}
        return {entry.group_id for entry in known} - open_groups

    def enough() -> bool:
        due = {entry.group_id for entry in known if step - entry.first_step >= max_staleness}
        found = complete()
        return len(found) >= groups and due <= found

    if not enough():
        chunks = batch.chunks()
        for finished in chunks:
            if on_done is not None:
                on_done(finished)
            if enough():
                break
        batch.flush_pending_tools()
        chunks.close()
    taken = set(sorted(complete())[:groups])
    ended |= batch.trajectories()
    known.sort(key=lambda entry: entry.episode.request.rollout_id)
    return (
        [ended[entry.episode.index] for entry in known if entry.group_id in taken],
        [
            dataclasses.replace(entry, trajectory=ended.get(entry.episode.index))
            for entry in known
            if entry.group_id not in taken
        ],
    )


def _mark_stale(entry: PartialRollout) -> PartialRollout:
    """What there is of it was sampled under older weights."""
    entry.episode.num_stale_tokens = len(entry.episode.tokens)
    if entry.trajectory is None:
        return entry
    done = dataclasses.replace(entry.trajectory, num_stale_tokens=len(entry.trajectory.tokens))
    return dataclasses.replace(entry, trajectory=done)


def to_json(entry: PartialRollout) -> dict[str, Any]:
    """As JSON, for the checkpoint; a copy, which may be written while the row goes on."""
    row = entry.episode
    return {
        "first_step": entry.first_step,
        "trajectory": None
        if entry.trajectory is None
        else serialize.trajectory_to_json(entry.trajectory),
        "example": dataclasses.asdict(row.request.example),
        "agent": row.request.agent.name,
        "rollout_id": list(row.request.rollout_id),
        "sampling": dataclasses.asdict(row.request.sampling),
        "tokens": list(row.tokens),
        "sampled": list(row.sampled),
        "logprobs": list(row.logprobs),
        "turn_start": row.turn_start,
        "code_calls": [serialize.code_call_to_json(turn) for turn in row.code_calls],
        "num_messages": row.num_messages,
        "num_answers": row.num_answers,
        "seconds": row.seconds_before,
    }


def from_json(saved: dict[str, Any]) -> PartialRollout:
    """The inverse of `to_json`."""
    by_name = {agent.name: agent for agent in agents.AGENTS}
    group_id, sample_index = saved["rollout_id"]
    request = Request(
        example=Example(**saved["example"]),
        agent=by_name[saved["agent"]],
        rollout_id=(group_id, sample_index),
        sampling=SamplingParams(**saved["sampling"]),
    )
    row = Episode(
        index=0,
        request=request,
        tokens=list(saved["tokens"]),
        sampled=list(saved["sampled"]),
        logprobs=list(saved["logprobs"]),
        turn_start=saved["turn_start"],
        code_calls=[serialize.code_call_from_json(turn) for turn in saved["code_calls"]],
        num_messages=saved["num_messages"],
        num_answers=saved["num_answers"],
        seconds_before=saved["seconds"],
    )
    done = saved["trajectory"]
    return PartialRollout(
        first_step=saved["first_step"],
        episode=row,
        trajectory=None if done is None else serialize.trajectory_from_json(done),
    )
