"""PPO with the real sampler and the real jail: a stopped training resumes to the same weights.

With every option that it must get along with: partial rollouts, minibatches, resets at a stage.
"""

import dataclasses
from pathlib import Path

import pytest
from etils import epath

from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig, StageConfig
from r1ci_jax.runtime import metrics
from r1ci_jax.train import checkpoint_dir
from r1ci_jax.train.checkpoint import CheckpointManager
from r1ci_jax.train.policy import Params, Policy
from tests.train.tiny_training import (
    CONFIG,
    RecordingRunner,
    Stopped,
    assert_equal,
    logged,
    train,
    write_until,
)

STAGES = [
    Stage(number=1, split="group1", steps=2),
    Stage(number=2, split="group1+group2", steps=3),
]
PPO = dataclasses.replace(
    CONFIG,
    sequence_lengths=(128,),
    checkpoint_every=2,
    num_minibatches=2,
    max_staleness=1,
    objective=ObjectiveConfig(baseline="critic", aggregation="token_mean", kl_in="reward"),
    critic=CriticConfig(lr=1e-2, gae_lambda=0.95, lead_steps=1),
    stages=StageConfig(reset_reference=True, reset_optimizer=True),
)


def test_a_stopped_training_ends_as_an_uninterrupted_one(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(tiny_policy, tiny_params, runner, tmp_path / "whole", PPO, STAGES)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(4))
        train(tiny_policy, tiny_params, runner, tmp_path / "stopped", PPO, STAGES)
    with CheckpointManager(tmp_path / "stopped" / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 2, "the stop was between two checkpoints"
    resumed = train(tiny_policy, tiny_params, runner, tmp_path / "stopped", PPO, STAGES)
    assert_equal(resumed, whole)
    found = logged(tmp_path / "whole")
    assert logged(tmp_path / "stopped") == found

    # The critic learns from the first step on, the policy from the second.
    assert all(row["critic/grad_norm"] > 0 for row in found)
    assert ["optim/loss" in row for row in found] == [False, True, True, True, True]
    assert [row["optim/lr"] for row in found] == pytest.approx([0.0] + [1e-2] * 4)
    assert found[0]["critic/value_mean"] == 0 and found[1]["critic/value_mean"] != 0
    # The reference is the policy at the start of the stage.
    kl = [row["reward/kl"] for row in found]
    assert max(map(abs, (kl[0], kl[1], kl[2]))) < 1e-3 < max(map(abs, kl[3:]))

    # Critic and moments are in the checkpoint; what they are shows in the metrics of later steps.
    names = checkpoint_dir.marker(epath.Path(tmp_path / "whole" / "checkpoints" / "5"))["shapes"]
    for part in ("params", "mu", "nu"):
        assert any("critic" in name and part in name and "value_head" in name for name in names)
