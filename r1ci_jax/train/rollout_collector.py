"""The batch that a GRPO step trains on: prompts in, complete groups of trajectories out.

With `max_staleness`, one batch of prompts more than a step needs is in flight. The first step of a
stage starts two batches, each later one starts the batch of the next step, the last one none. So
nothing is left over at the end of a stage, and every prompt is used exactly once.
"""

import time
from collections.abc import Sequence
from typing import Any

from r1ci_jax.config import GrpoConfig, SamplingParams
from r1ci_jax.data import batching
from r1ci_jax.rollout import agents, sandbox_faults, serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.tasks.base import Example

_AGENT = agents.CodeAgent()


class RolloutCollector:
    """Collects the trajectories of one stage, and keeps the groups that are still in flight."""

    def __init__(
        self,
        source: TrajectorySource,
        examples: batching.RandomAccess[Example],
        config: GrpoConfig,
        *,
        steps: range,
        seed: int,
        earlier: batching.RandomAccess[Example] | None = None,
        earlier_share: float = 0.0,
    ) -> None:
        """Collect for `steps`, those of one stage, counted from 0 over the whole training.

        With `earlier` this share of each step's prompts comes from there, the rest from `examples`.
        """
        self._source = source
        self._config = config
        self._steps = steps
        size = config.prompts_per_step
        self._batches = (
            batching.prompt_batches(examples, size, seed=seed)
            if earlier is None
            else batching.replay_batches(examples, earlier, size, earlier_share, seed=seed)
        )
        self._partial: list[Episode] = []

    def end_at(self, stop: int) -> None:
        """Let the stage end before this step, when it ends earlier than was planned."""
        self._steps = range(self._steps.start, stop)

    def state(self) -> dict[str, Any]:
        """Return the position in the data and all partial rollouts, as JSON for the checkpoint."""
        return {
            "batches": self._batches.get_state().decode(),
            "partial_rollouts": [serialize.episode_to_json(episode) for episode in self._partial],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state`."""
        self._batches.set_state(state["batches"].encode())
        self._partial = [serialize.episode_from_json(saved) for saved in state["partial_rollouts"]]

    def collect(self, step: int) -> tuple[list[Trajectory], dict[str, float]]:
        """Return the groups to train on, in the order of their rollout ids, and metrics.

        Raises:
            SandboxFaults: The sandbox failed in too many of the step's scripts.
        """
        source = self._source
        began, waited = time.monotonic(), source.waited_seconds
        slot_waited, evicted = source.slot_waited_seconds, source.num_evicted
        requests = [
            request
            for number in self._start_requests(step)
            for request in self._make_requests(number)
        ]
        first_steps = {request.rollout_id.group_id: step for request in requests}
        first_steps |= {episode.group_id: episode.first_step for episode in self._partial}
        trajectories = self._run(requests, step)
        seconds = time.monotonic() - began
        sandbox_faults.require_few(
            trajectories,
            self._config.max_sandbox_fault_fraction,
            section="grpo",
            where=f"GRPO step {step + 1}",
        )
        staleness = [step - first_steps[each.rollout_id.group_id] for each in trajectories]
        staleness_metrics = {
            "group/staleness_mean": sum(staleness) / len(staleness),
            "group/staleness_max": max(staleness),
        }
        in_flight = [episode.trajectory or episode for episode in self._partial]
        sampled = sum(
            sum(each.sampled[each.num_stale_tokens :]) for each in (*trajectories, *in_flight)
        )
        return trajectories, {
            **(staleness_metrics if self._config.max_staleness else {}),
            "time/rollout": seconds,
            "time/sandbox": source.waited_seconds - waited,
            "time/sandbox_fraction": (source.slot_waited_seconds - slot_waited) / seconds,
            "rollout/evicted": source.num_evicted - evicted,
            "rate/tokens_per_second": sampled / seconds,
        }

    def _start_requests(self, step: int) -> Sequence[int]:
        """Return the steps whose prompts start now."""
        if not self._config.max_staleness:
            return [step]
        first = step if step == self._steps.start else step + 1
        return range(first, min(step + 2, self._steps.stop))

    def _make_requests(self, number: int) -> list[Request]:
        """Make R requests per prompt of a step, with rollout ids that no other step uses."""
        config = self._config
        return [
            Request(
                example=example,
                agent=_AGENT,
                rollout_id=RolloutId(number * config.prompts_per_step + index, sample_index),
                sampling=SamplingParams(temperature=config.temperature),
            )
            for index, example in enumerate(next(self._batches))
            for sample_index in range(config.rollouts_per_prompt)
        ]

    def _run(self, requests: Sequence[Request], step: int) -> list[Trajectory]:
        config = self._config
        if not config.max_staleness:
            return self._source.run(requests)
        trajectories, self._partial = self._source.run_groups(
            requests,
            self._partial,
            num_groups=config.prompts_per_step,
            step=step,
            max_staleness=config.max_staleness,
        )
        return trajectories
