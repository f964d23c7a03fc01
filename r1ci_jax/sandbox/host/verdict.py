"""From what the host saw and what the supervisor reported to a status. No input or output here."""

import dataclasses
import json
import os
import signal
from typing import Any

from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """One run as the host saw it."""

    started: bool
    """The supervisor announced the script."""
    report: bytes | None
    """The supervisor's last word, a line of JSON."""
    overflow: bool
    """More output than allowed arrived."""
    late: bool
    """The host's own deadline passed."""
    jail_status: int
    """Wait status of nsjail."""
    seconds: float
    """Since the announcement, or since the launch without one."""
    cpu_seconds: float
    """Of nsjail and everything in it."""
    log: str
    """End of nsjail's log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The supervisor's last word, checked."""

    limit: str
    wait_status: int
    cpu: float
    rss_kib: int
    wall: float
    exception: int
    cell: bool = False
    """Of a session's cell; the others are of scripts."""
    lost: bool = False
    """The session's kernel ended."""


def parse(line: bytes) -> Report | None:
    """A report, or None when the line is not one."""
    try:
        return check(json.loads(line))
    except ValueError:
        return None


def check(fields: Any) -> Report | None:
    """A report of these fields, or None when they are not one's."""
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
        report: What was seen.
        limits: What held.
        overflow: It wrote too much.
        memory_kills: Its processes that the kernel killed for memory.
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
    """Status, exit status and signal."""
    code = os.waitstatus_to_exitcode(report.wait_status)
    if overflow:
        return {"status": Status.OUTPUT_LIMIT}
    if memory_kills and code == -signal.SIGKILL and not report.limit:
        return {"status": Status.OOM, "signal": int(signal.SIGKILL)}
    if report.limit in ("cpu", "wall"):
        return {"status": Status.TIMEOUT_CPU if report.limit == "cpu" else Status.TIMEOUT_WALL}
    if code < 0:
        # Behind the supervisor's limit stands the kernel's, per process and in whole seconds.
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
    """The jail ended, or was ended, before the supervisor could speak. Never a success."""
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
        # Process 1 of the jail was killed, which from inside only the kernel's memory killer does:
        # were it called a fault of the sandbox, a script could void its own failure.
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
