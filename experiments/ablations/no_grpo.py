"""Without reinforcement learning: supervised fine-tuning alone (Table 3, w/o GRPO).

Question   How much of the accuracy is there before any reinforcement?
Command    r1ci run experiments/ablations/no_grpo.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     14B: 63.1 (Table 3, grade C)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

The run of full_method.py evaluates the same model, `sft`; this one is quicker where only it is
wanted.
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method up to supervised fine-tuning."""
    return ablation.get_config(variant, name="no_grpo", change=_change)


def _change(whole: Experiment) -> Experiment:
    return dataclasses.replace(whole, arms=())
