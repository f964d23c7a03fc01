"""The ablation that puts a loss on what scripts printed: which tokens, and their ratio."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import ObjectiveConfig
from r1ci_jax.rollout.trajectory import (
    RolloutId,
    StopReason,
    Trajectory,
    with_learned_observations,
)
from r1ci_jax.train import grpo_step, microbatching
from r1ci_jax.train.objective import kl_reward
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.tiny_training import CONFIG

LEARNING = dataclasses.replace(CONFIG, learn_observations=True, old_logprobs="recompute")

#            prompt     code      output    answer
SAMPLED = (*[False] * 3, *[True] * 2, *[False] * 3, *[True] * 2)


def trajectory(logprob: float = -1.0) -> Trajectory:
    return Trajectory(
        example_id="e",
        task="toy_letters",
        question="q",
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=tuple(range(20, 30)),
        sampled=SAMPLED,
        logprobs=tuple(logprob * chosen for chosen in SAMPLED),
        code_calls=(),
        stop=StopReason.ANSWER,
        answer="1",
        correct=True,
        reward=1.0,
    )


def test_all_but_the_prompt_is_learned() -> None:
    learned = with_learned_observations(trajectory())
    assert learned.sampled == (*[False] * 3, *[True] * 7)
    unknown = [math.isnan(logprob) for logprob in learned.logprobs]
    assert unknown == [*[False] * 5, *[True] * 3, *[False] * 2]
    assert learned.tokens == trajectory().tokens
    silent = dataclasses.replace(trajectory(), sampled=(False,) * 10, logprobs=(0.0,) * 10)
    assert not any(with_learned_observations(silent).sampled)


def test_words_of_a_guide_are_not_learned() -> None:
    # prompt 3, answer 2, the guide's prompt 1, its words 1, message 1, answer 2
    sampled = (*[False] * 3, *[True] * 2, False, True, False, *[True] * 2)
    guided = dataclasses.replace(trajectory(), sampled=sampled, guide_starts=(6,))
    learned = with_learned_observations(guided)
    assert list(guided.trained) == [*[False] * 3, *[True] * 2, *[False] * 3, *[True] * 2]
    assert list(learned.trained) == [*[False] * 3, *[True] * 3, False, *[True] * 3]


def test_the_trainer_gives_observations_their_old_log_probability(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    [batch] = microbatching.split_microbatches([trajectory()], np.ones(1), LEARNING, 0)
    np.testing.assert_array_equal(batch.sampled_BT[0, :11], [*[False] * 3, *[True] * 7, False])
    weights = Weights(tiny_params)
    again, diff = grpo_step.recompute_old_logprobs(
        weights, batch, policy=tiny_policy, temperature=1.0
    )
    own_BT = tiny_policy.logprobs_and_entropy(weights, batch.tokens_BT, temperature=1.0)
    # Every learned token has the trainer's own, so that its ratio begins at one.
    np.testing.assert_allclose(
        again.old_logprobs_BT[0, 3:10], np.asarray(own_BT.logprobs_BT)[0, 2:9], atol=1e-5
    )
    # Trainer and sampler are compared on the four tokens that the sampler chose.
    assert float(diff.num_tokens) == 4
    by_hand = np.abs(np.asarray(own_BT.logprobs_BT)[0, [2, 3, 7, 8]] + 1.0)
    np.testing.assert_allclose(float(diff.abs_sum), by_hand.sum(), rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((again, diff)))


def test_it_is_off_by_default() -> None:
    [batch] = microbatching.split_microbatches([trajectory()], np.ones(1), CONFIG, 0)
    np.testing.assert_array_equal(batch.sampled_BT[0, :10], SAMPLED)
    assert np.isfinite(batch.old_logprobs_BT).all()


def test_the_divergence_in_the_reward_is_that_of_what_the_policy_chose(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    # The interpreter writes an observation, whatever the policy: it adds nothing to the divergence.
    in_reward = ObjectiveConfig(kl_in="reward", kl_estimator="k1")
    learning, plain = (
        dataclasses.replace(each, objective=in_reward, sequence_lengths=(64,))
        for each in (LEARNING, CONFIG)
    )
    weights = Weights(tiny_params)
    found, wanted = (
        kl_reward.compute_kl([trajectory()], weights, tiny_policy, config, 0)
        for config in (learning, plain)
    )
    assert found is not None and wanted is not None
    np.testing.assert_array_equal(found, wanted)
    own_BT = jax.jit(lambda tokens_BT: tiny_policy.logprobs_and_entropy(weights, tokens_BT))(
        np.array([trajectory().tokens])
    )
    chosen = np.asarray(own_BT.logprobs_BT)[0, [2, 3, 7, 8]]
    assert found[0] == pytest.approx((-1.0 - chosen).sum(), rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{"old_logprobs": "rollout"}, {"max_staleness": 1}], ids=lambda c: next(iter(c))
)
def test_what_the_sampler_does_not_know_is_asked_of_the_trainer(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"grpo\.learn_observations needs") as caught:
        dataclasses.replace(LEARNING, **changes)
    assert "\n" not in str(caught.value)
