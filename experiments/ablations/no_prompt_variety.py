"""Demonstrations with the Code Agent's prompt alone (Fig. 9b).

Question   Do prompts that ask for words, for code, or for a check by code help in supervised
           fine-tuning?
Command    r1ci run experiments/ablations/no_prompt_variety.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     lower accuracy after SFT (Fig. 9b; the numbers are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

The potential still takes the answers of four agents; the model has not learned the prompts of three
of them.
"""

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method, with all demonstrations by one agent."""
    return ablation.get_config(variant, name="no_prompt_variety", change=_change)


def _change(whole: Experiment) -> Experiment:
    return ablation.with_demonstrations(
        whole, code_agent=1.0, all_text=0.0, all_code=0.0, codesteer=0.0
    )
