"""R1-Code-Interpreter in JAX: a language model that learns to reason while it runs Python."""

import importlib
import importlib.util

__version__ = "0.1.0"
__all__ = ["__version__"]

_TASKSET = "r1ci_jax.tasks.verifiers.our_taskset"
_PLUGINS = ("R1ciHarness", "R1ciTaskset")
"""What the package `verifiers` looks for here when it loads the taskset `r1ci_jax`."""
if importlib.util.find_spec("verifiers") is not None:
    __all__ += _PLUGINS  # pyright: ignore[reportUnsupportedDunderAll]  # not with a condition


def __getattr__(name: str) -> object:
    """Import a plugin when it is asked for."""
    if name in _PLUGINS:
        return getattr(importlib.import_module(_TASKSET), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
