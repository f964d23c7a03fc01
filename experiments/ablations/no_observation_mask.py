"""The interpreter's output is learned like the policy's own words.

Question   Does it matter that tokens of observations carry no loss?
Command    r1ci run experiments/ablations/no_observation_mask.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     not known: version 1 of the paper compared masked and unmasked output, no source has the
           numbers
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

In supervised fine-tuning observations are targets like all else after the prompt; in GRPO they have
a ratio, a KL term and a share in the mean over tokens (grpo.learn_observations).
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method with a loss on observations."""
    return ablation.get_config(variant, name="no_observation_mask", change=_change)


def _change(whole: Experiment) -> Experiment:
    sft = dataclasses.replace(whole.sft, learn_observations=True)
    learned = dataclasses.replace(whole, sft=sft)
    # The sampler has no log-probabilities of tokens that it did not choose.
    return ablation.with_grpo(learned, learn_observations=True, old_logprobs="recompute")
