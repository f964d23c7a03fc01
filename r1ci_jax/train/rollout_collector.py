"""The batch that a GRPO step trains on: prompts in, complete groups of trajectories out.

With `max_staleness`, one batch of prompts more than a step needs is in flight. The first step of a
stage starts two batches, each later one starts the batch of the next step, the last one none. So
nothing is left over at the end of a stage, and every prompt is used exactly once.

With `signal.refill_rounds`, a group without signal is replaced by a group of the next question. The
groups of a step, their rollout ids and the position in the data after it are those of rounds one
after the other, whenever each group was sampled (`group_selection.groups_to_ask`).
"""

import itertools
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

from r1ci_jax.config import GrpoConfig, SamplingParams
from r1ci_jax.curriculum.retirement import PassRates
from r1ci_jax.curriculum.rollout_budget import RolloutBudget
from r1ci_jax.data import batching
from r1ci_jax.rollout import agents, group_selection, sandbox_faults, serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.refill import Refill
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.runtime import progress
from r1ci_jax.tasks.base import Example


class RolloutBatch(NamedTuple):
    """The result of a step's sampling; both lists are in the order of the rollout ids."""

    sampled: list[Trajectory]
    """All trajectories of the step, as they were sampled."""
    trained: list[Trajectory]
    """Those of the groups to train on, with masks; R per group. Empty: there is no signal, and the
    step changes nothing."""
    metrics: dict[str, float]


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
        pass_rates: PassRates | None = None,
        budget: RolloutBudget | None = None,
    ) -> None:
        """Collect for `steps`, those of one stage, counted from 0 over the whole training.

        With `earlier` this share of each step's prompts comes from there, the rest from `examples`.
        `pass_rates` and `budget`, those of the steps before, are kept by whoever gives them.
        """
        self._source = source
        self._config = config
        self._steps = steps
        self._seed = seed
        self._pass_rates = pass_rates or PassRates(config.signal.retire_above)
        self._budget = budget or RolloutBudget(config.rollout_budget)
        size = config.prompts_per_step
        num_earlier = 0 if earlier is None else batching.count_earlier(earlier_share, size)
        # Those that questions are drawn from: a small share may be none of a step's.
        self._sources = [] if num_earlier == size else [examples]
        if earlier is not None and num_earlier:
            self._sources.append(earlier)
        batches = (
            batching.prompt_batches(examples, size, seed=seed)
            if earlier is None
            else batching.replay_batches(examples, earlier, size, earlier_share, seed=seed)
        )
        self._questions = batching.Rows(batches)
        self._agent = agents.get(config.agent)
        self._partial: list[Episode] = []

    def end_at(self, stop: int) -> None:
        """Let the stage end before this step, when it ends earlier than was planned."""
        self._steps = range(self._steps.start, stop)

    def state(self) -> dict[str, Any]:
        """Return the position in the data and all partial rollouts, as JSON for the checkpoint."""
        return {
            **self._questions.get_state(),
            "partial_rollouts": [serialize.episode_to_json(episode) for episode in self._partial],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state`."""
        self._questions.set_state(state)
        self._partial = [
            serialize.episode_from_json(saved, self._agent) for saved in state["partial_rollouts"]
        ]

    def collect(self, step: int) -> RolloutBatch:
        """Sample the trajectories of a step, and select those to train on.

        A step without any signal has nothing to train on, and a warning says so. That is so too
        when all questions of the stage are retired, until its end, and when the budget of rollouts
        is spent: nothing is asked any more.

        Raises:
            SandboxFaults: The sandbox failed in too many of the step's scripts.
            UserError: It failed in all trajectories.
        """
        source = self._source
        began, waited = time.monotonic(), source.waited_seconds
        slot_waited, evicted = source.slot_waited_seconds, source.num_evicted
        dropped = source.num_dropped
        sampled, staleness = self._sample(step)
        seconds = time.monotonic() - began
        sandbox_faults.require_few(
            sampled,
            self._config.max_sandbox_fault_fraction,
            section="grpo",
            where=f"GRPO step {step + 1}",
        )
        sandbox_faults.require_any_valid(sampled)
        trained, selected = self._select(sampled, step)
        self._pass_rates.record(sampled)
        self._budget.record(len(sampled))
        if self._pass_rates.is_on:
            selected["curriculum/retired"] = self._pass_rates.num_retired
        if not sampled:
            return RolloutBatch(sampled, trained, selected)
        in_flight = [episode.trajectory or episode for episode in self._partial]
        num_tokens = sum(
            sum(each.sampled[each.num_stale_tokens :]) for each in (*sampled, *in_flight)
        )
        metrics = {
            **staleness,
            **selected,
            "time/rollout": seconds,
            "time/sandbox": source.waited_seconds - waited,
            "time/sandbox_fraction": (source.slot_waited_seconds - slot_waited) / seconds,
            "rollout/evicted": source.num_evicted - evicted,
            "rollout/dropped": source.num_dropped - dropped,
            "rate/tokens_per_second": num_tokens / seconds,
        }
        return RolloutBatch(sampled, trained, metrics)

    # --- Sampling ---

    def _sample(self, step: int) -> tuple[list[Trajectory], dict[str, float]]:
        """Sample the groups of a step; also return by how much they are stale."""
        if self._config.max_staleness:
            return self._sample_partially(step)
        if self._config.signal.refill_rounds:
            return self._sample_with_refill(step), {}
        return self._source.run(self._make_requests(self._first_place(step), self._draw())), {}

    def _sample_partially(self, step: int) -> tuple[list[Trajectory], dict[str, float]]:
        """Sample until enough groups are complete; the others stay in flight."""
        config = self._config
        requests = [
            request
            for number in self._start_requests(step)
            for request in self._make_requests(self._first_place(number), self._draw())
        ]
        first_steps = {request.rollout_id.group_id: step for request in requests}
        first_steps |= {episode.group_id: episode.first_step for episode in self._partial}
        if not first_steps:
            return [], {}
        trajectories, self._partial = self._source.run_groups(
            requests,
            self._partial,
            # Where questions retire, a stage may run out of them.
            num_groups=min(config.prompts_per_step, len(first_steps)),
            step=step,
            max_staleness=config.max_staleness,
        )
        staleness = [step - first_steps[each.rollout_id.group_id] for each in trajectories]
        return trajectories, {
            "group/staleness_mean": sum(staleness) / len(staleness),
            "group/staleness_max": max(staleness),
        }

    def _sample_with_refill(self, step: int) -> list[Trajectory]:
        """Sample a step's groups and, for those without signal, groups of the next questions."""
        config = self._config
        positions: list[dict[str, Any]] = []

        def questions() -> Generator[Example]:
            while drawn := self._draw(1):
                positions.append(self._questions.get_state())
                yield from drawn

        refill = Refill(
            questions(),
            lambda group_id, question: self._make_requests(group_id, [question]),
            lambda group: self._has_signal(self._select_of(group)),
            first_id=self._first_place(step),
            num_groups=config.prompts_per_step,
            rounds=config.signal.refill_rounds,
        )
        if not self._has_questions():
            return []
        found = self._source.run_extended(
            refill.first(), refill.extend, start_early=refill.start_early
        )
        # Behind the last question that was asked: those of dropped groups come again.
        self._questions.set_state(positions[refill.num_asked - 1])
        return found

    def _start_requests(self, step: int) -> Sequence[int]:
        """Return the steps whose prompts start now."""
        first = step if step == self._steps.start else step + 1
        return range(first, min(step + 2, self._steps.stop))

    def _first_place(self, step: int) -> int:
        """Return the id of a step's first group: no other step has one of those that follow."""
        signal = self._config.signal
        return step * self._config.prompts_per_step * (1 + signal.refill_rounds)

    def _make_requests(self, first: int, questions: Iterable[Example]) -> list[Request]:
        """Make the requests of a group per question, with group ids from `first` on."""
        config = self._config
        return [
            Request(
                example=example,
                agent=self._agent,
                rollout_id=RolloutId(group_id, sample_index),
                sampling=SamplingParams(temperature=config.temperature),
            )
            for group_id, example in enumerate(questions, start=first)
            for sample_index in range(config.sampled_per_prompt)
        ]

    def _draw(self, count: int | None = None) -> list[Example]:
        """Draw the next questions, those of a step if no number is given.

        Retired ones are passed over; there is none if all are retired or the budget is spent. Both
        change at a step's end, so that which ones are drawn does not depend on the order of events
        within it.
        """
        if not self._has_questions():
            return []
        count = self._config.prompts_per_step if count is None else count
        asked = (each for each in self._questions if not self._pass_rates.is_retired(each.id))
        return list(itertools.islice(asked, count))

    def _has_questions(self) -> bool:
        """Return False if the budget is spent or all questions are retired."""
        if self._budget.is_spent:
            return False
        return not self._pass_rates.is_on or not all(
            self._pass_rates.is_retired(examples[index].id)
            for examples in self._sources
            for index in range(len(examples))
        )

    # --- Selection ---

    def _select(
        self, sampled: Sequence[Trajectory], step: int
    ) -> tuple[list[Trajectory], dict[str, float]]:
        """Return the trajectories to train on, and metrics of the selection."""
        signal = self._config.signal
        groups = [self._select_of(group) for group in group_selection.by_group(sampled)]
        metrics: dict[str, float] = {}
        kept = groups
        if signal.refill_rounds and groups:
            kept = [group for group in groups if self._has_signal(group)]
            metrics = self._refill_metrics(groups, len(sampled), len(kept))
        trained = [each for group in kept for each in group]
        if (signal.mask_void_turns or signal.mask_cut_off) and trained:
            metrics["group/masked_fraction"] = sum(each.is_masked for each in trained) / len(
                trained
            )
        if not any(each.carries_loss for each in trained):
            why = self._why_none(sampled)
            progress.warn(f"GRPO step {step + 1}: {why}; the step changes nothing")
            trained = []
        return trained, metrics

    def _why_none(self, sampled: Sequence[Trajectory]) -> str:
        """Say why a step has nothing to train on."""
        if sampled:
            return "no group has signal"
        if self._budget.is_spent:
            return f"the budget of {self._config.rollout_budget} rollouts is spent"
        return "all questions of the stage are retired"

    def _refill_metrics(
        self, groups: Sequence[Sequence[Trajectory]], num_sampled: int, num_kept: int
    ) -> dict[str, float]:
        """Compute how much a step's refill cost, and what it brought."""
        num_groups, rounds = self._config.prompts_per_step, self._config.signal.refill_rounds
        signal = {place: self._has_signal(group) for place, group in enumerate(groups)}
        totals = group_selection.groups_to_ask(signal, num_groups, rounds)
        assert totals[-1] == len(groups), "other groups were asked than the rounds would"
        first = [signal[place] for place in range(num_groups)]
        metrics = {
            "group/zero_variance_before_refill": 1 - sum(first) / num_groups,
            "group/zero_variance_after_refill": 1 - num_kept / num_groups,
            "group/refill_rounds": len(set(totals)) - 1,
        }
        if num_kept:
            metrics["group/rollouts_per_kept_group"] = num_sampled / num_kept
        return metrics

    def _select_of(self, group: Sequence[Trajectory]) -> list[Trajectory]:
        """Select the trajectories of a group, R of them."""
        config = self._config
        size = config.rollouts_per_prompt
        return group_selection.select(group, size, config.signal, seed=self._seed)

    def _has_signal(self, group: Sequence[Trajectory]) -> bool:
        return group_selection.has_signal(group, self._config.signal)
