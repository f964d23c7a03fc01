"""A random model for the engine's tests, and what they ask of it."""

import numpy as np

from r1ci_jax.config import SamplerConfig, SamplingParams
from r1ci_jax.model import qwen2
from r1ci_jax.sampling.engine import Engine, SlotInput

VOCAB = 300  # not a multiple of the sampler's block
PAD_ROWS = 20  # embedding rows behind the tokenizer's last id
EOS = 299
STOP_TOKENS = (7, 40, 41, 77, 120, 200, 201, 202, 250, 260)
PAUSE = 2  # the stop value of the table's stop state
WIDE = {"slots": 5, "chunk_steps": 16}  # another shape; few of them, because each one is compiled

CONFIG = qwen2.Qwen2Config(
    vocab_size=VOCAB + PAD_ROWS,
    width=64,
    layers=2,
    query_heads=4,
    kv_heads=2,
    head_dim=16,
    mlp_width=96,
    rope_theta=1e4,
)
SAMPLER = SamplerConfig(
    slots=3,
    cache_length=64,
    page_length=8,
    chunk_steps=7,
    prefill_buckets=(4, 16),
    prefill_rows=2,
)


def prompt_of(number: int, length: int = 9) -> tuple[int, ...]:
    return tuple(np.random.default_rng(number).integers(0, VOCAB - 1, length).tolist())


def feed(
    slot: int, tokens: tuple[int, ...], *, position: int = 0, temperature: float = 1.0, **changes
) -> SlotInput:
    fields = {
        "budget": 1000,
        "rollout_id": (slot, 0),
        "sampling": SamplingParams(temperature=temperature),
    } | changes
    return SlotInput(slot=slot, tokens=tokens, position=position, **fields)


def until_paused(engine: Engine, slot: int) -> tuple[list[int], list[float], int]:
    """Decode until the slot pauses: its tokens, their log-probabilities, its stop value."""
    tokens: list[int] = []
    logprobs: list[float] = []
    while True:
        for emitted in engine.decode():
            if emitted.slot == slot:
                tokens += emitted.tokens
                logprobs += emitted.logprobs
                if emitted.is_paused:
                    return tokens, logprobs, emitted.stop


def alone(engine: Engine, given: SlotInput) -> tuple[list[int], list[float], int]:
    engine.feed([given])
    return until_paused(engine, given.slot)
