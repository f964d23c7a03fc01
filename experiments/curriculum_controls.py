"""What of the curriculum's gain is its order? The controls that the paper does not have.

Question   Is it the order by potential that helps, or that a step has more groups with signal, or
           that the questions are fewer? With groups of five a question that is answered at a rate
           of 0.1 has equal rewards in six groups of ten, which teach nothing.
Command    r1ci run experiments/curriculum_controls.py:demo
           r1ci table ablation --runs runs/curriculum-controls-demo
Needs      as r1ci_14b.py, with five trainings of GRPO in place of two; for :demo 2 CPU cores and
           half an hour
Expect     not known: nobody has published these controls
Variants   :7b  :3b  :demo  :toy  smaller ones (ablations/ablation.py)

    grpo_curriculum       the paper's stages
    grpo_uniform          all questions alike
    grpo_uniform_refill   all questions alike, groups of equal rewards replaced (grpo.signal)
    grpo_random_subset    stages of the same sizes, of questions that were drawn at random
    grpo_difficulty       stages by the questions' difficulty

All have the same number of rollouts from the same SFT model: the arm that refills samples more in
each step, and takes fewer (grpo.rollout_budget; its last step may go beyond). Its metric
group/rollouts_per_kept_group says how many rollouts a group with signal costs.
"""

import dataclasses
from typing import Final

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment

VARIANTS = ablation.VARIANTS

REFILL_ROUNDS: Final = 3
"""Rounds in which groups of equal rewards are replaced."""


def get_config(variant: str = "") -> Experiment:
    """The five arms, in one of the sizes."""
    whole = ablation.base(variant)
    return dataclasses.replace(
        whole,
        name=f"curriculum-controls-{variant or '14b'}",
        paper_row="",
        arms=arms(whole),
    )


def arms(whole: Experiment) -> tuple[Arm, ...]:
    """The curriculum and its controls, at equal steps and rollouts of the whole method."""
    signal = dataclasses.replace(whole.grpo.signal, refill_rounds=REFILL_ROUNDS)
    rollouts = whole.grpo.num_rollouts * sum(whole.grpo.steps_per_stage)
    refilled = dataclasses.replace(whole.grpo, signal=signal, rollout_budget=rollouts)
    return (
        ablation.CURRICULUM,
        Arm(name="grpo_uniform", order="uniform"),
        Arm(name="grpo_uniform_refill", order="uniform", grpo=refilled),
        Arm(name="grpo_random_subset", order="random_subset"),
        Arm(name="grpo_difficulty", order="difficulty"),
    )
