"""Stages of reinforcement learning (paper section 4.2).

Stage s trains on groups 1 to s: first the questions with the largest potential, finally all. A
stage is a TFDS split, such as `group1+group2`; which questions a group holds is a matter of the
order (orders.py).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

EARLIEST_GROUP = "group1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A number of training steps on one set of questions."""

    number: int
    """Stages are numbered from 1."""
    split: str
    """TFDS split of `r1ci_curriculum`."""
    steps: int


def group_split(groups: Iterable[int]) -> str:
    """Return the TFDS split of some groups.

    >>> group_split([1, 2])
    'group1+group2'
    """
    return "+".join(f"group{group}" for group in groups)


def last_group(number: int, group_sizes: Mapping[int, int], *, num_groups: int) -> int:
    """Return the last group of a stage: while the groups so far are empty, the next one is added.

    >>> last_group(1, {1: 0, 2: 0, 3: 7}, num_groups=4)
    3
    """
    last = number
    while last < num_groups and not any(group_sizes.get(group, 0) for group in range(1, last + 1)):
        last += 1
    return last


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
        last = last_group(number, group_sizes, num_groups=len(steps_per_stage))
        split = group_split(range(1, last + 1))
        stages.append(Stage(number=number, split=split, steps=steps))
    return stages


def uniform_stages(steps_per_stage: Sequence[int], *, has_borders: bool = False) -> list[Stage]:
    """Make one stage with the same number of steps on all questions, to compare with.

    With `has_borders` it is as many stages as the curriculum has, each on all questions: what else
    changes at a stage's start (grpo.stages) then changes at the same steps.
    """
    split = group_split(range(1, len(steps_per_stage) + 1))
    if not has_borders:
        return [Stage(number=1, split=split, steps=sum(steps_per_stage))]
    return [
        Stage(number=number, split=split, steps=steps)
        for number, steps in enumerate(steps_per_stage, start=1)
    ]


def new_and_earlier(stage: Stage, stages: Sequence[Stage]) -> tuple[str, str]:
    """Return the splits of the groups that a stage adds, and of those of the stages before it.

    >>> plan = curriculum_stages((1, 1, 1), {1: 9, 2: 9, 3: 9})
    >>> new_and_earlier(plan[2], plan), new_and_earlier(plan[0], plan)
    (('group3', 'group1+group2'), ('group1', ''))
    """
    before = [each.split for each in stages if each.number < stage.number]
    earlier = before[-1].split("+") if before else []
    added = [name for name in stage.split.split("+") if name not in earlier]
    return "+".join(added), "+".join(earlier)
