"""Limits and settings of the sandbox."""

import dataclasses
import math

from r1ci_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one script may use."""

    cpu_seconds: float = 10.0
    """CPU time: the limit that counts, because it does not depend on the load of the machine."""
    wall_seconds: float = 60.0
    """Wall time: the net for scripts that sleep (paper: 60 s)."""
    memory_bytes: int = 512 << 20
    """Address space."""
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
    """Scripts that run at the same time."""
    policy: str = "default"
    """Name of the policy: sandboxes/<name>.cfg with sandboxes/<name>.kafel."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError("sandbox.workers must be at least 1")
