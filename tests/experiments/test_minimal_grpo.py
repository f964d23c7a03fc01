"""The algorithm in one file: it agrees with the trainer's losses, and it learns."""

import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import minimal_grpo
from r1ci_jax.train import losses
from r1ci_jax.train.objective.advantages import group_advantages
from r1ci_jax.train.objective.aggregation import token_weights
from r1ci_jax.train.objective.loss_settings import LossSettings
from tests.load import PATIENCE


def test_advantages_are_those_of_the_trainer() -> None:
    rewards_PR = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.1, 0.1, 0.0]])
    expected_PR = group_advantages(jnp.array(rewards_PR), jnp.ones((3, 4), bool))
    np.testing.assert_allclose(minimal_grpo.group_advantages(rewards_PR), expected_PR, atol=1e-5)


def test_the_loss_is_that_of_the_trainer() -> None:
    rng = np.random.default_rng(0)
    logprobs_BT, old_BT, ref_BT = (-rng.uniform(0.1, 3.0, (3, 5, 9))).astype(np.float32)
    advantages_B1 = rng.normal(size=(5, 1)).astype(np.float32)
    sampled_BT = rng.random((5, 9)) < 0.6
    assert sampled_BT.any(axis=1).all()
    settings = minimal_grpo.Settings(kl_coef=0.1)
    ours = minimal_grpo.grpo_loss(logprobs_BT, old_BT, ref_BT, advantages_B1, sampled_BT, settings)
    token_loss_BT = losses.grpo_token_loss(
        jnp.array(logprobs_BT),
        jnp.array(old_BT),
        jnp.array(ref_BT),
        jnp.broadcast_to(advantages_B1, old_BT.shape),
        token_weights(jnp.array(sampled_BT)),
        settings=LossSettings(
            clip_low=settings.clip, clip_high=settings.clip, kl_coef=settings.kl_coef
        ),
    )
    assert float(ours) == pytest.approx(float(token_loss_BT.sum()) / 5, rel=1e-5)


def test_a_task_with_too_few_questions_is_refused() -> None:
    """Three digits and two signs make 9 ** 3 * 4 questions."""
    every = minimal_grpo.generate_questions("toy_arithmetic", 2916, 0)
    assert len({each.question for each in every}) == 2916
    with pytest.raises(SystemExit, match="fewer than 2917 questions"):
        minimal_grpo.generate_questions("toy_arithmetic", 2917, 0)


def test_it_learns_to_run_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.minimal_grpo", "--steps", "10"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=pathlib.Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rewards = [float(each) for each in re.findall(r"reward (\d\.\d+)", done.stdout)]
    assert len(rewards) == 10
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.1
    (before, after) = re.findall(r"accuracy: (\d+)% before, (\d+)% after", done.stdout)[0]
    assert int(after) > int(before) + 20
