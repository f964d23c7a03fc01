"""Limits and settings of the sandbox."""

import dataclasses
import math
from typing import Any, Literal, Self

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import jail_policy_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one script may use."""

    cpu_seconds: float = 10.0
    """CPU time: the limit that counts, because it does not depend on the load of the machine."""
    wall_seconds: float = 60.0
    """Wall time: the net for scripts that sleep (paper: 60 s)."""
    memory_bytes: int = 512 << 20
    """Address space of a process; with a memory cgroup also what all processes hold together."""
    output_bytes: int = 64 << 10
    """Bytes kept of stdout and of stderr, each; more ends the script."""
    processes: int = 32
    """Processes and threads at once."""
    file_bytes: int = 16 << 20
    """Largest file; the scratch directory holds twice as much."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise UserError(f"sandbox limit {field.name} must be positive and finite")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """How scripts are run."""

    limits: Limits = Limits()
    workers: int = 2
    """Scripts that run at the same time; on a Ray cluster, on each node."""
    policy: str = "default"
    """Name of the policy: sandboxes/<name>.toml."""
    backend: Literal["zygote", "cold", "ray"] = "zygote"
    """zygote: a fork server with numpy and sympy forks a child per script. cold: a new nsjail
    per script, the slow reference. ray: fork servers on every node of a Ray cluster."""
    address: str = ""
    """Of the Ray cluster; empty: one on this machine."""
    queue: int = 4096
    """Scripts that may wait for a worker; handing in more blocks."""
    unsafe: bool = False
    """Run scripts WITHOUT isolation, as this user, with resource limits only."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError("sandbox.workers must be at least 1")
        if self.queue < 1:
            raise UserError("sandbox.queue must be at least 1")
        if self.backend not in ("zygote", "cold", "ray"):
            raise UserError(f"no sandbox backend {self.backend!r}; there are: zygote, cold, ray")
        if self.address and self.backend != "ray":
            raise UserError('sandbox.address is for sandbox.backend = "ray" only; drop one of them')

    @classmethod
    def from_policy(cls, policy: str, **rest: Any) -> Self:
        """With the limits that the policy's file gives.

        Raises:
            UserError: there is no such policy, or its file is not one.
        """
        limits = Limits(**jail_policy_file.content(policy)["limits"])
        return cls(limits=limits, policy=policy, **rest)
