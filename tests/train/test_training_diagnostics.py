"""Diagnostics of a real training: they change nothing, fit the metrics, and resume with it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from r1ci_jax.data.records import GradedExample
from r1ci_jax.runtime import metrics
from r1ci_jax.train.policy import Params, Policy
from tests.train.tiny_training import (
    CONFIG,
    RecordingRunner,
    Stopped,
    load_examples,
    train,
    write_until,
)

GRADES = {
    example.id: GradedExample(example=example, group=1 + n % 2, accuracy=0.5, potential=1.0)
    for n, example in enumerate(load_examples("group1+group2"))
    if n < 6
}
ONLY_WITH_DIAGNOSTICS = {
    "tool/self_check_rate",
    "group/signal_fraction",
    "group/unequal_reward_fraction",
    "group/expected_signal_fraction",
    "optim/mask_fraction",
    "time/diagnostics",
}


def read(place: Path, name: str) -> list[dict[str, Any]]:
    return metrics.read(place / f"{name}.jsonl")


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: x for name, x in record.items() if not name.startswith(("time", "rate/"))}
        for record in records
    ]


def test_diagnostics_change_nothing_and_fit_the_metrics(
    tiny_policy: Policy, tiny_params: Params, runner: RecordingRunner, tmp_path: Path
) -> None:
    silent = dataclasses.replace(CONFIG, diagnostics="none")
    left = train(tiny_policy, tiny_params, runner, tmp_path / "none", silent)
    right = train(tiny_policy, tiny_params, runner, tmp_path / "all", grades=GRADES)
    for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "none" / "diagnostics.jsonl").exists()
    steps = read(tmp_path / "all", "metrics")
    for one, other in zip(*map(without_times, (read(tmp_path / "none", "metrics"), steps)),
                          strict=True):  # fmt: skip
        for name, value in other.items():
            if name not in ONLY_WITH_DIAGNOSTICS:
                assert value == one[name], name
        assert other.keys() - one.keys() == ONLY_WITH_DIAGNOSTICS - {"time/diagnostics"}

    records = read(tmp_path / "all", "diagnostics")
    for step in steps:
        here = [record for record in records if record["step"] == step["step"]]
        [task] = [record for record in here if record["by"] == "task"]
        [suite] = [record for record in here if record["by"] == "suite"]
        assert (task["name"], suite["name"], task["stage"]) == ("toy_letters", "toy", "grpo")
        assert task["trajectories"] == 8 and task["groups"] == 2
        for name in task.keys() & step.keys() - {"stage", "step"}:  # there is but one task
            assert task[name] == pytest.approx(step[name], rel=1e-4, abs=1e-6), name
        assert {"optim/entropy", "optim/kl", "optim/clip_fraction"} <= task.keys()
        assert step["group/unequal_reward_fraction"] == 1 - step["group/zero_advantage_fraction"]
        asked = {one.example_id for one in runner.sampled[5 + step["step"] - 1]}
        groups = {record["name"] for record in here if record["by"] == "potential_group"}
        assert groups == {str(GRADES[name].group) for name in asked & GRADES.keys()}


def test_a_resumed_training_has_each_step_once(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(tiny_policy, tiny_params, runner, tmp_path / "whole", grades=GRADES)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(5))
        train(tiny_policy, tiny_params, runner, tmp_path / "stopped", grades=GRADES)
    train(tiny_policy, tiny_params, runner, tmp_path / "stopped", grades=GRADES)
    whole, resumed = (read(tmp_path / place, "diagnostics") for place in ("whole", "stopped"))
    assert resumed == whole and {record["step"] for record in whole} == {1, 2, 3, 4, 5}
