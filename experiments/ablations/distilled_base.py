"""DeepSeek-R1-distilled models in place of Qwen2.5 (Table 5).

Question   Is a model that was distilled to reason in long texts a better start?
Command    r1ci run experiments/ablations/distilled_base.py:7b
Needs      as r1ci_14b.py or r1ci_7b.py; 2 CPU cores for :toy
Expect     below Qwen2.5 under SFT and under the other frameworks (Table 5; the numbers are not
           known)
Variants   :7b  the smaller one; :toy  the recipe with the toy model, of which none is distilled

The checkpoints have Qwen2's layout and its vocabulary, with another chat format: the ids that
Qwen2.5 calls <|im_start|> and <|im_end|> are their marks of user and assistant, and an answer opens
with a think block. This run asks in ChatML with Qwen2.5's tokenizer (model.tokenizer), as the
demonstrations are written, so that the marks get their new meaning in supervised fine-tuning; the
row `untrained` says little. `r1ci plan` has to download the checkpoint's config.json.
"""

import dataclasses
from typing import Final

from experiments.ablations import ablation
from r1ci_jax.config import Experiment

VARIANTS = ("", "7b", "toy")

_CHECKPOINTS: Final = {
    "": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    "7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
}


def get_config(variant: str = "") -> Experiment:
    """The whole method with a distilled model; the toy has none and keeps its own."""
    checkpoint = _CHECKPOINTS.get(variant)
    return ablation.get_config(
        variant,
        name="distilled_base",
        change=lambda whole: whole if checkpoint is None else _change(whole, checkpoint),
    )


def _change(whole: Experiment, checkpoint: str) -> Experiment:
    model = dataclasses.replace(
        whole.model, checkpoint=checkpoint, architecture="", tokenizer=whole.model.checkpoint
    )
    return dataclasses.replace(whole, model=model)
