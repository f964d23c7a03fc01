"""Stages of reinforcement learning (paper section 4.2).

Stage s trains on groups 1 to s: first the questions with the largest potential, finally all. A
stage is a TFDS split, such as `group1+group2`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A number of training steps on one set of questions."""

    number: int
    """Stages are numbered from 1."""
    split: str
    """TFDS split of `r1ci_curriculum`."""
    steps: int


def curriculum_stages(
    steps_per_stage: Sequence[int], group_sizes: Mapping[int, int]
) -> list[Stage]:
    """Make cumulative stages; while the groups so far are empty, the next one is added early.

    Args:
        steps_per_stage: One entry per group.
        group_sizes: Questions in each group, by its number from 1.
    """
    stages = []
    for number, steps in enumerate(steps_per_stage, start=1):
        last = number
        while last < len(steps_per_stage) and not any(
            group_sizes.get(group, 0) for group in range(1, last + 1)
        ):
            last += 1
        split = "+".join(f"group{group}" for group in range(1, last + 1))
        stages.append(Stage(number=number, split=split, steps=steps))
    return stages


def uniform_stages(steps_per_stage: Sequence[int]) -> list[Stage]:
    """Make one stage with the same number of steps on all questions, to compare with."""
    split = "+".join(f"group{group}" for group in range(1, len(steps_per_stage) + 1))
    return [Stage(number=1, split=split, steps=sum(steps_per_stage))]


def curriculum_state(stages: Sequence[Stage], done: int) -> dict[str, Any]:
    """Return the stage, and the steps within it, after `done` steps, for the checkpoint.

    >>> curriculum_state(curriculum_stages((2, 3), {1: 9, 2: 9}), 4)
    {'stage': 2, 'split': 'group1+group2', 'step': 2}
    """
    left = done
    for stage in stages:
        if left <= stage.steps:
            return {"stage": stage.number, "split": stage.split, "step": left}
        left -= stage.steps
    raise AssertionError(f"the stages have fewer than {done} steps")
