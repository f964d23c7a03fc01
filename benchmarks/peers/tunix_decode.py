"""Measure google-tunix's own sampler at temperature 1 over the full vocabulary.

`{"prompts": [64, 64], "new": 64, "capacity": 128}` is answered with tokens per second. A call of
the sampler is one jitted prefill, which samples the first token, and one jitted loop for the
others; both are timed inside the full call. Its cache has `capacity` tokens a row.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-tunix.

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tunix_model
import wire
from shapes import SHAPES
from tunix.generate.sampler import CacheConfig, Sampler

SHAPE = SHAPES["smollm2"]
# The sampler warns at every call that its own cache's shape is deprecated.
warnings.filterwarnings("ignore", category=DeprecationWarning)


class Rows:
    """Tokenizer whose texts are row numbers and lengths, so that prompts have an exact length."""

    def encode(self, text: str, **_: Any) -> list[int]:
        """Return random ids that are neither padding nor the end of text."""
        row, length = map(int, text.split())
        return np.random.default_rng(row).integers(1, SHAPE.vocab, length).tolist()

    def decode(self, ids: list[int], **_: Any) -> str:
        """Return a text that is not used."""
        return ""

    def bos_id(self) -> None:
        """Return None, as tunix would otherwise prepend the id."""

    def eos_id(self) -> int:
        """Return an id that is never sampled, so that no token ends a row."""
        return -1

    def pad_id(self) -> int:
        """Return the padding id, which is unused as all prompts have the same length."""
        return -2


class Timed:
    """Wrapper of a jitted function that waits for the result and records the time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and wait for its result."""
        began = time.perf_counter()
        result = jax.block_until_ready(self.function(*args, **kwargs))
        self.seconds = time.perf_counter() - began
        return result


@functools.cache
def model() -> Any:
    """Build the model once."""
    return tunix_model.build("smollm2")


@functools.cache
def sampler(capacity: int) -> Sampler:
    """Make a sampler whose cache has rows of this many tokens."""
    cache = CacheConfig(
        cache_size=capacity,
        num_layers=SHAPE.layers,
        num_kv_heads=SHAPE.kv_heads,
        head_dim=SHAPE.head_dim,
    )
    built = Sampler(model(), Rows(), cache)
    built._compiled_prefill_fn = Timed(built._compiled_prefill_fn)  # else the loop waits for it
    built._compiled_decode_fn = Timed(built._compiled_decode_fn)
    return built


def generate(prompts: Sequence[int], new: int, capacity: int, seed: int) -> tuple[float, float]:
    """Return the seconds of the loop after the first token, and of the full call."""
    chosen = sampler(capacity)
    began = time.perf_counter()
    output = chosen(
        [f"{row} {length}" for row, length in enumerate(prompts)],
        max_generation_steps=new,
        max_prompt_length=max(prompts),
        temperature=1.0,
        top_p=1.0,
        seed=seed,
    )
    seconds = time.perf_counter() - began
    assert [len(tokens) for tokens in output.tokens] == [new] * len(prompts), "a row ended early"
    return chosen._compiled_decode_fn.seconds, seconds


@functools.cache
def warm_up(prompts: tuple[int, ...], new: int, capacity: int) -> None:
    """Compile for these sizes; the programs depend on all three."""
    generate(prompts, new, capacity, 0)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with one call of the sampler."""
    prompts, new, capacity = tuple(request["prompts"]), request["new"], request["capacity"]
    warm_up(prompts, new, capacity)
    seed = time.time_ns() % 2**31
    decode_seconds, call_seconds = generate(prompts, new, capacity, seed)
    return {
        "decode_tokens_per_s": len(prompts) * (new - 1) / decode_seconds,
        "call_seconds": call_seconds,
        "call_tokens_per_s": len(prompts) * new / call_seconds,
    }


if __name__ == "__main__":
    wire.serve(answer, tunix_model.PACKAGES)
