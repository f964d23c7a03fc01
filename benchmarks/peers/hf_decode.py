"""Measure Hugging Face `generate` on torch at temperature 1 over the full vocabulary.

`{"prompts": [64, 64], "new": 64}` is answered with tokens per second. Shorter prompts are padded on
the left. The time of the first token is that of the streamer's first call, so decode alone and the
full call come from one run. The cache grows with the rows.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-torch.

import functools
import time
from collections.abc import Sequence
from typing import Any

import hf_model
import torch
import wire
from transformers.generation.streamers import BaseStreamer


class Clock(BaseStreamer):
    """Streamer that records when tokens arrive; the prompt comes first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Record one call for the prompt and one for each position of the batch."""
        self.seconds.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing, as no token is buffered."""


@functools.cache
def model() -> Any:
    """Build the model once."""
    return hf_model.build("smollm2").eval()


def generate(prompts: Sequence[int], new: int) -> tuple[float, float]:
    """Return the seconds until the first token and until the last."""
    width = max(prompts)
    tokens_BT = torch.randint(1, model().config.vocab_size, (len(prompts), width))
    padding_B1 = width - torch.tensor(prompts)[:, None]
    mask_BT = (torch.arange(width)[None, :] >= padding_B1).long()
    clock = Clock()
    began = time.perf_counter()
    with torch.inference_mode():
        output_BT = model().generate(
            tokens_BT,
            attention_mask=mask_BT,
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=None,
            pad_token_id=0,
            streamer=clock,
        )
    assert output_BT.shape == (len(prompts), width + new), "another number of tokens"
    assert len(clock.seconds) == 1 + new, "the streamer is not called once a position"
    return clock.seconds[1] - began, time.perf_counter() - began


@functools.cache
def warm_up(prompts: tuple[int, ...]) -> None:
    """Warm up allocators and thread pools at this batch, for any number of new tokens."""
    generate(prompts, 4)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with one call of `generate`."""
    prompts, new = tuple(request["prompts"]), request["new"]
    warm_up(prompts)
    first, last = generate(prompts, new)
    return {
        "decode_tokens_per_s": len(prompts) * (new - 1) / (last - first),
        "call_seconds": last,
        "call_tokens_per_s": len(prompts) * new / last,
    }


if __name__ == "__main__":
    wire.serve(answer, hf_model.PACKAGES)
