"""R1-Code-Interpreter in JAX: a language model that learns to reason while it runs Python."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Policy", "__version__"]

_MODULES = {"Policy": "r1ci_jax.tools.library"}
"""Modules of the names that are imported when they are first used: with them comes JAX."""

if TYPE_CHECKING:
    from r1ci_jax.tools.library import Policy
else:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used."""
        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
