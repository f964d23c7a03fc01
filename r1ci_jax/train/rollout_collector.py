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
from r1ci_jax.rollout import agents, partial_rollouts
from r1ci_jax.rollout.partial_rollouts import PartialRollout
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.serialize import Replay
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example

_AGENT = agents.CodeAgent()


class RolloutCollector:
    """Collects the trajectories of one stage, and keeps the groups that are still in flight."""

    def __init__(
        self,
        source: Runner | Replay,
        examples: batching.RandomAccess[Example],
        config: GrpoConfig,
        *,
        steps: range,
        seed: int,
    ) -> None:
        """Collect for `steps`, those of one stage, counted from 0 over the whole training."""
        self._source = source
        self._config = config
        self._steps = steps
        self._batches = batching.prompt_batches(examples, config.prompts_per_step, seed=seed)
        self._partial: list[PartialRollout] = []

    def state(self) -> dict[str, Any]:
        """Return the position in the data and all partial rollouts, as JSON for the checkpoint."""
        return {
            "batches": self._batches.get_state().decode(),
            "partial_rollouts": [partial_rollouts.to_json(entry) for entry in self._partial],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state`."""
        self._batches.set_state(state["batches"].encode())
        self._partial = [partial_rollouts.from_json(row) for row in state["partial_rollouts"]]

    def collect(self, step: int) -> tuple[list[Trajectory], dict[str, float]]:
        """Return the groups to train on, in the order of their rollout ids, and metrics."""
        began, waited = time.monotonic(), self._source.waited_seconds
        requests = [
            request
            for number in self._start_requests(step)
            for request in self._make_requests(number)
        ]
        first_steps = {request.rollout_id[0]: step for request in requests}
        first_steps |= {entry.group_id: entry.first_step for entry in self._partial}
        trajectories = self._run(requests, step)
        seconds = time.monotonic() - began
        staleness = [step - first_steps[trajectory.rollout_id[0]] for trajectory in trajectories]
        staleness_metrics = {
            "group/staleness_mean": sum(staleness) / len(staleness),
            "group/staleness_max": max(staleness),
        }
        in_flight = [entry.trajectory or entry.episode for entry in self._partial]
        sampled = sum(
            sum(each.sampled[each.num_stale_tokens :]) for each in (*trajectories, *in_flight)
        )
        return trajectories, {
            **(staleness_metrics if self._config.max_staleness else {}),
            "time/rollout": seconds,
            "time/sandbox": self._source.waited_seconds - waited,
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
                rollout_id=(number * config.prompts_per_step + index, sample_index),
                sampling=SamplingParams(temperature=config.temperature),
            )
            for index, example in enumerate(next(self._batches))
            for sample_index in range(config.rollouts_per_prompt)
        ]

    def _run(self, requests: Sequence[Request], step: int) -> list[Trajectory]:
        config, source = self._config, self._source
        if not config.max_staleness:
            return source.run(requests)
        if isinstance(source, Replay):
            trained, self._partial = source.run_groups(requests, self._partial, step=step)
            return trained
        trained, self._partial = partial_rollouts.run_groups(
            source,
            requests,
            self._partial,
            groups=config.prompts_per_step,
            step=step,
            max_staleness=config.max_staleness,
        )
        return trained
