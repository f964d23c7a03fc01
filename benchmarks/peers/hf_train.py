"""A supervised step on torch as HF's Trainer does it: loss, clipped gradient, fused AdamW.

`{"shape": "smollm2", "batch": 4, "length": 512}` is answered with tokens a second and the largest
resident memory of this process, which is why a process is asked for one shape only.
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
    """Model and optimiser; no gradient checkpointing, which is the default and the fastest."""
    model = hf_model.build(shape).train()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)


def step(shape: str, batch: int, length: int) -> tuple[float, float]:
    """One optimiser step on random tokens; its seconds and its loss."""
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
    """The first step allocates the optimiser's moments."""
    step(shape, batch, length)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One step."""
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
