"""Potential groups that are measured again while the policy changes (order "online").

Before every `remeasure_every`-th step the questions are answered again, by the current policy, and
regrouped; the stages stay as they were planned. The paper compares this with groups measured once
("online re-grouping"): a similar final score, reached earlier, for more sampling.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.curriculum.stages import EARLIEST_GROUP
from r1ci_jax.data.records import GradedExample
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks.base import Example

RECORD_FIELDS = {"arm": str, "step": int, **potential.RECORD_FIELDS}
"""Fields of every record of remeasured.jsonl, with their types."""


class OnlineGroups:
    """Groups of one arm's questions, and their measurements; its state goes into the checkpoint."""

    def __init__(
        self,
        runner: Runner,
        graded: Sequence[GradedExample],
        config: PotentialConfig,
        *,
        arm: str,
        every: int,
        path: Path,
    ) -> None:
        """Begin with the groups of the potential stage.

        Args:
            runner: Samples from the weights that it holds at the time of a measurement.
            graded: All questions with their first measurement, always in the same order.
            config: Settings of the potential stage, which every measurement follows.
            arm: Name of the training.
            every: Steps between measurements.
            path: Path of remeasured.jsonl.
        """
        self.every = every
        self._runner = runner
        self._first = graded
        self._graded = graded
        self._config = config
        self._arm = arm
        self._path = path
        self._step = 0
        """Steps of the training before the last measurement; 0: the potential stage's."""

    def is_due(self, step: int) -> bool:
        """Return True if the questions are to be measured after this many steps."""
        return step > 0 and step % self.every == 0

    def grades(self) -> dict[str, GradedExample]:
        """Return the questions with their last measurement, by id."""
        return {each.example.id: each for each in self._graded}

    def load(self, split: str) -> list[Example]:
        """Return the questions of some groups, such as group1+group2.

        While the first groups have no question at all, the next one is added, as in stages.py.
        """
        names = split.split("+")
        last = len(names) if names[0] == EARLIEST_GROUP else len(self._config.lower_bounds) + 1
        found = self._questions(names)
        while not found and last <= len(self._config.lower_bounds):
            last += 1
            found = self._questions([f"group{last}"])
        return found

    def measure(self, step: int) -> dict[str, float]:
        """Measure all questions after `step` steps, those that a killed run has not; regroup them.

        Returns metrics. The cost counts all answers, whoever sampled them.

        Raises:
            UserError: The interpreter failed in every answer to a question, or too often.
        """
        began = time.monotonic()
        examples = [each.example for each in self._first]
        again = potential.Remeasurement(arm=self._arm, step=step, number=step // self.every)
        self._graded = potential.measure(
            self._runner,
            examples,
            self._config,
            self._path,
            on_done=lambda _: None,
            again=again,
        )
        self._step = step
        num_answers = len(self._config.agents) * self._config.samples_per_agent
        return {
            "curriculum/remeasured_rollouts": len(examples) * num_answers,
            "time/remeasure": time.monotonic() - began,
            **group_metrics(self._graded, self._config),
        }

    def state(self) -> dict[str, Any]:
        """Return the last measurement, for the checkpoint."""
        p = {each.example.id: each.accuracy for each in self._graded} if self._step else {}
        return {"remeasured": {"step": self._step, "p": p}}

    def restore(self, done: int, metadata: Mapping[str, Any] | None) -> None:
        """Continue after `done` steps; records of later measurements are removed.

        `metadata` holds a result of `state`; None: the training starts.
        """
        with metrics.JsonlLog(self._path) as log:
            log.keep(lambda record: record["arm"] != self._arm or record["step"] <= done)
        saved: dict[str, Any] = {"step": 0, "p": {}}
        if metadata is not None:
            saved = metadata["remeasured"]
        self._step = saved["step"]
        self._graded = self._first
        if self._step:
            examples = [each.example for each in self._first]
            self._graded = potential.grade(examples, saved["p"], self._config)

    def _questions(self, names: Sequence[str]) -> list[Example]:
        return [each.example for each in self._graded if f"group{each.group}" in names]


def group_metrics(graded: Sequence[GradedExample], config: PotentialConfig) -> dict[str, float]:
    """Return the number of questions of each group, and the mean potential."""
    groups = range(1, len(config.lower_bounds) + 2)
    sizes = {f"curriculum/group{g}": sum(each.group == g for each in graded) for g in groups}
    mean = sum(each.potential for each in graded) / len(graded)
    return {**sizes, "curriculum/potential_mean": mean}
