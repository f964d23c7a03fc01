"""Find the strongest isolation that this machine supports, and the obstacles to a stronger one."""

import enum
import functools
import os
from typing import Final

from r1ci_jax.sandbox.host.cgroup import Groups


class Tier(enum.StrEnum):
    """Tiers of isolation, strongest first. Only waived isolation permits one below `RLIMITS`."""

    CGROUP = "nsjail + cgroup"
    """Namespaces, system-call filter, resource limits, memory control groups."""
    RLIMITS = "nsjail + rlimits"
    """The same without control groups; memory is limited for each process."""
    UNSAFE = "unsafe"
    """No isolation."""


UNSAFE_WARNING: Final = (
    "UNSAFE: scripts run without any isolation: they can read, change and send away everything "
    "that this user can"
)


@functools.cache
def local() -> tuple[Tier, str]:
    """Find this machine's tier by trial; return it with the obstacle to a higher one."""
    try:
        Groups.create().close()
    except OSError as error:
        return Tier.RLIMITS, _advice(error)
    return Tier.CGROUP, ""


def _advice(error: OSError) -> str:
    if os.geteuid() != 0:
        return "memory control groups need root: run as root to limit a script's processes together"
    return (
        f"memory control groups cannot be made ({error}): mount the memory controller, or start "
        "the container with a writable /sys/fs/cgroup"
    )
