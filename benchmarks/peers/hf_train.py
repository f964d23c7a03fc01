"""Measure a step on torch like HF's Trainer, with loss, clipped gradient and fused AdamW.

`{"shape": "smollm2", "batch": 4, "length": 512}` is answered with tokens per second and the peak
resident memory of this process. A process therefore handles only one shape.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-torch.

import functools
import time
from typing import Any

import hf_model
import torch
import wire


@functools.cache
def trainee(shape: str) -> tuple[Any, Any]:
    """Build model and optimizer without gradient checkpointing, the default and the fastest."""
    model = hf_model.build(shape).train()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)


def step(shape: str, batch: int, length: int) -> tuple[float, float]:
    """Run one optimizer step on random tokens; return its seconds and its loss."""
    model, optimizer = trainee(shape)
    tokens_BT = torch.randint(0, model.config.vocab_size, (batch, length))
    began = time.perf_counter()
    loss = model(input_ids=tokens_BT, labels=tokens_BT, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began, loss.item()


@functools.cache
def warm_up(shape: str, batch: int, length: int) -> None:
    """Run the first step, which allocates the optimizer's moments."""
    step(shape, batch, length)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with one step."""
    sizes = request["shape"], request["batch"], request["length"]
    warm_up(*sizes)
    seconds, loss = step(*sizes)
    return {
        "tokens_per_s": request["batch"] * request["length"] / seconds,
        "step_seconds": seconds,
        "loss": loss,
        "peak_bytes": wire.peak_bytes(),
    }


if __name__ == "__main__":
    wire.serve(answer, hf_model.PACKAGES)
