"""google-tunix's own sampler: temperature 1 over the whole vocabulary.

`{"batch": 16, "prompt": 64, "new": 64}` is answered with tokens a second. The sampler's call is one
jitted prefill, which samples the first token, and one jitted loop for the others; both are timed
where the sampler calls them, inside the whole call.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-tunix.

import functools
import time
import warnings
from collections.abc import Callable
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
    """A tokenizer whose texts are numbers of rows, so that prompts have an exact length."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt

    def encode(self, text: str, **_: Any) -> list[int]:
        """Random ids that are neither padding nor the end of text."""
        generator = np.random.default_rng(int(text))
        return generator.integers(1, SHAPE.vocab, self.prompt).tolist()

    def decode(self, ids: list[int], **_: Any) -> str:
        """Nobody reads it."""
        return ""

    def bos_id(self) -> None:
        """None, or tunix would put it in front."""

    def eos_id(self) -> int:
        """No token ends a row."""
        return -1

    def pad_id(self) -> int:
        """Fills up prompts that are shorter than the longest: none."""
        return -2


class Timed:
    """A jitted function that waits for its result and notes how long that took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait."""
        began = time.perf_counter()
        result = jax.block_until_ready(self.function(*args, **kwargs))
        self.seconds = time.perf_counter() - began
        return result


@functools.cache
def model() -> Any:
    """The model, built once."""
    return tunix_model.build("smollm2")


@functools.cache
def sampler(prompt: int, new: int) -> Sampler:
    """A sampler whose cache holds exactly the row."""
    cache = CacheConfig(
        cache_size=prompt + new,
        num_layers=SHAPE.layers,
        num_kv_heads=SHAPE.kv_heads,
        head_dim=SHAPE.head_dim,
    )
    built = Sampler(model(), Rows(prompt), cache)
    built._compiled_prefill_fn = Timed(built._compiled_prefill_fn)  # or the next one waits for it
    built._compiled_decode_fn = Timed(built._compiled_decode_fn)
    return built


def generate(batch: int, prompt: int, new: int, seed: int) -> tuple[float, float]:
    """Seconds of the loop after the first token, and of the whole call."""
    chosen = sampler(prompt, new)
    began = time.perf_counter()
    output = chosen(
        [str(row) for row in range(batch)],
        max_generation_steps=new,
        max_prompt_length=prompt,
        temperature=1.0,
        top_p=1.0,
        seed=seed,
    )
    seconds = time.perf_counter() - began
    assert [len(tokens) for tokens in output.tokens] == [new] * batch, "a row ended early"
    return chosen._compiled_decode_fn.seconds, seconds


@functools.cache
def warm_up(batch: int, prompt: int, new: int) -> None:
    """Compile: everything depends on all three."""
    generate(batch, prompt, new, 0)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One call of the sampler."""
    batch, prompt, new = request["batch"], request["prompt"], request["new"]
    warm_up(batch, prompt, new)
    decode_seconds, call_seconds = generate(batch, prompt, new, time.time_ns() % 2**31)
    return {
        "decode_tokens_per_s": batch * (new - 1) / decode_seconds,
        "call_seconds": call_seconds,
        "call_tokens_per_s": batch * new / call_seconds,
    }


if __name__ == "__main__":
    wire.serve(answer, tunix_model.PACKAGES)
