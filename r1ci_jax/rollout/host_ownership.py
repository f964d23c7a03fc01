"""Ownership of slots by hosts: the owner runs a slot's tools and scores its answers.

All hosts drive the same slots through the same steps (docs/adr/0013). Each host owns a contiguous
block of slots: only there does it run scripts, call tools and score answers. When an observation is
due, or all episodes are done, the hosts exchange what each of them found out.
"""

import concurrent.futures
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import hosts
from r1ci_jax.sandbox import ExecResult

type ToolResult = ExecResult | str
"""The result of a script, or the text of another tool."""


def is_local(slot: int, slots: int) -> bool:
    """True if this host owns the slot: it runs the scripts and scores the answers."""
    return slot * hosts.count() // slots == hosts.index()


def gather_tool_results(
    futures: Mapping[int, "concurrent.futures.Future[Any] | None"],
) -> dict[int, ToolResult]:
    """Wait for the results of tools, by slot; a future that is None is another host's."""
    if hosts.count() == 1 or not futures:
        return {slot: future.result() for slot, future in futures.items() if future is not None}
    local = [
        (slot, _tool_result_to_json(future.result()))
        for slot, future in futures.items()
        if future is not None
    ]
    results = {
        slot: _tool_result_from_json(saved)
        for gathered in hosts.gather("scripts", local)
        for slot, saved in gathered
    }
    assert results.keys() == futures.keys(), "hosts wait for different scripts"
    return results


def gather_scores(ended: Sequence[tuple[bool, Trajectory]]) -> list[Trajectory]:
    """Return the trajectories with their owners' scores; `ended` are (is local, trajectory)."""
    if hosts.count() == 1:
        return [trajectory for _, trajectory in ended]
    local = [
        (index, trajectory.correct, trajectory.reward)
        for index, (is_local, trajectory) in enumerate(ended)
        if is_local
    ]
    scores = {
        index: score for gathered in hosts.gather("scores", local) for index, *score in gathered
    }
    assert len(scores) == len(ended), "hosts have ended different trajectories"
    return [
        dataclasses.replace(trajectory, correct=scores[index][0], reward=scores[index][1])
        for index, (_, trajectory) in enumerate(ended)
    ]


def _tool_result_to_json(result: ToolResult) -> Any:
    return result if isinstance(result, str) else serialize.result_to_json(result)


def _tool_result_from_json(saved: Any) -> ToolResult:
    return saved if isinstance(saved, str) else serialize.result_from_json(saved)
