"""Retirement: questions that the policy has learned are not asked again.

The pass rate of a question runs over all its groups of a training: correct answers by answers whose
interpreter worked. A question whose rate is above `grpo.signal.retire_above` stays away for the
rest of the training (ScaleRL's "no positive resampling", arXiv 2510.13786, there from 0.9 on). Its
rate cannot change any more, so neither can the decision.
"""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

from r1ci_jax.rollout.trajectory import Trajectory

_KEY = "pass_rates"


class PassRates:
    """The running pass rate of every question of a training."""

    def __init__(self, retire_above: float) -> None:
        """With `retire_above` 1, no question retires, and nothing is recorded."""
        self._retire_above = retire_above
        self._counts: dict[str, tuple[int, int]] = collections.defaultdict(lambda: (0, 0))
        """Correct answers and all answers, by the id of the question."""

    @property
    def is_on(self) -> bool:
        """True if questions can retire."""
        return self._retire_above < 1.0

    @property
    def num_retired(self) -> int:
        """Number of questions that are not asked again."""
        return sum(map(self.is_retired, list(self._counts)))

    def is_retired(self, example_id: str) -> bool:
        """Return True if the question is not asked again."""
        correct, answers = self._counts.get(example_id, (0, 0))
        return correct > self._retire_above * answers

    def record(self, trajectories: Iterable[Trajectory]) -> None:
        """Count the answers of a step, those of dropped groups too."""
        if not self.is_on:
            return
        for each in trajectories:
            if each.is_valid:
                correct, answers = self._counts[each.example_id]
                self._counts[each.example_id] = (correct + each.correct, answers + 1)

    def state(self) -> dict[str, Any]:
        """Return the counts, as JSON for the checkpoint; nothing if no question can retire."""
        counts = {example_id: list(pair) for example_id, pair in sorted(self._counts.items())}
        return {_KEY: counts} if self.is_on else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of `state`."""
        if self.is_on:
            self._counts.clear()
            for example_id, (correct, answers) in state[_KEY].items():
                self._counts[example_id] = (correct, answers)
