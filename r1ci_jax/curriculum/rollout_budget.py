"""A limit on the rollouts of a training, so that arms can be compared at equal rollouts.

Arms with the same steps are equal in optimizer steps, but one that refills its batches samples more
for each. With `grpo.rollout_budget` no step begins any rollout once that many are done, and the
steps that are left change nothing. Measurements of the potential are not counted.
"""

from collections.abc import Mapping
from typing import Any

_KEY = "num_sampled"


class RolloutBudget:
    """Counts the trajectories that a training samples for its steps."""

    def __init__(self, most: int) -> None:
        """With `most` 0 there is no limit."""
        self._most = most
        self._num_sampled = 0

    @property
    def is_spent(self) -> bool:
        """True if no step may begin a rollout any more; the last one may have gone beyond."""
        return 0 < self._most <= self._num_sampled

    def record(self, count: int) -> None:
        """Count the trajectories of a step, those of dropped groups too."""
        self._num_sampled += count

    def state(self) -> dict[str, Any]:
        """Return the count, as JSON for the checkpoint; nothing if there is no limit."""
        return {_KEY: self._num_sampled} if self._most else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of `state`."""
        if self._most:
            self._num_sampled = state[_KEY]
