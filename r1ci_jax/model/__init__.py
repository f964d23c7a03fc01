"""Qwen-2.5 in Flax NNX, and its Hugging Face weights."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1ci_jax.model.hf import weights as weights


def __getattr__(name: str) -> Any:
    """Import `weights` on first use: the model itself needs no checkpoint reader."""
    if name == "weights":
        import importlib

        return importlib.import_module("r1ci_jax.model.hf.weights")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
