"""A host is killed: the other one ends and says so, and the same command ends as one host does."""

import pathlib
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from r1ci_jax.errors import RESUME_EXIT_STATUS
from r1ci_jax.runtime import metrics
from tests.load import PATIENCE
from tests.multihost.conftest import SILENCE, Host, Start
from tests.pipeline import test_kill
from tests.pipeline.test_kill import TRAININGS, final, rows, timeless

EXPERIMENT = (
    test_kill.EXPERIMENT.replace("epochs=60, batch_size=4", "epochs=60, batch_size=8")
    .replace("checkpoint_every=15", "checkpoint_every=20")
    .replace("steps_per_stage=(2, 6, 1, 1)", "steps_per_stage=(1, 2, 1, 1)")
    .replace("checkpoint_every=2", "checkpoint_every=1")
    .replace("    return Experiment(", "    return Experiment(\n        mesh=MeshConfig(data=4),")
)


def kill_at(hosts: Sequence[Host], workdir: pathlib.Path, stage: str, step: int) -> None:
    """Kill the second host as soon as this step is logged; the first one ends by itself."""
    deadline = time.monotonic() + PATIENCE
    while not any(row["step"] >= step for row in rows(workdir, stage)):
        assert all(host.process.poll() is None for host in hosts), [host.said for host in hosts]
        assert time.monotonic() < deadline, f"{stage} {step} was never reached"
        time.sleep(0.01)
    hosts[1].process.send_signal(signal.SIGKILL)
    assert hosts[0].wait() == RESUME_EXIT_STATUS, hosts[0].said
    assert hosts[0].last_line == (
        f"r1ci: host 1 is lost: no heartbeat for {SILENCE:g} s; "
        "the same command on all hosts resumes"
    )


def test_a_run_that_lost_a_host_ends_as_on_one_host(
    start_hosts: Start, tmp_path: pathlib.Path
) -> None:
    file, workdir, whole = tmp_path / "micro.py", tmp_path / "two", tmp_path / "one"
    file.write_text(EXPERIMENT)
    command = ("r1ci_jax", "run", str(file), "--workdir")
    (alone,) = start_hosts(*command, str(whole), hosts=1, devices=4)

    kill_at(start_hosts(*command, str(workdir), devices=2), workdir, "grpo_curriculum", 2)
    hosts = start_hosts(*command, str(workdir), devices=2)
    for host in (*hosts, alone):
        assert host.wait() == 0, host.said
    assert "grpo_curriculum: start at" in hosts[0].said and "\nsft: " not in hosts[0].said
    # Only host 0 shows progress.
    assert "grpo_curriculum" not in hosts[1].said

    other = workdir / "hosts" / "1"
    for stage in TRAININGS:
        for one, left, right in zip(
            *(rows(d, stage) for d in (whole, workdir, other)), strict=True
        ):
            assert timeless(left) == timeless(right)
            same_but_for_rounding(timeless(left), timeless(one))
        pairs = zip(final(file, workdir, stage), final(file, whole, stage), strict=True)
        assert max(float(np.abs(left - right).max()) for left, right in pairs) < 1e-3
    for name in ("potential.jsonl", "evaluation.jsonl", "results.jsonl"):
        found = [metrics.read(directory / name) for directory in (whole, workdir, other)]
        assert found[0] == found[1] == found[2]
    assert sum(row["tool/calls_per_traj"] for row in rows(whole, "grpo_curriculum")) > 1


def same_but_for_rounding(left: dict[str, Any], right: dict[str, Any]) -> None:
    """On another number of hosts sums are made in another order."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-2, abs=1e-3)
        assert right[name] == value, name
