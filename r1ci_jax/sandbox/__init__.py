"""The interpreter jail: it runs hostile Python, returns a typed result, and imports no JAX."""

from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

__all__ = ["ExecResult", "Limits", "Sandbox", "SandboxConfig", "Session", "Status"]
