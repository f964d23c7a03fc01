"""What a run gives back."""

import dataclasses
import enum
from typing import Final


class Status(enum.StrEnum):
    """How a run ended. The first eight are the script's doing, the last two the sandbox's."""

    OK = "ok"
    """The script ended with exit status 0."""
    EXCEPTION = "exception"
    """An exception reached the top (a syntax error counts); stderr holds the traceback."""
    EXIT_NONZERO = "exit_nonzero"
    """The script left with another exit status."""
    TIMEOUT_CPU = "timeout_cpu"
    """It used up its CPU time."""
    TIMEOUT_WALL = "timeout_wall"
    """It slept or waited too long."""
    OOM = "oom"
    """Its processes together used too much memory. Needs a memory cgroup: see `Sandbox.tier`."""
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than the limit to stdout or stderr."""
    KILLED_SIGNAL = "killed_signal"
    """A signal ended it (segmentation fault, abort, kill)."""
    SECCOMP = "seccomp"
    """It made a system call of a foreign architecture."""
    SETUP_ERROR = "setup_error"
    """The jail could not be built; the script never ran."""
    INFRA_ERROR = "infra_error"
    """The jail was lost through no fault of the script: no verdict about it."""


SANDBOX_FAULTS: Final = (Status.SETUP_ERROR, Status.INFRA_ERROR)
"""No verdict about the script."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecResult:
    """One script's run."""

    status: Status
    exit_code: int | None = None
    """None when the script did not exit by itself."""
    signal: int | None = None
    """The signal that ended it, if one did."""
    stdout: str = ""
    """Decoded as UTF-8, invalid bytes replaced. Of too long an output, `Limits.output_bytes` bytes:
    its head, a line that says how much is missing, and its tail."""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    cpu_seconds: float = 0.0
    """CPU time of the script and the children it waited for."""
    wall_seconds: float = 0.0
    """From the script's first instruction to the verdict; neither queue nor set-up counts."""
    queue_seconds: float = 0.0
    """Time spent waiting for a worker."""
    max_rss_bytes: int = 0
    worker: int = 0
    """Index of the worker that ran it."""
    attempt: int = 1
    """More than 1: the sandbox failed before and the run was repeated."""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    """Collected files by name."""
    state_lost: bool = False
    """Of a session: its variables are gone, the next cell starts afresh."""
    detail: str = ""
    """What the sandbox itself has to say; empty unless it failed."""
