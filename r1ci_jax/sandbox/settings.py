"""Limits and settings of the sandbox."""

import dataclasses
from typing import Annotated, Any, Literal, Self

from r1ci_jax.errors import UserError
from r1ci_jax.ranges import Checked, Count, Range
from r1ci_jax.sandbox import jail_policy_file

Seconds = Annotated[float, Range(above=0, at_most=7 * 24 * 3600)]
"""At most a week: the timers of the system hold no number of any size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(Checked, section="sandbox.limits"):
    """The resources that one script may use."""

    cpu_seconds: Seconds = 10.0
    """CPU time, the main limit, because it does not depend on the load of the machine."""
    wall_seconds: Seconds = 60.0
    """Wall time, the limit for scripts that sleep (paper: 60 s)."""
    memory_bytes: Annotated[int, Range(at_least=128 << 20)] = 512 << 20
    """Address space of a process, of which Python with numpy takes a part; with a memory cgroup
    also the memory of all its processes."""
    output_bytes: Count = 64 << 10
    """Bytes that are kept of stdout and of stderr each; a longer output ends the script."""
    processes: Annotated[int, Range(at_least=1, at_most=32_768)] = 32
    """Largest number of processes and threads at a time; at most Linux's own default for all."""
    file_bytes: Count = 16 << 20
    """Size of the largest file; the scratch directory holds twice as much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SandboxConfig(Checked, section="sandbox"):
    """The sandbox's settings."""

    limits: Limits = Limits()
    workers: Count = 2
    """Number of scripts that run at the same time; on a Ray cluster, on each node."""
    policy: str = "default"
    """Name of the policy: sandboxes/<name>.toml."""
    backend: Literal["zygote", "cold", "ray"] = "zygote"
    """zygote: a fork server with numpy and sympy forks a child per script. cold: a new nsjail
    per script, the slow reference. ray: fork servers on every node of a Ray cluster."""
    address: str = ""
    """Address of the Ray cluster; empty for one on this machine."""
    queue: Count = 4096
    """Number of scripts that may wait for a worker; submitting more blocks."""
    unsafe: bool = False
    """Run scripts WITHOUT isolation, as this user, with resource limits only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address and self.backend != "ray":
            raise UserError('sandbox.address is for sandbox.backend = "ray" only; drop one of them')

    @classmethod
    def from_policy(cls, policy: str, **rest: Any) -> Self:
        """Make settings with the limits of the policy's file.

        Raises:
            UserError: There is no such policy, or its file is not a policy.
        """
        limits = Limits(**jail_policy_file.content(policy)["limits"])
        return cls(limits=limits, policy=policy, **rest)
