"""The interpreter jail: run hostile Python, get a typed result back. Imports no JAX."""

from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

__all__ = ["ExecResult", "Limits", "Sandbox", "SandboxConfig", "Session", "Status"]
