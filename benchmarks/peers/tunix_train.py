"""Measure google-tunix's supervised step, the PeftTrainer's jitted function with its own loss.

`{"shape": "smollm2", "batch": 4, "length": 512}` is answered with tokens per second and the peak
resident memory of this process. A process therefore handles only one shape.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-tunix.

import functools
import time
from typing import Any

import jax
import numpy as np
import optax
import tunix_model
import wire
from shapes import SHAPES
from tunix.sft import peft_trainer, utils


def model_input(batch: peft_trainer.TrainingInput) -> dict[str, Any]:
    """Return the arguments of the trainer's loss, as in tunix's own examples."""
    return {
        "input_tokens": batch.input_tokens,
        "input_mask": batch.input_mask,
        "positions": utils.build_positions_from_mask(batch.input_mask),
        "attention_mask": utils.make_causal_attn_mask(batch.input_mask),
    }


@functools.cache
def trainer(shape: str) -> peft_trainer.PeftTrainer:
    """Build model, optimizer and trainer."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, weight_decay=0.01))
    config = peft_trainer.TrainingConfig(eval_every_n_steps=10**9)
    built = peft_trainer.PeftTrainer(tunix_model.build(shape), optimizer, config)
    return built.with_gen_model_input_fn(model_input)


def step(shape: str, batch: int, length: int) -> tuple[float, float]:
    """Run one optimizer step on random tokens; return its seconds and its loss."""
    tokens_BT = np.random.default_rng(time.time_ns()).integers(
        0, SHAPES[shape].vocab, (batch, length), np.int32
    )
    inputs = peft_trainer.TrainingInput(
        input_tokens=tokens_BT, input_mask=np.ones((batch, length), bool)
    )
    train_step, _ = trainer(shape).jit_train_and_eval_step(cache_nnx_graph=True)
    began = time.perf_counter()
    outputs = jax.block_until_ready(train_step(inputs))
    return time.perf_counter() - began, float(outputs[0])


@functools.cache
def warm_up(shape: str, batch: int, length: int) -> None:
    """Run two steps, as the second uses the optimizer state of the first."""
    step(shape, batch, length)
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
    wire.serve(answer, tunix_model.PACKAGES)
