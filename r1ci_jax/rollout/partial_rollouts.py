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

from r1ci_jax.config import Sampling
from r1ci_jax.rollout import agents, serialize
from r1ci_jax.rollout.episode import Carried, Live, Request
from r1ci_jax.rollout.runner import Batch, Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example


def run_groups(
    runner: Runner,
    requests: Iterable[Request],
    carried: Sequence[Carried],
    *,
    groups: int,
    step: int,
    max_age: int,
    on_done: Callable[[int], None] | None = None,
) -> tuple[list[Trajectory], list[Carried]]:
    """Make trajectories until `groups` groups are complete, and all that began max_age steps ago.

    Returns the trajectories of the `groups` oldest complete groups, in the order of their rollouts,
    and everything else, to be handed in at the next step.

    Raises:
        UserError: A prompt does not fit into the cache.
    """
    known = [_aged(entry) for entry in carried]
    known += [Carried(born=step, row=runner.new_row(0, request), done=None) for request in requests]
    for index, entry in enumerate(known):
        entry.row.index = index
    assert groups <= len({entry.group for entry in known}), "fewer groups in flight than needed"
    ended = {index: entry.done for index, entry in enumerate(known) if entry.done is not None}
    batch = Batch(runner, [entry.row for entry in known if entry.done is None])

    def complete() -> set[int]:
        all_ended = ended.keys() | batch.ended.keys()
        open_groups = {entry.group for entry in known if entry.row.index not in all_ended}
        return {entry.group for entry in known} - open_groups

    def enough() -> bool:
        due = {entry.group for entry in known if step - entry.born >= max_age}
        found = complete()
        return len(found) >= groups and due <= found

    if not enough():
        chunks = batch.chunks()
        for finished in chunks:
            if on_done is not None:
                on_done(finished)
            if enough():
                break
        batch.settle()
        chunks.close()
    taken = set(sorted(complete())[:groups])
    ended |= batch.done()
    known.sort(key=lambda entry: entry.row.request.rollout)
    return (
        [ended[entry.row.index] for entry in known if entry.group in taken],
        [
            dataclasses.replace(entry, done=ended.get(entry.row.index))
            for entry in known
            if entry.group not in taken
        ],
    )


def _aged(entry: Carried) -> Carried:
    """What there is of it was sampled under older weights."""
    entry.row.stale = len(entry.row.tokens)
    if entry.done is None:
        return entry
    done = dataclasses.replace(entry.done, stale=len(entry.done.tokens))
    return dataclasses.replace(entry, done=done)


def carried_row(entry: Carried) -> dict[str, Any]:
    """As JSON, for the checkpoint; a copy, which may be written while the row goes on."""
    row = entry.row
    return {
        "born": entry.born,
        "done": None if entry.done is None else serialize.trajectory_row(entry.done),
        "example": dataclasses.asdict(row.request.example),
        "agent": row.request.agent.name,
        "rollout": list(row.request.rollout),
        "sampling": dataclasses.asdict(row.request.sampling),
        "tokens": list(row.tokens),
        "sampled": list(row.sampled),
        "logprobs": list(row.logprobs),
        "turn_start": row.turn_start,
        "turns": [serialize.turn_row(turn) for turn in row.turns],
        "said": row.said,
        "answers": row.answers,
        "seconds": row.seconds_before,
    }


def carried_of(saved: dict[str, Any]) -> Carried:
    """The inverse of `carried_row`."""
    by_name = {agent.name: agent for agent in agents.ALL}
    rollout, member = saved["rollout"]
    request = Request(
        example=Example(**saved["example"]),
        agent=by_name[saved["agent"]],
        rollout=(rollout, member),
        sampling=Sampling(**saved["sampling"]),
    )
    row = Live(
        index=0,
        request=request,
        tokens=list(saved["tokens"]),
        sampled=list(saved["sampled"]),
        logprobs=list(saved["logprobs"]),
        turn_start=saved["turn_start"],
        turns=[serialize.turn_of(turn) for turn in saved["turns"]],
        said=saved["said"],
        answers=saved["answers"],
        seconds_before=saved["seconds"],
    )
    done = saved["done"]
    return Carried(
        born=saved["born"], row=row, done=None if done is None else serialize.trajectory_of(done)
    )
