"""The result of a run and its status."""

import dataclasses
import enum
from typing import Final


class Status(enum.StrEnum):
    """The end of a run; a script causes the first nine, the sandbox the last two."""

    OK = "ok"
    """The script ended with exit status 0."""
    EXCEPTION = "exception"
    """An exception reached the top (a syntax error counts); stderr holds the traceback."""
    EXIT_NONZERO = "exit_nonzero"
    """The script exited with another exit status."""
    TIMEOUT_CPU = "timeout_cpu"
    """CPU time used up."""
    TIMEOUT_WALL = "timeout_wall"
    """Limit of wall time reached, for example by sleeping."""
    OOM = "oom"
    """Its processes together used too much memory. Needs a memory cgroup: see `Sandbox.tier`."""
    OUTPUT_LIMIT = "output_limit"
    """More than the limit written to stdout or stderr."""
    KILLED_SIGNAL = "killed_signal"
    """A signal ended it (segmentation fault, abort, kill)."""
    SECCOMP = "seccomp"
    """System call of a foreign architecture."""
    SETUP_ERROR = "setup_error"
    """The jail could not be built; the script never ran."""
    INFRA_ERROR = "infra_error"
    """The jail was lost through no fault of the script, so there is no verdict about it."""


SANDBOX_FAULTS: Final = (Status.SETUP_ERROR, Status.INFRA_ERROR)
"""Statuses that give no verdict about the script."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecResult:
    """The result of one run of a script or cell."""

    status: Status
    exit_code: int | None = None
    """Exit status; None when the script did not exit by itself."""
    signal: int | None = None
    """The signal that ended it, if one did."""
    stdout: str = ""
    """Output decoded as UTF-8, with invalid bytes replaced. `Limits.output_bytes` bytes are kept of
    a longer output: its head, a line with the number of missing bytes, and its tail."""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    cpu_seconds: float = 0.0
    """CPU time of the script and of the children that it waited for."""
    wall_seconds: float = 0.0
    """Time from the script's first instruction to the verdict, without queue and set-up."""
    queue_seconds: float = 0.0
    """Time spent waiting for a worker."""
    max_rss_bytes: int = 0
    worker: int = 0
    """Index of the worker that ran it."""
    attempt: int = 1
    """Number of the attempt; above 1, the sandbox failed before and the run was repeated."""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    """Collected files by name."""
    state_lost: bool = False
    """True when a session's variables are lost; the next cell starts with none."""
    detail: str = ""
    """The sandbox's own message; empty unless the sandbox failed."""
