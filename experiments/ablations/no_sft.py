"""Cold start: GRPO from the pretrained model, without demonstrations (Fig. 15).

Question   Can reinforcement find out by itself what the demonstrations show?
Command    r1ci run experiments/ablations/no_sft.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     almost no gain, even with the curriculum (Fig. 15; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

The potential is measured with the fine-tuned model, as in the whole method, so that both see the
same questions in the same stages. Which model measured it in the paper's cold start is not known.
The models of :demo and :toy begin as random numbers: they never answer, so that nothing is
reinforced, and their results only show that.
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method, with GRPO from the untrained model."""
    return ablation.get_config(variant, name="no_sft", change=_change)


def _change(whole: Experiment) -> Experiment:
    arm = Arm(name="grpo_no_sft", start="untrained")
    return dataclasses.replace(whole, arms=(arm,))
