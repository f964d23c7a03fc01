"""Run many mixed scripts, also hostile ones, and check statuses, leftovers and growth."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.result import ExecResult
from r1ci_jax.sandbox.settings import SandboxConfig
from r1ci_jax.sandbox.stress import bench
from r1ci_jax.sandbox.stress.census import Census
from r1ci_jax.sandbox.stress.soak_mix import Kind, Step, mix

CHECKPOINTS: Final = 20
RUNS_BETWEEN: Final = 10
"""Two checkpoints are at least so many runs apart."""
STILL_SECONDS: Final = 10.0
"""A script or worker that has ended has this long to be gone before what is left is counted."""
MISMATCHES_KEPT: Final = 20
ALLOWED_GROWTH: Final = 0.10
ALLOWED_BYTES: Final = 16 << 20
"""Memory may grow between the first and the last third by the larger of the two, because
allocators keep memory that was freed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a soak test."""

    runs: int = 10_000
    """Number of runs after the warm-up, which runs every kind twice."""
    workers: int = 2
    policy: str = "default"
    backend: Literal["zygote", "cold", "ray"] = "zygote"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UserError("a soak test needs at least one run: --runs 10000")


class Driver:
    """A driver that runs kinds and compares every result with its kind's expectations."""

    def __init__(self, box: Sandbox, pool: concurrent.futures.Executor):
        self.box = box
        self.pool = pool
        self.statuses: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.retried = 0
        self.failures = 0
        self.mismatches: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def run(self, kinds: Sequence[Kind], first: int, progress: bench.Progress) -> None:
        """Run all kinds, several at a time; the first one has number `first`."""
        futures = [self.pool.submit(self._one, kind, first + i) for i, kind in enumerate(kinds)]
        progress.attend(futures, f"scripts from number {first}")

    def _one(self, kind: Kind, number: int) -> None:
        with self._lock:
            self.kinds[kind.name] += 1
        try:
            if not kind.session:
                code = kind.steps[0].code.replace("@N@", str(number))
                result = self.box.run(code, kind.limits, collect=kind.collect)
                self._check(kind, number, 0, result)
                return
            with self.box.session(kind.limits) as session:
                for index, step in enumerate(kind.steps):
                    result = session.run(step.code.replace("@N@", str(number)))
                    self._check(kind, number, index, result)
        except Exception as error:  # the sandbox must not raise; any exception is reported
            self._record({"kind": kind.name, "number": number, "raised": repr(error)})

    def _check(self, kind: Kind, number: int, index: int, result: ExecResult) -> None:
        step = kind.steps[index]
        wrong = differences(step, number, result)
        with self._lock:
            self.statuses[str(result.status)] += 1
            self.retried += result.attempt > 1
        if wrong:
            said = (result.detail or result.stderr)[-300:]
            facts = {"kind": kind.name, "number": number, "step": index, "wrong": wrong}
            self._record({**facts, "status": str(result.status), "said": said})

    def _record(self, mismatch: dict[str, Any]) -> None:
        with self._lock:
            self.failures += 1
            if len(self.mismatches) < MISMATCHES_KEPT:
                self.mismatches.append(mismatch)


def differences(step: Step, number: int, result: ExecResult) -> dict[str, str]:
    """Return the fields that differ from the expectation: name -> actual value."""
    wrong: dict[str, str] = {}
    if result.status not in step.status:
        wrong["status"] = str(result.status)
    if step.stdout is not None and result.stdout != step.stdout.replace("@N@", str(number)):
        wrong["stdout"] = result.stdout[:200]
    for name in ("exit_code", "signal"):
        expected = getattr(step, name)
        if expected is not None and getattr(result, name) != expected:
            wrong[name] = str(getattr(result, name))
    if step.lost is not None and result.state_lost != step.lost:
        wrong["state_lost"] = str(result.state_lost)
    if step.collects is not None:
        files = {name: data.replace(b"@N@", b"%d" % number) for name, data in step.collects}
        if result.files != files:
            wrong["files"] = str(sorted(result.files))
    return wrong


@contextlib.contextmanager
def private_temporary_directory() -> Iterator[pathlib.Path]:
    """Make a directory for all temporary files of this process and its descendants."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        before, cached = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"], tempfile.tempdir = name, name
        try:
            yield directory
        finally:
            tempfile.tempdir = cached
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def soak(plan: Plan, progress: bench.Progress) -> dict[str, Any]:
    """Run the plan; report in `ok` whether all checks passed, in `reasons` those that failed."""
    host = bench.host_facts()
    config = SandboxConfig(workers=plan.workers, policy=plan.policy, backend=plan.backend)
    with private_temporary_directory() as temporary:
        before = Census.take(temporary)
        with (
            Sandbox(config) as box,
            concurrent.futures.ThreadPoolExecutor(plan.workers + 2) as pool,
        ):
            driver = Driver(box, pool)
            kinds = mix(box.tier)
            progress.say(f"warm-up: {2 * len(kinds)} scripts, {box.tier}")
            driver.run(kinds * 2, 0, progress)
            series, seconds = run_in_parts(plan, driver, kinds, temporary, progress)
            tier = box.tier
        left = Census.take_when_still(temporary, STILL_SECONDS, before).growth(before)
    reasons = complaints(driver, series, left)
    return {
        "ok": not reasons,
        "reasons": reasons,
        "host": host,
        "plan": dataclasses.asdict(plan),
        "tier": tier,
        "seconds": round(seconds, 1),
        "runs_per_second": round(plan.runs / seconds, 1),
        "statuses": dict(sorted(driver.statuses.items())),
        "kinds": dict(sorted(driver.kinds.items())),
        "retried": driver.retried,
        "mismatches": driver.mismatches,
        "first": dataclasses.asdict(series[0]),
        "last": dataclasses.asdict(series[-1]),
        "left_after_close": left,
        "memory": {
            "host_mib": [census.memory.host >> 20 for census in series],
            "workers_mib": [
                None if (written := census.memory.written) is None else written >> 20
                for census in series
            ],
        },
    }


def run_in_parts(
    plan: Plan,
    driver: Driver,
    kinds: Sequence[Kind],
    temporary: pathlib.Path,
    progress: bench.Progress,
) -> tuple[list[Census], float]:
    """The runs, in the same order for the same seed, with a census before, between and after.

    Returns:
        The censuses, and the seconds of the runs without them.
    """
    chosen = random.Random(plan.seed).choices(kinds, [kind.weight for kind in kinds], k=plan.runs)
    series = [Census.take_when_still(temporary, STILL_SECONDS)]
    parts = min(CHECKPOINTS, max(1, plan.runs // RUNS_BETWEEN))
    edges = [plan.runs * part // parts for part in range(parts + 1)]
    seconds = 0.0
    for first, end in itertools.pairwise(edges):
        begin = time.monotonic()
        driver.run(chosen[first:end], 2 * len(kinds) + first, progress)
        seconds += time.monotonic() - begin
        series.append(Census.take_when_still(temporary, STILL_SECONDS, series[0]))
        progress.say(f"{end} of {plan.runs} runs, {driver.failures} not as expected")
    return series, seconds


def complaints(driver: Driver, series: Sequence[Census], left: dict[str, int]) -> list[str]:
    """List the reasons why the test failed."""
    reasons = []
    if driver.failures:
        kinds = sorted({mismatch["kind"] for mismatch in driver.mismatches})
        reasons.append(f"{driver.failures} results were not as expected: {', '.join(kinds)}")
    for name, more in series[-1].growth(series[0]).items():
        reasons.append(f"{name} grew by {more}")
    for name, more in left.items():
        reasons.append(f"{name}: {more} left after the sandbox was closed")
    host = [census.memory.host for census in series]
    workers = [census.memory.written for census in series if census.memory.written is not None]
    for name, values in (("this process", host), ("the workers", workers)):
        if more := memory_growth(values):
            reasons.append(f"memory of {name} grew by {more >> 20} MiB")
    return reasons


def memory_growth(values: Sequence[int]) -> int:
    """Return the growth from the first to the last third if it is more than allowed, else 0.

    The smallest value of the last third counts. Leaked memory is never freed, while a process that
    was just killed on a busy machine may still hold its memory for a moment.
    """
    third = len(values) // 3
    if not third:
        return 0
    first, last = statistics.median(values[:third]), min(values[-third:])
    return int(last - first) if last - first > max(ALLOWED_BYTES, ALLOWED_GROWTH * first) else 0


def story(report: Mapping[str, Any]) -> str:
    """Format the report of `soak` as text."""
    plan, memory = report["plan"], report["memory"]
    lines = [
        f"{plan['runs']} runs, {report['tier']}, {report['seconds']} s, "
        f"{report['runs_per_second']} a second",
        "  " + ", ".join(f"{status} {count}" for status, count in report["statuses"].items()),
    ]
    for name, before in report["first"].items():
        if name != "memory":
            lines.append(f"  {name}: {before} before, {report['last'][name]} after")
    lines += [f"  {name}: {values}" for name, values in memory.items()]
    lines += [f"  not as expected: {mismatch}" for mismatch in report["mismatches"]]
    lines += [f"FAILED: {reason}" for reason in report["reasons"]]
    return "\n".join([*lines, "ok" if report["ok"] else "not ok"])
