"""Reinforce++ and PPO in place of GRPO (Fig. 7).

Question   Does it matter which policy-gradient algorithm trains?
Command    r1ci run experiments/ablations/rl_algorithm.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy; two trainings
           in place of one, and for PPO the memory of a second model that is trained (`r1ci plan`)
Expect     both about as good as GRPO (Fig. 7; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

Reinforce++ (2501.03262) has a form for one answer per question and one for several, "with
baseline", which is this one: the mean of the group is subtracted, the result divided by its
standard deviation over the whole batch, and the KL term is k2 in the loss. Which form the paper ran
is not known.

PPO compares with a critic, a second model of the policy's size that predicts the reward before
every token; groups are not compared. The paper's settings are not known. These are those of
Search-R1's PPO script, a copy of verl, as the paper's trainer is: no discount, lambda 1, the KL
divergence of each token in its reward (k1), the mean over all tokens, advantages whitened over the
batch, and ten times the policy's learning rate for the critic (there 1e-5 and 1e-6).
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment, GrpoConfig
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method, trained by Reinforce++ and by PPO."""
    return ablation.get_config(variant, name="rl_algorithm", change=_change)


def _change(whole: Experiment) -> Experiment:
    objective = ObjectiveConfig(advantage_scale="batch_std", kl_estimator="k2", kl_in="loss")
    trained = ablation.with_grpo(whole, objective=objective)
    arms = (
        Arm(name="grpo_reinforce_plus_plus"),
        Arm(name="grpo_ppo", grpo=_with_critic(whole.grpo)),
    )
    return dataclasses.replace(trained, arms=arms)


def _with_critic(grpo: GrpoConfig) -> GrpoConfig:
    objective = ObjectiveConfig(
        baseline="critic", aggregation="token_mean", kl_estimator="k1", kl_in="reward"
    )
    critic = CriticConfig(lr=10 * grpo.lr, gamma=1.0, gae_lambda=1.0)
    return dataclasses.replace(grpo, objective=objective, critic=critic)
