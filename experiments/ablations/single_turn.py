"""At most one script per question (Fig. 9).

Question   What do several turns add, in which a script is mended, checked or refined?
Command    r1ci run experiments/ablations/single_turn.py:demo
Needs      as the run that it changes: r1ci_14b.py, or 2 CPU cores for :demo and :toy
Expect     lower accuracy after SFT: without emphasis on many turns clearly so (Fig. 9b; the numbers
           are not known)
Variants   :7b  :3b  :demo  :toy  smaller ones (ablation.py)

Demonstrations have one script or none, and every trajectory one code call at most. Fig. 9a also
trains All Text alone on as much: --config.demonstrations.code_agent=0
--config.demonstrations.all_code=0 --config.demonstrations.all_text=1
--config.limits.max_code_calls=0. Its All Code is not evaluated here: held-out questions are asked
as the Code Agent.
"""

import dataclasses

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ablation.VARIANTS


def get_config(variant: str = "") -> Experiment:
    """The whole method with one code call per trajectory."""
    return ablation.get_config(variant, name="single_turn", change=_change)


def _change(whole: Experiment) -> Experiment:
    limits = dataclasses.replace(whole.limits, max_code_calls=1)
    limited = dataclasses.replace(whole, limits=limits)
    return ablation.with_demonstrations(
        limited, codesteer=0.0, repair=0.0, check=0.0, two_stage=0.0, switch=0.0, multi_turn=None
    )
