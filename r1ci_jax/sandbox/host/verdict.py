"""Derive a status from the host's observations and the supervisor's report, without any I/O."""

import dataclasses
import json
import os
import signal
from typing import Any

from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """The host's observations of one run."""

    started: bool
    """True when the supervisor announced the script."""
    report: bytes | None
    """The supervisor's last message, a line of JSON."""
    overflow: bool
    """True when more output arrived than is allowed."""
    late: bool
    """True when the host's own deadline passed."""
    jail_status: int
    """Wait status of nsjail."""
    seconds: float
    """Time since the announcement, or since the launch without one."""
    cpu_seconds: float
    """CPU time of nsjail and all processes in it."""
    log: str
    """The end of nsjail's log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The supervisor's last message, after its check."""

    limit: str
    wait_status: int
    cpu: float
    rss_kib: int
    wall: float
    exception: int
    cell: bool = False
    """True for a session's cell, False for a script."""
    lost: bool = False
    """True when the session's process ended."""


def parse(line: bytes) -> Report | None:
    """Parse a report; return None when the line is not one."""
    try:
        return check(json.loads(line))
    except ValueError:
        return None


def check(fields: Any) -> Report | None:
    """Make a report of these fields; return None when they are not those of a report."""
    try:
        report = Report(**fields)
    except TypeError:
        return None
    counts = (report.wait_status, report.rss_kib, report.exception)
    seconds = (report.cpu, report.wall)
    well_formed = (
        report.limit in ("", "cpu", "wall", "kill")
        and isinstance(report.cell, bool)
        and isinstance(report.lost, bool)
        and all(isinstance(n, int) for n in counts)
        and all(isinstance(n, (int, float)) for n in seconds)
    )
    return report if well_formed else None


def make_result(seen: Observed, limits: Limits) -> ExecResult:
    """The result without its output."""
    report = parse(seen.report) if seen.report is not None else None
    if report is None:
        return _without_report(seen)
    return result_of_report(report, limits, overflow=seen.overflow, memory_kills=0)


def result_of_report(
    report: Report, limits: Limits, *, overflow: bool, memory_kills: int
) -> ExecResult:
    """The result without its output, of a script or cell whose end was seen.

    Args:
        report: The report about its end.
        limits: The limits that applied.
        overflow: The script or cell wrote too much.
        memory_kills: The number of its processes that the Linux kernel killed for memory.
    """
    result = ExecResult(
        status=Status.OK,
        cpu_seconds=report.cpu,
        wall_seconds=report.wall,
        max_rss_bytes=report.rss_kib << 10,
        state_lost=report.lost,
    )
    return dataclasses.replace(result, **_ending(report, overflow, memory_kills, limits))


def _ending(report: Report, overflow: bool, memory_kills: int, limits: Limits) -> dict[str, object]:
    """Return the status, the exit status and the signal as fields of a result."""
    code = os.waitstatus_to_exitcode(report.wait_status)
    if overflow:
        return {"status": Status.OUTPUT_LIMIT}
    if memory_kills and code == -signal.SIGKILL and not report.limit:
        return {"status": Status.OOM, "signal": int(signal.SIGKILL)}
    if report.limit in ("cpu", "wall"):
        return {"status": Status.TIMEOUT_CPU if report.limit == "cpu" else Status.TIMEOUT_WALL}
    if code < 0:
        # The Linux kernel's own limit, for each process and in whole seconds, is the backstop.
        if -code in (signal.SIGKILL, signal.SIGXCPU) and report.cpu >= limits.cpu_seconds:
            return {"status": Status.TIMEOUT_CPU}
        status = Status.SECCOMP if -code == signal.SIGSYS else Status.KILLED_SIGNAL
        return {"status": status, "signal": -code}
    if report.cell and not report.lost:
        return {"status": Status.EXCEPTION if report.exception else Status.OK}
    if code == 0:
        return {"status": Status.OK, "exit_code": 0}
    raised = code == 1 and report.exception
    return {"status": Status.EXCEPTION if raised else Status.EXIT_NONZERO, "exit_code": code}


def _without_report(seen: Observed) -> ExecResult:
    """Decide the result of a jail that ended without a report; it is never a success."""
    code = os.waitstatus_to_exitcode(seen.jail_status)
    signal_number = None
    detail = f"nsjail ended with {code}: {seen.log}"
    if seen.overflow:
        status, detail = Status.OUTPUT_LIMIT, ""
    elif seen.started and seen.late:
        status, detail = Status.TIMEOUT_WALL, ""
    elif seen.late:
        status, detail = Status.INFRA_ERROR, f"the jail did not start within {seen.seconds:.0f} s"
    elif not seen.started and code >= 0 and code != 128 + signal.SIGTERM:
        status = Status.SETUP_ERROR
    elif seen.started and code == 128 + signal.SIGKILL:
        # Process 1 of the jail was killed. From inside, only the Linux kernel's memory killer does
        # that. If it counted as a fault of the sandbox, a script could void its own failure.
        status, signal_number, detail = Status.KILLED_SIGNAL, int(signal.SIGKILL), ""
    else:
        status = Status.INFRA_ERROR
    return ExecResult(
        status=status,
        signal=signal_number,
        cpu_seconds=seen.cpu_seconds,
        wall_seconds=seen.seconds if seen.started else 0.0,
        detail=detail,
    )
