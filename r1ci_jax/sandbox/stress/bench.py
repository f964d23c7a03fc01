"""Measure both back ends of the sandbox on this machine; return figures in one JSON object.

The rounds alternate between the back ends, so that other load on the machine slows both equally.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits, SandboxConfig
from r1ci_jax.sandbox.stress.census import Memory

Backend = Literal["zygote", "cold"]
BACKENDS: Final[tuple[Backend, ...]] = ("zygote", "cold")
# The script only uses each package once; more would measure sympy instead of the sandbox.
IMPORTS: Final = """
import numpy, sympy
x = sympy.symbols("x")
print(numpy.arange(10).sum(), sympy.expand((x + 1) ** 2))
"""
SCRIPTS: Final = {"print": ("print(1)", "1\n"), "imports": (IMPORTS, "45 x**2 + 2*x + 1\n")}
"""Name -> script and its expected output."""
AWAKE: Final = "import time; time.sleep(0.3)"
BUSY: Final = """
import time
while time.process_time() < 0.5: pass
"""
BUSY_SCRIPTS: Final = 16
BUSY_LIMITS: Final = Limits(cpu_seconds=1.0, wall_seconds=3.0)
"""The last script waits in the queue longer than its wall limit, which must not count."""
SLOW_MS: Final = 500.0
HEARTBEAT_SECONDS: Final = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of runs in each measurement."""

    rounds: int = 5
    prints: int = 50
    """Runs of `print(1)` in each round and back end: as many sequential as concurrent ones."""
    imports: int = 4
    """The same for the script with numpy and sympy; the fork server does five times as many."""
    tail: int = 1000
    """Short runs among which slow ones are counted; half of them are concurrent."""
    sessions: int = 0
    """Number of sessions that are open at the same time; 0 omits that measurement."""
    workers: int = 2
    policy: str = "default"

    def __post_init__(self) -> None:
        if min(self.rounds, self.prints, self.imports, self.workers) < 1:
            raise UserError("a benchmark needs at least one round, run and worker")
        if min(self.tail, self.sessions) < 0:
            raise UserError("a benchmark's counts cannot be negative")


class Progress:
    """Progress lines on stderr, which show that a long measurement is still running."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"  {text}", file=sys.stderr, flush=True)
        self._last = time.monotonic()

    def tick(self, text: str) -> None:
        """Print a line unless the last one is recent."""
        if time.monotonic() - self._last > HEARTBEAT_SECONDS:
            self.say(text)

    def attend[T](self, futures: Iterable[concurrent.futures.Future[T]], text: str) -> list[T]:
        """Wait for all futures and print progress; return the results in the same sequence."""
        futures = list(futures)
        waiting = set(futures)
        while waiting:
            _, waiting = concurrent.futures.wait(waiting, timeout=HEARTBEAT_SECONDS / 2)
            self.tick(f"{text}: {len(futures) - len(waiting)} of {len(futures)}")
        return [future.result() for future in futures]


class Samples:
    """The durations of many runs of one script."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.seconds = 0.0
        """Time in which all of them ran."""

    def figures(self) -> dict[str, float]:
        """Summarize the duration of a run and the number of runs per second."""
        return {
            "runs": len(self.milliseconds),
            "p50_ms": round(percentile(self.milliseconds, 50), 3),
            "p95_ms": round(percentile(self.milliseconds, 95), 3),
            "max_ms": round(max(self.milliseconds), 3),
            "runs_per_second": round(len(self.milliseconds) / self.seconds, 2),
        }


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def measure(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Measure all figures of a plan; return plain data for JSON."""
    begin = time.monotonic()
    host = host_facts()
    with contextlib.ExitStack() as stack:
        boxes: dict[Backend, Sandbox] = {}
        opened: dict[str, float] = {}
        for backend in BACKENDS:
            start = time.monotonic()
            config = SandboxConfig(workers=plan.workers, policy=plan.policy, backend=backend)
            boxes[backend] = box = stack.enter_context(Sandbox(config))
            # One concurrent script for each worker makes sure that all workers have started.
            progress.attend([box.submit(AWAKE) for _ in range(plan.workers)], f"{backend} starts")
            opened[backend] = round(time.monotonic() - start, 3)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(plan.workers))
        backends = measure_scripts(plan, boxes, pool, progress)
        tail = measure_tail(plan.tail, boxes["zygote"], pool, progress) if plan.tail else None
        queue = measure_queue(boxes["zygote"], progress)
        sessions = (
            measure_sessions(plan.sessions, boxes["zygote"], progress) if plan.sessions else None
        )
        tiers = {name: box.tier for name, box in boxes.items()}
    return {
        "host": host,
        "plan": dataclasses.asdict(plan),
        "tiers": tiers,
        "start_seconds": opened,
        "backends": backends,
        "print_p50_ratio": ratio(backends, "print"),
        "imports_p50_ratio": ratio(backends, "imports"),
        "tail": tail,
        "queue": queue,
        "sessions": sessions,
        "bars": bars(backends, tail, queue, sessions),
        "seconds": round(time.monotonic() - begin, 1),
    }


Figures = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Back end -> script -> "sequential" or "concurrent" -> figures."""


def measure_scripts(
    plan: Plan,
    boxes: Mapping[Backend, Sandbox],
    pool: concurrent.futures.ThreadPoolExecutor,
    progress: Progress,
) -> Figures:
    """Measure latency and throughput of both scripts on both back ends."""
    samples = {
        (backend, script, mode): Samples()
        for backend in boxes
        for script in SCRIPTS
        for mode in ("sequential", "concurrent")
    }
    for number in range(plan.rounds):
        # Every second round begins with the other back end.
        order = list(boxes) if number % 2 == 0 else list(boxes)[::-1]
        for script in SCRIPTS:
            for mode in ("sequential", "concurrent"):
                for backend in order:
                    count = plan.prints if script == "print" else plan.imports
                    if (backend, script) == ("zygote", "imports"):
                        count *= 5  # its runs take a fraction of the time
                    progress.tick(f"round {number + 1}: {backend}, {script}, {mode}")
                    threads = pool if mode == "concurrent" else None
                    drive(
                        boxes[backend], script, count, threads, samples[backend, script, mode],
                        progress,
                    )  # fmt: skip
        progress.say(f"round {number + 1} of {plan.rounds} done")
    return {
        backend: {
            script: {
                mode: samples[backend, script, mode].figures()
                for mode in ("sequential", "concurrent")
            }
            for script in SCRIPTS
        }
        for backend in boxes
    }


def drive(
    box: Sandbox,
    script: str,
    count: int,
    pool: concurrent.futures.ThreadPoolExecutor | None,
    samples: Samples,
    progress: Progress,
) -> None:
    """Run a script `count` times, sequentially or as concurrently as the pool has threads."""
    code, expected = SCRIPTS[script]

    def once(_: int) -> float:
        start = time.perf_counter()
        result = box.run(code)
        milliseconds = (time.perf_counter() - start) * 1000
        check(result, expected)
        return milliseconds

    begin = time.perf_counter()
    if pool is None:
        for number in range(count):
            samples.milliseconds.append(once(number))
            progress.tick(f"{script}: {number + 1} of {count}")
    else:
        futures = [pool.submit(once, number) for number in range(count)]
        samples.milliseconds += progress.attend(futures, script)
    samples.seconds += time.perf_counter() - begin


def check(result: ExecResult, expected: str) -> None:
    """Check a result, because a benchmark of wrong answers would be worthless.

    Raises:
        UserError: The result is not the expected one.
    """
    if result.status is not Status.OK or result.stdout != expected:
        said = result.detail or result.stderr.strip()[-200:] or result.stdout[:200]
        raise UserError(
            f"the sandbox failed while it was measured ({result.status}): {said}; "
            "see `r1ci sandbox doctor`"
        )


def measure_tail(
    count: int, box: Sandbox, pool: concurrent.futures.ThreadPoolExecutor, progress: Progress
) -> dict[str, float]:
    """Count rare slow runs, which a lost wake-up would cause."""
    samples = Samples()
    drive(box, "print", count - count // 2, None, samples, progress)
    drive(box, "print", count // 2, pool, samples, progress)
    slow = sum(1 for value in samples.milliseconds if value > SLOW_MS)
    progress.say(f"{count} short runs, {slow} slower than half a second")
    return {**samples.figures(), "above_half_second": slow}


def measure_queue(box: Sandbox, progress: Progress) -> dict[str, Any]:
    """Run more busy scripts than workers; waiting must not make a script time out."""
    begin = time.monotonic()
    futures = [box.submit(BUSY, BUSY_LIMITS) for _ in range(BUSY_SCRIPTS)]
    results = progress.attend(futures, "busy scripts")
    statuses = [str(result.status) for result in results]
    return {
        "scripts": BUSY_SCRIPTS,
        "cpu_seconds_each": 0.5,
        "limits": {"cpu": BUSY_LIMITS.cpu_seconds, "wall": BUSY_LIMITS.wall_seconds},
        "timeouts": sum(status.startswith("timeout") for status in statuses),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "longest_queue_seconds": round(max(result.queue_seconds for result in results), 3),
        "seconds": round(time.monotonic() - begin, 3),
    }


def measure_sessions(count: int, box: Sandbox, progress: Progress) -> dict[str, Any]:
    """Measure memory and time of many open sessions with one variable each."""
    before = Memory.now()
    opened = Samples()
    cells = Samples()
    with contextlib.ExitStack() as stack:
        sessions = []
        for number in range(count):
            start = time.perf_counter()
            session = stack.enter_context(box.session())
            check(session.run(f"kept = {number}"), "")
            opened.milliseconds.append((time.perf_counter() - start) * 1000)
            sessions.append(session)
            progress.tick(f"sessions: {number + 1} of {count} open")
        during = Memory.now()
        for number, session in enumerate(sessions):
            start = time.perf_counter()
            check(session.run("kept"), f"{number}\n")
            cells.milliseconds.append((time.perf_counter() - start) * 1000)
            progress.tick(f"sessions: {number + 1} of {count} have returned their variable")
        closing = time.monotonic()
    closed = time.monotonic() - closing
    after = Memory.now()
    growth = before.available - during.available
    progress.say(f"{count} sessions were open: {growth >> 20} MiB")
    pss = None
    if before.pss is not None and during.pss is not None:
        pss = during.pss - before.pss
    return {
        "sessions": count,
        "available_memory_used_bytes": growth,
        "pss_growth_bytes": pss,
        "bytes_each": growth // count,
        "available_memory_used_after_close_bytes": before.available - after.available,
        "open_p50_ms": round(percentile(opened.milliseconds, 50), 3),
        "open_max_ms": round(max(opened.milliseconds), 3),
        "cell_p50_ms": round(percentile(cells.milliseconds, 50), 3),
        "cell_p95_ms": round(percentile(cells.milliseconds, 95), 3),
        "cell_max_ms": round(max(cells.milliseconds), 3),
        "close_seconds": round(closed, 3),
    }


def ratio(backends: Figures, script: str) -> float:
    """Divide the fork server's median by that of cold jails, both for sequential runs."""
    fork_server, cold = (backends[name][script]["sequential"]["p50_ms"] for name in BACKENDS)
    return round(fork_server / cold, 4)


def bars(
    backends: Figures,
    tail: Mapping[str, float] | None,
    queue: Mapping[str, Any],
    sessions: Mapping[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    """Compare the figures with their bars, which are valid only on an otherwise idle machine."""
    rate = backends["zygote"]["print"]["concurrent"]["runs_per_second"]
    found: dict[str, tuple[float, str, Callable[[float], bool]]] = {
        "print_p50_ratio": (ratio(backends, "print"), "<= 1/3", lambda x: x <= 1 / 3),
        "imports_p50_ratio": (ratio(backends, "imports"), "<= 1/40", lambda x: x <= 1 / 40),
        "zygote_runs_per_second": (rate, ">= 150", lambda x: x >= 150),
        "queue_timeouts": (queue["timeouts"], "== 0", lambda x: x == 0),
    }
    if tail:
        found["above_half_second"] = (tail["above_half_second"], "== 0", lambda x: x == 0)
    if sessions:
        used = sessions["available_memory_used_bytes"] / sessions["sessions"] * 1000 / 2**30
        found["gib_for_1000_sessions"] = (round(used, 3), "< 8", lambda x: x < 8)
    return {
        name: {"value": value, "bar": bar, "holds": holds(value)}
        for name, (value, bar, holds) in found.items()
    }


def host_facts() -> dict[str, object]:
    """Describe the machine that the figures depend on, without personal data."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "root": os.geteuid() == 0,
    }


def table(figures: Mapping[str, Any]) -> str:
    """Format the figures of `measure` as a table."""
    lines = [f"{'':28}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}{'runs/s':>10}"]
    for backend, scripts in figures["backends"].items():
        for script, modes in scripts.items():
            for mode, row in modes.items():
                numbers = (row["p50_ms"], row["p95_ms"], row["max_ms"], row["runs_per_second"])
                label = f"{backend} {script} {mode}"
                lines.append(f"{label:28}" + "".join(f"{number:10.2f}" for number in numbers))
    for name, bar in figures["bars"].items():
        mark = "holds" if bar["holds"] else "MISSED"
        lines.append(f"{name:28}{bar['value']!s:>10}  {bar['bar']!s:8} {mark}")
    return "\n".join(lines)
