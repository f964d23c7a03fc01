"""The whole method: the control of every ablation in this folder.

Question   How accurate is the policy that supervised fine-tuning, the potential and four stages of
           GRPO make together?
Command    r1ci run experiments/ablations/full_method.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     14B: 72.4 on the tasks for testing, after 63.1 for SFT alone (Table 3; grades in
           paper_numbers.py)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

It differs from r1ci_14b.py and toy.py by its single arm and by its name.
"""

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method in one of its sizes."""
    return ablation.get_config(variant, name="full_method", change=lambda whole: whole)
