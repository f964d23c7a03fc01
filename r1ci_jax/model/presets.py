"""Architectures by name: every published dense Qwen-2.5, and a toy.

The sizes follow the published config.json files. Base and instruct models differ: the larger base
models use another norm epsilon, and their trained context is longer. The -1M models have a larger
rotary base; their dual chunk attention equals plain attention up to 262144 tokens and is not
implemented here.
"""

import dataclasses
from collections.abc import Mapping

from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2Config


def _published(
    size: str, *, max_positions: int = 32768, norm_eps: float = 1e-6, rope_theta: float = 1e6
) -> Qwen2Config:
    width, layers, query_heads, kv_heads, mlp_width = _SIZES[size]
    large = width >= 3584
    return Qwen2Config(
        vocab_size=152064 if large else 151936,
        width=width,
        layers=layers,
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_dim=width // query_heads,
        mlp_width=mlp_width,
        rope_theta=rope_theta,
        norm_eps=norm_eps,
        tied=not large,
        max_positions=max_positions,
    )


# The columns are width, layers, query heads, key/value heads and feed-forward width.
_SIZES = {
    "0.5b": (896, 24, 14, 2, 4864),
    "1.5b": (1536, 28, 12, 2, 8960),
    "3b": (2048, 36, 16, 2, 11008),
    "7b": (3584, 28, 28, 4, 18944),
    "14b": (5120, 48, 40, 8, 13824),
    "32b": (5120, 64, 40, 8, 27648),
    "72b": (8192, 80, 64, 8, 29568),
}
PRESETS: Mapping[str, Qwen2Config] = {
    "toy": Qwen2Config(
        vocab_size=512,
        width=128,
        layers=4,
        query_heads=4,
        kv_heads=2,
        head_dim=32,
        mlp_width=384,
        rope_theta=10000.0,
        tied=True,
        max_positions=1024,
    ),
    "qwen2.5-0.5b": _published("0.5b"),
    "qwen2.5-1.5b": _published("1.5b", max_positions=131072),
    "qwen2.5-3b": _published("3b"),
    "qwen2.5-7b": _published("7b", max_positions=131072),
    "qwen2.5-14b": _published("14b", max_positions=131072, norm_eps=1e-5),
    "qwen2.5-32b": _published("32b", max_positions=131072, norm_eps=1e-5),
    "qwen2.5-72b": _published("72b", max_positions=131072, norm_eps=1e-5),
    **{f"qwen2.5-{size}-instruct": _published(size) for size in _SIZES},
    **{
        f"qwen2.5-{size}-instruct-1m": _published(
            size, max_positions=1010000, norm_eps=1e-5, rope_theta=1e7
        )
        for size in ("7b", "14b")
    },
}


def get(name: str) -> Qwen2Config:
    """Return the preset of this name."""
    if name not in PRESETS:
        raise UserError(f"unknown model preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]


def require_architecture(name: str, config: Qwen2Config, checkpoint: str) -> None:
    """Check that a checkpoint has the architecture of the preset of this name.

    Raises:
        UserError: The checkpoint has another architecture.
    """
    wanted, found = dataclasses.asdict(get(name)), dataclasses.asdict(config)
    for key, value in wanted.items():
        if found[key] != value:
            raise UserError(
                f"{checkpoint} has {key} = {found[key]}, model.architecture = {name} has {value}; "
                "correct either of the two"
            )
