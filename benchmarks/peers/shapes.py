"""The architectures that the benchmarks measure. Stdlib only: every peer reads it."""

import dataclasses
from collections.abc import Mapping
from typing import Final


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder with tied embeddings and no biases where a peer can leave them out."""

    vocab: int
    width: int
    layers: int
    mlp_width: int
    query_heads: int
    kv_heads: int
    head_dim: int = 64
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


SHAPES: Final[Mapping[str, Shape]] = {
    # SmolLM2-135M as published, but for the rotary base, which costs nothing.
    "smollm2": Shape(vocab=49152, width=576, layers=30, mlp_width=1536, query_heads=9, kv_heads=3),
    # Qwen-2.5's vocabulary on a narrow body: the head and its loss are nearly all of the work.
    "vocab": Shape(vocab=151936, width=512, layers=4, mlp_width=1536, query_heads=8, kv_heads=2),
}
