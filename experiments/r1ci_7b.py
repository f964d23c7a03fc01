r"""The paper's run with Qwen2.5-7B-Instruct-1M: SFT, potential, four stages of GRPO, evaluation.

Question   Does the curriculum by improvement potential raise the mean over 37 tasks never trained
           on above supervised fine-tuning, and above training without it? (Table 3, row 7b)
Command    r1ci plan experiments/r1ci_7b.py --topology v5p:2x2x2
           r1ci launch experiments/r1ci_7b.py --tpu v5p-16 \
             --workdir gs://BUCKET/runs/r1ci-7b
Needs      8 chips (v5p-16); scripted teachers demonstrate (docs/demonstrations.md)
Expect     not known yet: nobody has run it on such a machine. The paper's row, as far as it is
           known, is in experiments/paper_numbers.py
Variants   :toy  the same recipe with a toy model on one CPU, two steps of each training
           :modern  GRPO as the field trains now (grpo_presets.py), all else as in the paper
           :ood  evaluated on GPQA Diamond and AIME 24/25 too (`r1ci data fetch --ood`)

The recipe, and every choice that the paper leaves open, is in experiments/r1ci_recipe.py.
"""

from experiments import r1ci_recipe
from r1ci_jax.config import Experiment, MeshConfig

VARIANTS = r1ci_recipe.VARIANTS

TOPOLOGY = "v5p:2x2x2"
"""TPU topology on which `r1ci plan` finds that it fits."""


def get_config(variant: str = "") -> Experiment:
    """The paper's run, or its toy."""
    return r1ci_recipe.get_config(
        variant, size="7b", checkpoint="Qwen/Qwen2.5-7B-Instruct-1M", mesh=MeshConfig(fsdp=8)
    )
