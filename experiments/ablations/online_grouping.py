"""Potential groups measured again while the policy learns (Online-Merge).

Question   Do the groups grow old? They are measured once, with the fine-tuned model.
Command    r1ci run experiments/ablations/online_grouping.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     a similar final accuracy, reached sooner, for more sampling (grade B; the numbers are not
           known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment

VARIANTS = ablation.VARIANTS


MEASUREMENTS = 12
"""How often the groups are measured in a training. The paper's number is not known."""


def get_config(variant: str = "") -> Experiment:
    """The whole method with groups that are measured again."""
    return ablation.get_config(variant, name="online_grouping", change=_change)


def _change(whole: Experiment) -> Experiment:
    steps = sum(whole.grpo.steps_per_stage)
    remeasured = ablation.with_grpo(
        whole,
        stages=dataclasses.replace(
            whole.grpo.stages, remeasure_every=max(steps // MEASUREMENTS, 1)
        ),
    )
    arm = Arm(name="grpo_online", order="online")
    return dataclasses.replace(remeasured, arms=(arm,))
