"""What one slow script costs the others: `rollout.py --late SECONDS`."""

import concurrent.futures
import itertools
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import scripted

from r1ci_jax.sandbox import ExecResult

if TYPE_CHECKING:
    import rollout


class OneLate:
    """Stand-in for the sandbox whose first script takes some seconds, and all others none."""

    def __init__(self, seconds: float) -> None:
        """Delay the first script by `seconds`."""
        self._seconds: float | None = seconds
        self.ended: float | None = None
        """Time at which the first script ended."""

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Submit like `Sandbox.submit`."""
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        if self._seconds is None:
            future.set_result(scripted.RESULT)
        else:
            threading.Timer(self._seconds, self._end, (future,)).start()
            self._seconds = None
        return future

    def _end(self, future: concurrent.futures.Future[ExecResult]) -> None:
        self.ended = time.monotonic()
        future.set_result(scripted.RESULT)


def measure(world: "rollout.World", late: float) -> dict[str, Any]:
    """Run a batch without and with one late script; check that both sample equal tokens."""
    report: dict[str, Any] = {}
    made = {}
    for name, seconds in (("instant", 0.0), ("late", late)):
        box: Any = OneLate(seconds)
        runner, times = world.runner(box), list[tuple[float, int]]()
        world.engine.load(world.weights)
        began = time.monotonic()
        made[name] = runner.run(
            world.requests(0), on_done=lambda done, to=times: to.append((time.monotonic(), done))
        )
        took = time.monotonic() - began
        instants = [began, *(when for when, _ in times)]
        others = [when for when, done in times if done >= len(made[name]) - 1]
        report |= {
            f"trajectories_{name}": len(made[name]),
            f"seconds_{name}": took,
            f"seconds_of_others_{name}": others[0] - began,
            f"longest_seconds_without_chunk_{name}": max(
                after - before for before, after in itertools.pairwise(instants)
            ),
            f"done_when_script_ended_{name}": max(
                (done for when, done in times if when <= (box.ended or math.inf)), default=0
            ),
            f"waited_seconds_{name}": runner.waited_seconds,
            f"slot_waited_fraction_{name}": runner.slot_waited_seconds / took,
        }
    if made["instant"] != made["late"]:
        raise AssertionError("a late script changed what was sampled")
    return report
