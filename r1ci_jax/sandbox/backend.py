"""The back ends of a sandbox: a pool of jails on this machine, or the nodes of a Ray cluster."""

from typing import Protocol

from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.local import ScriptQueue, local_backend
from r1ci_jax.sandbox.ray.ray_pool import RayPool
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig


class Backend(ScriptQueue, Protocol):
    """A queue of scripts with the jails that run them."""

    @property
    def tier(self) -> str:
        """Describe the isolation of the scripts."""
        ...

    def session(self, limits: Limits) -> Session:
        """Return a session; its first cell starts it."""
        ...

    def close(self) -> None:
        """Drop waiting scripts, end running ones, and remove everything the back end created."""
        ...


def open_backend(config: SandboxConfig, python: JailPython | None) -> Backend:
    """Open the back end that `config.backend` names.

    Raises:
        UserError: This machine, or every node of the cluster, cannot isolate scripts.
    """
    return RayPool(config) if config.backend == "ray" else local_backend(config, python)
