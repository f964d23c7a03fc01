"""R1-Code-Interpreter in JAX: a language model that learns to reason while it runs Python."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Policy", "__version__"]

if TYPE_CHECKING:
    from r1ci_jax.tools.library import Policy
else:

    def __getattr__(name: str) -> object:
        """Import `Policy` when it is first used: with it comes JAX."""
        if name == "Policy":
            from r1ci_jax.tools.library import Policy

            return Policy
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
