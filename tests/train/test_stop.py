"""SIGTERM in the middle of a training: what is finished is saved, and the same weights come out."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.errors import Resume
from r1ci_jax.rollout.sandbox_faults import SandboxFaults
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.runtime import metrics, preemption
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.train.checkpoint import CheckpointManager
from r1ci_jax.train.policy import Params, Policy
from r1ci_jax.train.rollout_collector import RolloutCollector
from tests.train import tiny_training
from tests.train.tiny_training import RecordingRunner, assert_equal, logged


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sampling_is_abandoned_and_the_step_before_is_saved(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With trajectories in flight, which go on while the step that is abandoned lasts.
    config = dataclasses.replace(tiny_training.CONFIG, max_staleness=1)
    whole = tiny_training.train(tiny_policy, tiny_params, runner, tmp_path / "whole", config)
    place = tmp_path / "stopped"
    collect, dispatch = RolloutCollector.collect, Engine.dispatch
    dispatched: list[int] = []
    """Chunks of the step that is stopped."""
    sampling: list[int] = []

    def collect_noted(collector: RolloutCollector, step: int) -> Any:
        sampling.append(step)
        return collect(collector, step)

    def dispatch_and_stop(engine: Engine) -> None:
        dispatch(engine)
        if sampling and sampling[-1] == 4:
            dispatched.append(4)
            if len(dispatched) == 2:
                terminate()

    with (
        monkeypatch.context() as patch,
        preemption.handle_sigterm(),
        pytest.raises(Resume, match=r"^stopped by SIGTERM after grpo step 4; the same command"),
    ):
        patch.setattr(RolloutCollector, "collect", collect_noted)
        patch.setattr(Engine, "dispatch", dispatch_and_stop)
        tiny_training.train(tiny_policy, tiny_params, runner, place, config)
    assert len(dispatched) == 2, "the chunk under way was the last one"
    with CheckpointManager(place / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 4, "checkpoints are due every third step only"
    resumed = tiny_training.train(tiny_policy, tiny_params, runner, place, config)
    assert_equal(resumed, whole)
    assert logged(place) == logged(tmp_path / "whole")


def test_a_step_under_way_is_finished_and_saved(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = metrics.MetricsWriter.write

    def write_and_stop(writer: metrics.MetricsWriter, stage: str, step: int, values: Any) -> None:
        if step == 2:
            terminate()
        write(writer, stage, step, values)

    with (
        monkeypatch.context() as patch,
        preemption.handle_sigterm(),
        pytest.raises(Resume, match="after grpo step 2;"),
    ):
        patch.setattr(metrics.MetricsWriter, "write", write_and_stop)
        tiny_training.train(tiny_policy, tiny_params, runner, tmp_path)
    assert [row["step"] for row in logged(tmp_path)] == [1, 2]
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 2
    marker = json.loads((tmp_path / "checkpoints" / "2" / "step.json").read_text())
    assert marker["metadata"]["curriculum"] == {"stage": 1, "split": "group1", "step": 2}
    assert marker["training"]["seed"] == 3
    assert marker["metric"] == logged(tmp_path)[-1]["reward/mean"]


def test_before_the_first_step_there_is_nothing_to_save(
    tiny_policy: Policy, tiny_params: Params, runner: RecordingRunner, tmp_path: Path
) -> None:
    with preemption.handle_sigterm(), pytest.raises(Resume, match="after grpo step 0;"):
        terminate()
        tiny_training.train(tiny_policy, tiny_params, runner, tmp_path)
    assert logged(tmp_path) == []
    assert not (tmp_path / "checkpoints").exists()


class Breaking(RecordingRunner):
    """A runner whose sandbox is broken from the second step on."""

    def run(self, *words: Any, **options: Any) -> list[Trajectory]:
        found = super().run(*words, **options)
        if len(self.recorded) == 1:
            return found
        lost = ExecResult(status=Status.INFRA_ERROR, detail="the fork server ended")
        call = CodeCall(code="print(1)\n", result=lost)
        return [
            dataclasses.replace(each, code_calls=(call,), stop=StopReason.SANDBOX_FAULT)
            for each in found
        ]


def test_a_broken_sandbox_stops_the_training_and_the_steps_before_are_kept(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
) -> None:
    whole = tiny_training.train(tiny_policy, tiny_params, runner, tmp_path / "whole")
    place = tmp_path / "stopped"
    broken = Breaking(runner.engine, runner.sandbox, runner.tokenizer, runner.limits)
    with pytest.raises(SandboxFaults, match="GRPO step 2: the sandbox failed in 8 of 8 scripts"):
        tiny_training.train(tiny_policy, tiny_params, broken, place)
    assert [row["step"] for row in logged(place)] == [1]
    # No checkpoint was due: the step before the fault was saved for it.
    assert_equal(tiny_training.train(tiny_policy, tiny_params, runner, place), whole)
    assert len(runner.recorded) == 5 + 4
    assert logged(place) == logged(tmp_path / "whole")
