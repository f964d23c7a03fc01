"""Reinforce++ in place of GRPO (Fig. 7); PPO is not here, because it needs a value model.

Question   Does it matter which policy-gradient algorithm trains?
Command    r1ci run experiments/ablations/rl_algorithm.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     about as good as GRPO (Fig. 7; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

Reinforce++ (2501.03262) has a form for one answer per question and one for several, "with
baseline", which is this one: the mean of the group is subtracted, the result divided by its
standard deviation over the whole batch, and the KL term is k2 in the loss. Which form the paper ran
is not known.

The paper compares with PPO too. Its critic is a second model of the policy's size that predicts the
reward of every token; this project has none, so that row stays empty in `r1ci table ablation`.
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment
from r1ci_jax.grpo_config import ObjectiveConfig

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method, trained by Reinforce++."""
    return ablation.get_config(variant, name="rl_algorithm", change=_change)


def _change(whole: Experiment) -> Experiment:
    objective = ObjectiveConfig(advantage_scale="batch_std", kl_estimator="k2", kl_in="loss")
    trained = ablation.with_grpo(whole, objective=objective)
    return dataclasses.replace(trained, arms=(Arm(name="grpo_reinforce_plus_plus"),))
