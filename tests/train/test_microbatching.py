"""Rows without a gradient: they are measured by a forward pass alone, and change nothing."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import grpo_step, microbatching, train_state
from r1ci_jax.train.microbatching import Microbatch
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.test_grpo import CONFIG, assert_close, knobs, trajectory, zero_accumulator
from tests.train.tiny_training import tokenizer

MEMBERS = CONFIG.rollouts_per_prompt
WITHOUT_KL = dataclasses.replace(CONFIG, kl_coef=0.0, prompts_per_step=3)
REWARDS = (0.0, 1.0, 0.0, 1.0) + (1.0,) * MEMBERS + (0.0, 0.0, 1.0, 0.0)
"""The answers of the second question are all correct."""

FORMS: dict[str, dict[str, Any]] = {
    "clip": {},
    "gspo": {"surrogate": "gspo"},
    "prompt mean": {"aggregation": "prompt_mean"},
}


def configure(form: str) -> GrpoConfig:
    return dataclasses.replace(WITHOUT_KL, objective=ObjectiveConfig(**FORMS[form]))


def test_a_trajectory_that_is_too_long_names_the_setting(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    one = trajectory(tiny_policy, tiny_params, 0, 1.0)
    longer = CONFIG.sequence_lengths[-1] + 1
    long = dataclasses.replace(
        one, tokens=(1,) * longer, sampled=(False, *[True] * (longer - 1)), logprobs=(0.0,) * longer
    )
    with pytest.raises(UserError, match=r"grpo\.sequence_lengths"):
        microbatching.split_microbatches([long], np.ones(1), CONFIG, 0)


def sample(policy: Policy, params: Params, rewards: Sequence[float] = REWARDS) -> list[Trajectory]:
    return [trajectory(policy, params, n, reward) for n, reward in enumerate(rewards)]


def split(rows: list[Trajectory], config: GrpoConfig) -> list[Microbatch]:
    advantages_PR = grpo_step.compute_advantages(rows, config)
    (batches,) = microbatching.make_minibatches(rows, advantages_PR, config, tokenizer().pad_id)
    return batches


def with_zeros(batch: Microbatch) -> Microbatch:
    """Give the rows advantages of 0, so that the backward pass is made."""
    return batch._replace(advantages_B=jnp.zeros(len(batch.tokens_BT)))


@pytest.mark.parametrize("form", FORMS)
def test_a_forward_pass_alone_adds_what_both_passes_add(
    tiny_policy: Policy, tiny_params: Params, form: str
) -> None:
    config = configure(form)
    here = jax.tree.map(lambda leaf: leaf * 1.02, tiny_params)  # so that ratios differ from 1
    batches = split(sample(tiny_policy, tiny_params), config)
    assert [each.has_gradient for each in batches] == [True, False]
    learned, measured = [int(each.sampled_BT.any(axis=1).sum()) for each in batches]
    assert (learned, measured) == (2 * MEMBERS, MEMBERS)
    found = []
    for batch in (batches[1], with_zeros(batches[1])):
        begun = zero_accumulator(here, config)
        found.append(
            grpo_step.accumulate_gradients(
                begun, Weights(here), batch, policy=tiny_policy, **knobs(config)
            )
        )
    (alone, alone_stats), (both, both_stats) = found
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(both.gradients))
    assert float(alone.sums.tokens) > 0 and float(alone.sums.ratio_deviation) > 0
    assert_close((alone, alone_stats), (both, both_stats), atol=1e-5)  # type: ignore[arg-type]


def test_the_update_is_that_of_all_rows(tiny_policy: Policy, tiny_params: Params) -> None:
    rows, tx = sample(tiny_policy, tiny_params), optax.adam(1e-2)
    batches = split(rows, WITHOUT_KL)
    together = [with_zeros(each) if not each.has_gradient else each for each in batches]
    found = []
    for minibatch in (batches, together, batches[:1]):
        begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
        state, values, sums = grpo_step.update(
            begun, None, None, [minibatch], tiny_policy, WITHOUT_KL, tx
        )
        found.append((state.params, values, sums))
    (got, values, sums), (wanted, wanted_values, wanted_sums), (_, without, _) = found
    assert_close(got, wanted)
    assert values == pytest.approx(wanted_values, rel=1e-4, abs=1e-6)
    for one, other in zip(sums, wanted_sums, strict=True):
        np.testing.assert_array_equal(one.index_B, other.index_B)
        np.testing.assert_allclose(one.entropy_B, other.entropy_B, rtol=1e-4, atol=1e-5)
    # They count: a mean over fewer rows would be another one.
    assert values["optim/grad_norm"] == pytest.approx(without["optim/grad_norm"] * 2 / 3, rel=1e-3)


def test_a_batch_without_any_signal_is_a_step_of_zero_gradient(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    """Momentum moves the weights on, as it does after a gradient of zeros."""
    config, tx = WITHOUT_KL, optax.adam(1e-2)
    state = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
    batches = split(sample(tiny_policy, tiny_params), config)
    state, *_ = grpo_step.update(state, None, None, [batches], tiny_policy, config, tx)
    before = jax.tree.map(jnp.copy, state.params)
    silent = split(sample(tiny_policy, tiny_params, (1.0,) * 3 * MEMBERS), config)
    assert not any(each.has_gradient for each in silent)
    state, values, _ = grpo_step.update(state, None, None, [silent], tiny_policy, config, tx)
    assert values["optim/grad_norm"] == 0 and int(state.step) == 2
    with pytest.raises(AssertionError):
        assert_close(state.params, before)


def test_a_forward_pass_is_all_that_it_costs(tiny_policy: Policy, tiny_params: Params) -> None:
    batches = split(sample(tiny_policy, tiny_params), WITHOUT_KL)
    flops = []
    for batch in (batches[1], with_zeros(batches[1])):
        lowered = grpo_step.accumulate_gradients.lower(
            zero_accumulator(tiny_params, WITHOUT_KL),
            Weights(tiny_params),
            batch,
            policy=tiny_policy,
            **knobs(WITHOUT_KL),
        )
        flops.append(lowered.compile().cost_analysis()["flops"])
    assert flops[0] < 0.45 * flops[1]


def test_what_has_a_gradient_without_an_advantage_keeps_its_backward_pass(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    with_critic = dataclasses.replace(
        WITHOUT_KL, objective=ObjectiveConfig(baseline="critic"), critic=CriticConfig()
    )
    rows = sample(tiny_policy, tiny_params)
    for config in (dataclasses.replace(WITHOUT_KL, kl_coef=0.1), with_critic):
        advantages = np.zeros(len(rows), np.float32)
        batches = microbatching.split_microbatches(rows, advantages, config, tokenizer().pad_id)
        empty = microbatching.empty_microbatches(config, tokenizer().pad_id)
        assert all(each.has_gradient for each in (*batches, *empty))
