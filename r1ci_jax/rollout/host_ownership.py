"""Ownership of slots by hosts: the owner runs a slot's tools and scores its answers.

All hosts drive the same slots through the same steps (docs/adr/0013). Each host owns a contiguous
block of slots: only there does it run scripts, call tools and score answers. Before each chunk the
hosts exchange the results that are there, and at the end the scores.
"""

import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.trajectory import RewardTerms, Trajectory
from r1ci_jax.runtime import hosts, preemption
from r1ci_jax.sandbox import ExecResult

SIGTERM_SECONDS = 1.0
"""A single host that waits for its scripts alone looks this often for a SIGTERM."""

type ToolResult = ExecResult | str
"""The result of a script, or the text of another tool."""
type ToolFuture = concurrent.futures.Future[ExecResult] | concurrent.futures.Future[str]


def is_local(slot: int, slots: int) -> bool:
    """True if this host owns the slot: it runs the scripts and scores the answers."""
    return slot * hosts.count() // slots == hosts.index()


def wait_for_any(futures: Iterable[ToolFuture | None], seconds: float | None = None) -> None:
    """Wait until a tool of any host is done, or for `seconds`; None is another host's tool."""
    local: list[concurrent.futures.Future[Any]] = [each for each in futures if each is not None]
    if hosts.count() > 1:
        hosts.wait_for_any(local, seconds)
        return
    end = math.inf if seconds is None else time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        wait = min(left, SIGTERM_SECONDS)
        if concurrent.futures.wait(local, wait, concurrent.futures.FIRST_COMPLETED).done:
            return
        preemption.raise_if_preempted()


def wait_for_all(futures: Iterable[ToolFuture | None]) -> None:
    """Wait until all tools of this host are done."""
    local: list[concurrent.futures.Future[Any]] = [each for each in futures if each is not None]
    concurrent.futures.wait(local)


def gather_finished(futures: Mapping[int, ToolFuture | None]) -> dict[int, ToolResult]:
    """Return the results that are there, by slot; a future that is None is another host's."""
    local = {
        slot: future.result()
        for slot, future in futures.items()
        if future is not None and future.done()
    }
    if hosts.count() == 1 or not futures:
        return local
    pairs = [(slot, _tool_result_to_json(result)) for slot, result in local.items()]
    return {
        slot: _tool_result_from_json(saved)
        for gathered in hosts.gather("scripts", pairs)
        for slot, saved in gathered
    }


def gather_scores(ended: Sequence[tuple[bool, Trajectory]]) -> list[Trajectory]:
    """Return the trajectories with their owners' scores; `ended` are (is local, trajectory)."""
    if hosts.count() == 1 or not ended:
        return [trajectory for _, trajectory in ended]
    local = [
        (index, trajectory.correct, trajectory.reward, trajectory.reward_terms)
        for index, (is_local, trajectory) in enumerate(ended)
        if is_local
    ]
    scores = {
        index: score for gathered in hosts.gather("scores", local) for index, *score in gathered
    }
    assert len(scores) == len(ended), "hosts have ended different trajectories"
    return [
        dataclasses.replace(
            trajectory,
            correct=scores[index][0],
            reward=scores[index][1],
            reward_terms=RewardTerms(*scores[index][2]) if scores[index][2] else None,
        )
        for index, (_, trajectory) in enumerate(ended)
    ]


def _tool_result_to_json(result: ToolResult) -> Any:
    return result if isinstance(result, str) else serialize.result_to_json(result)


def _tool_result_from_json(saved: Any) -> ToolResult:
    return saved if isinstance(saved, str) else serialize.result_from_json(saved)
