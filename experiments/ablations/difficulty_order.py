"""Stages by difficulty in place of potential (Table 3, w/o IP).

Question   Does it matter that the stages follow the improvement potential, or would easy questions
           first do as well?
Command    r1ci run experiments/ablations/difficulty_order.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     below the whole method at every size (Table 3; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

The paper does not say by what it measures difficulty. Here it is the level at which a question was
generated; the other reading, the pass rate of the SFT model, is order "accuracy".
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method with questions sorted by their difficulty."""
    return ablation.get_config(variant, name="difficulty_order", change=_change)


def _change(whole: Experiment) -> Experiment:
    arm = Arm(name="grpo_difficulty", order="difficulty")
    return dataclasses.replace(whole, arms=(arm,))
