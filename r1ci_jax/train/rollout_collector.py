"""What a step of GRPO is trained on: questions in, whole groups of trajectories out.

With `carry_over`, one batch of questions more than a step needs is in flight. The first step of a
stage starts two, each later one starts the batch of the next step, the last one none. So nothing is
left over at the end of a stage, and no question is asked twice or left out.
"""

import time
from collections.abc import Sequence
from typing import Any

from r1ci_jax.config import GrpoConfig, Sampling
from r1ci_jax.data import batching
from r1ci_jax.rollout import agents, partial_rollouts
from r1ci_jax.rollout.partial_rollouts import Carried
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.serialize import Replay
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example

_AGENT = agents.CodeAgent()


class Collector:
    """Asks the questions of one stage, and knows which of its groups are still in flight."""

    def __init__(
        self,
        source: Runner | Replay,
        questions: batching.RandomAccess[Example],
        config: GrpoConfig,
        *,
        steps: range,
        seed: int,
    ) -> None:
        """`steps` are those of the stage, counted from 0 over the whole training."""
        self._source = source
        self._config = config
        self._steps = steps
        self._batches = batching.prompt_batches(questions, config.prompts_per_step, seed=seed)
        self._carried: list[Carried] = []

    def saved(self) -> dict[str, Any]:
        """The place in the data and all that is in flight, as JSON for the checkpoint."""
        return {
            "batches": self._batches.get_state().decode(),
            "carried": [partial_rollouts.carried_row(entry) for entry in self._carried],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self._batches.set_state(saved["batches"].encode())
        self._carried = [partial_rollouts.carried_of(row) for row in saved["carried"]]

    def collect(self, step: int) -> tuple[list[Trajectory], dict[str, float]]:
        """The groups to train on in this step, in the order of their rollouts, and metrics."""
        began, waited = time.monotonic(), self._source.waited_seconds
        requests = [request for number in self._starting(step) for request in self._ask(number)]
        born = {request.rollout[0]: step for request in requests}
        born |= {entry.group: entry.born for entry in self._carried}
        trajectories = self._run(requests, step)
        seconds = time.monotonic() - began
        ages = [step - born[trajectory.rollout[0]] for trajectory in trajectories]
        staleness = {"group/age_mean": sum(ages) / len(ages), "group/age_max": max(ages)}
        in_flight = [entry.done or entry.row for entry in self._carried]
        sampled = sum(sum(each.sampled[each.stale :]) for each in (*trajectories, *in_flight))
        return trajectories, {
            **(staleness if self._config.carry_over else {}),
            "time/rollout": seconds,
            "time/sandbox": self._source.waited_seconds - waited,
            "rate/tokens_per_second": sampled / seconds,
        }

    def _starting(self, step: int) -> Sequence[int]:
        """Steps whose questions are asked now."""
        if not self._config.carry_over:
            return [step]
        first = step if step == self._steps.start else step + 1
        return range(first, min(step + 2, self._steps.stop))

    def _ask(self, number: int) -> list[Request]:
        """R requests for each question of a step's batch, with rollout ids that no other uses."""
        config = self._config
        return [
            Request(
                example=example,
                agent=_AGENT,
                rollout=(number * config.prompts_per_step + place, member),
                sampling=Sampling(temperature=config.temperature),
            )
            for place, example in enumerate(next(self._batches))
            for member in range(config.rollouts_per_prompt)
        ]

    def _run(self, requests: Sequence[Request], step: int) -> list[Trajectory]:
        config, source = self._config, self._source
        if not config.carry_over:
            return source.run(requests)
        if isinstance(source, Replay):
            trained, self._carried = source.run_groups(requests, self._carried, step=step)
            return trained
        trained, self._carried = partial_rollouts.run_groups(
            source,
            requests,
            self._carried,
            groups=config.prompts_per_step,
            step=step,
            max_age=config.carry_over,
        )
        return trained
