"""Demonstrations with wrong answers among them (Fig. 9b).

Question   Does it matter that only correct trajectories are learned?
Command    r1ci run experiments/ablations/wrong_trajectories.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     lower accuracy after SFT, with more variance (Fig. 9b; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

The paper keeps trajectories of GPT-4o that its filter would reject. A scripted teacher is never
wrong by accident: it gives its wrong first attempt, or a wrong guess, as the final answer
(demonstrations.wrong).
"""

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


WRONG = 0.3
"""Share of the Code Agent's demonstrations whose answer is wrong. The paper's is not known."""


def get_config(variant: str = "") -> Experiment:
    """The whole method with wrong demonstrations among the right ones."""
    return ablation.get_config(variant, name="wrong_trajectories", change=_change)


def _change(whole: Experiment) -> Experiment:
    return ablation.with_demonstrations(whole, wrong=WRONG)
