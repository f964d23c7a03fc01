"""R1-Code-Interpreter in JAX: a language model that learns to reason while it runs Python."""

__version__ = "0.1.0"
