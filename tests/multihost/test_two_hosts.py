"""Two processes of four devices compute what one device computes."""

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sandbox import Sandbox, SandboxConfig
from tests.multihost import computed
from tests.multihost.conftest import Start


def test_two_hosts_compute_what_one_device_computes(
    start_hosts: Start, tmp_path: pathlib.Path
) -> None:
    running = start_hosts("tests.multihost.computed", str(tmp_path))
    with Sandbox(SandboxConfig(workers=1)) as box:
        steps, (whole, carried, _) = computed.steps(), computed.rollouts(box)
    for host in running:
        assert host.wait() == 0, host.said
    # What the test itself wrote a moment ago.
    found = [pickle.loads((tmp_path / f"{number}.pickle").read_bytes()) for number in (0, 1)]

    for host in found:
        for name, leaves in steps.items():
            bound = 1e-7 if name == "moments" else 1e-5
            assert largest_difference(leaves, host["steps"][name]) <= bound, name
        same_trajectories(whole, host["rollouts"][0])
        same_trajectories(carried, host["rollouts"][1])
        # Host 1 held back a script until all other trajectories were done on both.
        assert not host["rollouts"][2]

    # Both hosts hold the same bits, and each ran scripts of its own.
    for name in steps:
        assert largest_difference(*(host["steps"][name] for host in found)) == 0.0
    assert found[0]["rollouts"] == found[1]["rollouts"]
    scripts = [host["scripts"] for host in found]
    executed = sum(len(trajectory.code_calls) for trajectory in (*whole, *carried))
    assert min(scripts) > 5 and sum(scripts) == executed
    assert any(trajectory.num_stale_tokens for trajectory in carried)


def largest_difference(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    pairs = zip(left, right, strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def same_trajectories(left: list[Trajectory], right: list[Trajectory]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert untimed(one) == untimed(other)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def untimed(trajectory: Trajectory) -> dict[str, Any]:
    calls = [(call.code, call.result.status, call.result.stdout) for call in trajectory.code_calls]
    return {**vars(trajectory), "logprobs": None, "code_calls": calls}
