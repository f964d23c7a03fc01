"""Settings of PPO: what would not be what it says is refused in one line."""

import dataclasses
from typing import Any

import pytest

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig, SignalConfig
from r1ci_jax.train.critic.critic_step import TargetSettings

PPO = GrpoConfig(objective=ObjectiveConfig(baseline="critic"))


def objective(**changes: Any) -> ObjectiveConfig:
    return ObjectiveConfig(baseline="critic", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": objective(advantage_scale="none")}, r"advantage_scale .* about groups"),
        ({"objective": objective(leave_one_out=True)}, r"leave_one_out are about groups"),
        ({"signal": SignalConfig(refill_rounds=2)}, r"refill_rounds = 2 drops groups"),
        ({"signal": SignalConfig(mask_void_turns=True)}, r"masked_in_baseline .* set it to False"),
        ({"signal": SignalConfig(mask_cut_off=True)}, r"masked_in_baseline .* set it to False"),
        ({"learn_observations": True, "old_logprobs": "recompute"}, r"tokens that nobody chose"),
        ({"critic": CriticConfig(lead_steps=600)}, r"leaves the policy no step of the 600"),
        ({"objective": ObjectiveConfig(), "critic": CriticConfig(lr=1.0)}, r"nothing reads it"),
    ],
)
def test_a_combination_without_meaning_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        dataclasses.replace(PPO, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        # Values are the critic's of today, as the weights that train are; GRPO's are as old.
        {"max_staleness": 1},
        {"old_logprobs": "decoupled", "max_staleness": 3},
        {"replay_rollouts": "runs/x/rollouts"},
        {"signal": SignalConfig(mask_cut_off=True, masked_in_baseline=False)},
        {"signal": SignalConfig(oversampling=2, retire_above=0.9)},
        # GSPO's ratio of a sequence may weigh advantages of tokens (2507.18071, section 4.3).
        {"objective": objective(surrogate="gspo", kl_in="reward")},
        {"critic": CriticConfig(lead_steps=599)},
    ],
)
def test_what_is_sound_is_allowed(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(PPO, **changes).has_critic


def test_the_kl_is_in_the_reward_or_in_the_loss() -> None:
    in_loss = TargetSettings.of(PPO)
    assert PPO.kl_coef > 0 and in_loss.kl_coef == 0
    in_reward = dataclasses.replace(PPO, objective=objective(kl_in="reward", kl_estimator="k1"))
    assert TargetSettings.of(in_reward) == TargetSettings(
        gamma=1.0, gae_lambda=1.0, kl_coef=PPO.kl_coef, kl_estimator="k1"
    )
