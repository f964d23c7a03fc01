"""The way of a training through its stages: which questions a step has, and when a stage ends.

Without a rule for an early end, stages have the steps that were planned. With
`grpo.stages.advance_accuracy` a stage ends once the mean accuracy of its last `advance_window`
steps reaches that. The steps that it leaves over go to the last stage that has steps, which never
ends early: the training has as many steps as planned, so arms stay equal in rollouts.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from r1ci_jax.curriculum.online import OnlineGroups
from r1ci_jax.curriculum.retirement import PassRates
from r1ci_jax.curriculum.rollout_budget import RolloutBudget
from r1ci_jax.curriculum.stages import Stage, new_and_earlier
from r1ci_jax.data.batching import RandomAccess
from r1ci_jax.grpo_config import GrpoConfig
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(kw_only=True)
class StageSpan:
    """Steps in a row on the same questions: a stage, or what lies between two measurements of it.

    Steps are counted from 0 over the whole training.
    """

    stage: Stage
    start: int
    stop: int
    """Step after the last one; it may move to an earlier step while the span is under way."""
    is_stage_start: bool
    """False for the spans of a stage after its first."""
    is_resumed: bool
    """True: some of its steps are done already."""

    @property
    def steps(self) -> range:
        """All steps of the span, as far as is known."""
        return range(self.start, self.stop)

    @property
    def changes_stage(self) -> bool:
        """True if the training now enters another stage."""
        return self.is_stage_start and not self.is_resumed and self.start > 0

    def steps_after(self, done: int) -> Iterator[int]:
        """Yield the steps that are left after `done` steps of the training."""
        step = max(done, self.start)
        while step < self.stop:
            yield step
            step += 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
    """Examples of a span, and what a share of them is replaced by."""

    examples: RandomAccess[Example]
    earlier: RandomAccess[Example] | None = None
    """Examples of earlier stages' groups; None: `examples` alone are asked."""
    earlier_share: float = 0.0
    """Share of a step's questions that come from `earlier`."""


class StageSchedule:
    """The stages of a training in progress; its state goes into the checkpoint."""

    def __init__(
        self,
        stages: Sequence[Stage],
        load_examples: Callable[[str], RandomAccess[Example]],
        config: GrpoConfig,
        online: OnlineGroups | None = None,
    ) -> None:
        """`load_examples` returns the examples of a split.

        With `online` the splits are of its groups, and a span ends where they are measured again.
        """
        self.online = online
        self.pass_rates = PassRates(config.signal.retire_above)
        """Questions that retire stay away in all later stages."""
        self.budget = RolloutBudget(config.rollout_budget)
        self._load = online.load if online is not None else load_examples
        self._stages = stages
        self._ends = list(itertools.accumulate(stage.steps for stage in stages))
        self._last = max(index for index, stage in enumerate(stages) if stage.steps)
        self._rule = config.stages
        # A batch more than a step needs is in flight, and one more step finishes it.
        self._drain_steps = 1 if config.max_staleness else 0
        self._every = online.every if online is not None else self.num_steps
        self._accuracies: list[float] = []
        self._span: StageSpan | None = None

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self._ends[-1]

    def spans(self, done: int) -> Iterator[StageSpan]:
        """Yield the spans that are left after `done` steps, the one under way first."""
        while done < self.num_steps:
            index = next(i for i, end in enumerate(self._ends) if done < end)
            begin, end = self._range(index)
            measured = done - done % self._every
            start, stop = max(begin, measured), min(end, measured + self._every)
            self._span = StageSpan(
                stage=self._stages[index],
                start=start,
                stop=stop,
                is_stage_start=start == begin,
                is_resumed=done > start,
            )
            yield self._span
            done = self._span.stop

    def questions(self, span: StageSpan) -> Questions:
        """Load the questions of a span."""
        stage, shares = span.stage, self._rule.replay_fraction
        added, before = new_and_earlier(stage, self._stages)
        if shares and added and before:
            new, earlier = self._load(added), self._load(before)
            if len(new) and len(earlier):
                share = shares[stage.number - 1]
                return Questions(examples=new, earlier=earlier, earlier_share=share)
        return Questions(examples=self._load(stage.split))

    def is_measured_again(self, span: StageSpan) -> bool:
        """Return True if the groups are to be measured before this span."""
        return self.online is not None and not span.is_resumed and self.online.is_due(span.start)

    def record(self, done: int, accuracy: float) -> None:
        """Take the accuracy of the step that was just done, the `done`-th; apply the rule."""
        rule, span = self._rule, self._span
        if not rule.advance_accuracy:
            return
        assert span is not None, "a step is done before its span began"
        index = self._stages.index(span.stage)
        begin, end = self._range(index)
        known = [] if done - 1 == begin else self._accuracies
        self._accuracies = [*known, accuracy][-rule.advance_window :]
        early = done + self._drain_steps
        is_full = len(self._accuracies) == rule.advance_window
        if index == self._last or not is_full or early >= end:
            return
        if statistics.fmean(self._accuracies) >= rule.advance_accuracy:
            for moved in range(index, self._last):
                self._ends[moved] -= end - early
            span.stop = min(span.stop, early)

    def state(self, done: int) -> dict[str, Any]:
        """Return the position after `done` steps, and what the rule knows, for the checkpoint."""
        state: dict[str, Any] = {"curriculum": self._position(done)}
        if self._rule.advance_accuracy:
            state |= {"stage_ends": [*self._ends], "recent_accuracies": [*self._accuracies]}
        state |= self.pass_rates.state() | self.budget.state()
        return state | (self.online.state() if self.online is not None else {})

    def restore(self, done: int, metadata: Mapping[str, Any] | None) -> None:
        """Continue after `done` steps from a checkpoint that holds a result of `state`.

        None: there is no checkpoint, and the training starts.
        """
        if self.online is not None:
            self.online.restore(done, metadata)
        if metadata is None:
            return
        if self._rule.advance_accuracy:
            self._ends = list(metadata["stage_ends"])
            self._accuracies = list(metadata["recent_accuracies"])
        self.pass_rates.restore(metadata)
        self.budget.restore(metadata)
        expected = self._position(done)
        assert metadata["curriculum"] == expected, "the checkpoint is of another curriculum"

    def _range(self, index: int) -> tuple[int, int]:
        """Return the first step of a stage, and the one after its last."""
        return self._ends[index - 1] if index else 0, self._ends[index]

    def _position(self, done: int) -> dict[str, Any]:
        """Return the stage, and the steps within it; the last step of a stage belongs to it."""
        index = next(i for i, end in enumerate(self._ends) if done <= end)
        stage, (begin, _) = self._stages[index], self._range(index)
        return {"stage": stage.number, "split": stage.split, "step": done - begin}
