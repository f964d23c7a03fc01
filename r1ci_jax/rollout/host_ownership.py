"""Which host runs a trajectory's scripts and judges its answer, and how the others learn of it.

All hosts drive the same slots through the same steps (docs/adr/0013). A contiguous block of slots
is a host's own: only there scripts run, tools are called and answers are judged. When an
observation is due, or a batch is done, everyone gets what it did not find out itself.
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
"""What the interpreter did, or a tool said."""


def is_local(slot: int, slots: int) -> bool:
    """Whether this host sees to what happens in a slot."""
    return slot * hosts.count() // slots == hosts.index()


def gather_tool_results(
    waiting: Mapping[int, "concurrent.futures.Future[Any] | None"],
) -> dict[int, ToolResult]:
    """What came out, by slot; waits for it. A future that is None is another host's."""
    if hosts.count() == 1 or not waiting:
        return {slot: future.result() for slot, future in waiting.items() if future is not None}
    own = [
        (slot, _tool_result_to_json(future.result()))
        for slot, future in waiting.items()
        if future is not None
    ]
    found = {
        slot: _tool_result_from_json(row)
        for rows in hosts.gather("scripts", own)
        for slot, row in rows
    }
    assert found.keys() == waiting.keys(), "hosts wait for different scripts"
    return found


def gather_scores(ended: Sequence[tuple[bool, Trajectory]]) -> list[Trajectory]:
    """The trajectories with the verdicts of those who judged them: (is own, trajectory)."""
    if hosts.count() == 1:
        return [trajectory for _, trajectory in ended]
    own = [
        (place, trajectory.correct, trajectory.reward)
        for place, (is_own, trajectory) in enumerate(ended)
        if is_own
    ]
    verdicts = {place: rest for rows in hosts.gather("verdicts", own) for place, *rest in rows}
    assert len(verdicts) == len(ended), "hosts have ended different trajectories"
    return [
        dataclasses.replace(trajectory, correct=verdicts[place][0], reward=verdicts[place][1])
        for place, (_, trajectory) in enumerate(ended)
    ]


def _tool_result_to_json(outcome: ToolResult) -> Any:
    return outcome if isinstance(outcome, str) else serialize.result_to_json(outcome)


def _tool_result_from_json(row: Any) -> ToolResult:
    return row if isinstance(row, str) else serialize.result_from_json(row)
