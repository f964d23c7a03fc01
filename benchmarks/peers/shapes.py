"""The benchmarks measure these architectures. Use only stdlib: every peer imports it."""

import dataclasses
from collections.abc import Mapping
from typing import Final


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """Decoder with tied embeddings, and without biases if the peer allows it."""

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
    # This is the published SmolLM2-135M except for the rotary base, which costs nothing.
    "smollm2": Shape(vocab=49152, width=576, layers=30, mlp_width=1536, query_heads=9, kv_heads=3),
    # It has Qwen-2.5's vocabulary on a narrow body: the head and its loss dominate the work.
    "vocab": Shape(vocab=151936, width=512, layers=4, mlp_width=1536, query_heads=8, kv_heads=2),
}
