"""R1-Code-Interpreter in JAX: a language model that learns to reason while it runs Python."""

import importlib
import importlib.util
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Policy", "__version__"]

_TASKSET = "r1ci_jax.tasks.verifiers.our_taskset"
_PLUGINS = ("R1ciHarness", "R1ciTaskset")
"""What the package `verifiers` looks for here when it loads the taskset `r1ci_jax`."""
_MODULES = {"Policy": "r1ci_jax.tools.policy_api", **dict.fromkeys(_PLUGINS, _TASKSET)}
"""Modules of the names that are imported when they are first used: JAX comes with some."""

if TYPE_CHECKING:
    from r1ci_jax.tools.policy_api import Policy
else:
    if importlib.util.find_spec("verifiers") is not None:
        __all__ += _PLUGINS

    def __getattr__(name: str) -> object:
        """Import a name when it is first used, and keep it."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
