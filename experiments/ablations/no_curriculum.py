"""Without the curriculum: GRPO on all questions alike (Table 3, w/o CL).

Question   What do the stages by improvement potential add to the same number of steps?
Command    r1ci run experiments/ablations/no_curriculum.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     3.4 points above SFT in place of 9.3, the mean over three sizes (Table 3, grade A)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

Groups whose members all get the same reward teach nothing, and a curriculum drops most of them:
experiments/curriculum_controls.py has the arms that tell the order from the number of groups with a
signal.
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method with all questions alike."""
    return ablation.get_config(variant, name="no_curriculum", change=_change)


def _change(whole: Experiment) -> Experiment:
    arm = Arm(name="grpo_uniform", order="uniform")
    return dataclasses.replace(whole, arms=(arm,))
