"""Advantages of tokens by hand: what is a step, where the reward enters, what whitening does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train.critic import value_targets
from r1ci_jax.train.critic.value_targets import ValueTargets


def row(*numbers: float) -> jax.Array:
    return jnp.asarray([numbers], jnp.float32)


def mask(bits: str) -> jax.Array:
    return jnp.asarray([[bit == "1" for bit in bits]])


def estimate(
    reward: float, values_BT: jax.Array, chosen_BT: jax.Array, gamma: float, gae_lambda: float
) -> ValueTargets:
    rewards_BT = value_targets.place_rewards(jnp.asarray([reward]), chosen_BT)
    return value_targets.estimate(
        rewards_BT, values_BT, chosen_BT, gamma=gamma, gae_lambda=gae_lambda
    )


def test_observations_between_two_tokens_are_no_steps() -> None:
    # prompt, two tokens, an observation of two, one token, padding; values elsewhere are noise.
    chosen_BT = mask("0110010")
    values_BT = row(9.0, 0.5, 0.25, -7.0, 3.0, 0.75, 8.0)
    found = estimate(1.0, values_BT, chosen_BT, gamma=0.5, gae_lambda=0.5)
    # From the back: 1 - 0.75 = 0.25. Then 0.5 x 0.75 - 0.25 = 0.125, and 0.25 x 0.25 of the later:
    # 0.1875. Then 0.5 x 0.25 - 0.5 = -0.375, and 0.25 x 0.1875 of the later: -0.328125.
    np.testing.assert_array_equal(found.advantages_BT, row(0, -0.328125, 0.1875, 0, 0, 0.25, 0))
    np.testing.assert_array_equal(found.returns_BT, row(0, 0.171875, 0.4375, 0, 0, 1.0, 0))


def test_a_trajectory_that_was_cut_off_after_an_observation_ends_at_its_last_token() -> None:
    chosen_BT = mask("011000")
    rewards_BT = value_targets.place_rewards(jnp.asarray([-0.5]), chosen_BT)
    np.testing.assert_array_equal(rewards_BT, row(0, 0, -0.5, 0, 0, 0))
    values_BT = row(5.0, 0.5, 0.25, 5.0, 5.0, 5.0)
    found = estimate(-0.5, values_BT, chosen_BT, gamma=1.0, gae_lambda=0.5)
    # Nothing is expected behind the end: -0.5 - 0.25, then 0.25 - 0.5 and half of the later.
    np.testing.assert_array_equal(found.advantages_BT, row(0, -0.625, -0.75, 0, 0, 0))
    np.testing.assert_array_equal(found.returns_BT, row(0, -0.125, -0.5, 0, 0, 0))


@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_the_advantage_of_a_single_token_is_reward_less_value(gae_lambda: float) -> None:
    found = estimate(1.0, row(2.0, 0.25, 3.0), mask("010"), gamma=0.9, gae_lambda=gae_lambda)
    np.testing.assert_array_equal(found.advantages_BT, row(0, 0.75, 0))
    np.testing.assert_array_equal(found.returns_BT, row(0, 1.0, 0))


def test_a_row_of_padding_has_nothing() -> None:
    found = estimate(1.0, row(1.0, 1.0), mask("00"), gamma=1.0, gae_lambda=1.0)
    assert not np.any(found.advantages_BT) and not np.any(found.returns_BT)


def test_without_discount_and_at_lambda_1_every_return_is_the_reward() -> None:
    rng = np.random.default_rng(0)
    chosen_BT = jnp.asarray(rng.random((4, 30)) < 0.6)
    values_BT = jnp.asarray(rng.normal(size=(4, 30)), jnp.float32)
    rewards_B = jnp.asarray(rng.normal(size=4), jnp.float32)
    rewards_BT = value_targets.place_rewards(rewards_B, chosen_BT)
    np.testing.assert_array_equal(rewards_BT.sum(axis=1), rewards_B)
    found = value_targets.estimate(rewards_BT, values_BT, chosen_BT, gamma=1.0, gae_lambda=1.0)
    wanted_BT = np.where(chosen_BT, rewards_B[:, None], 0.0)
    np.testing.assert_allclose(found.returns_BT, wanted_BT, atol=1e-5)
    # At lambda 0 an advantage is one token's own gain in value.
    found = value_targets.estimate(rewards_BT, values_BT, chosen_BT, gamma=1.0, gae_lambda=0.0)
    for value_T, chosen_T, advantage_T, reward in zip(
        values_BT, chosen_BT, found.advantages_BT, rewards_B, strict=True
    ):
        values = [*np.asarray(value_T)[np.asarray(chosen_T)], reward]
        np.testing.assert_allclose(advantage_T[chosen_T], np.diff(values), atol=1e-6)


def test_a_perfect_critic_of_a_bandit_leaves_reward_less_mean() -> None:
    rng = np.random.default_rng(1)
    rewards_B = rng.random(6).astype(np.float32)
    values_BT = jnp.full((6, 1), rewards_B.mean())
    chosen_BT = jnp.ones((6, 1), bool)
    found = value_targets.estimate(
        jnp.asarray(rewards_B[:, None]), values_BT, chosen_BT, gamma=1.0, gae_lambda=1.0
    )
    centered_B = rewards_B - rewards_B.mean()
    np.testing.assert_allclose(found.advantages_BT[:, 0], centered_B, atol=1e-7)
    sums = value_targets.sum_tokens(found, values_BT, chosen_BT)
    squares = value_targets.sum_squares(found, chosen_BT, sums)
    whitened_BT = value_targets.whiten(found.advantages_BT, chosen_BT, sums, squares)
    np.testing.assert_allclose(whitened_BT[:, 0], centered_B / rewards_B.std(ddof=1), rtol=1e-5)


def test_whitening_is_over_the_chosen_tokens_of_all_microbatches() -> None:
    rng = np.random.default_rng(2)
    parts = []
    for rows, length in ((2, 5), (3, 9)):
        chosen_BT = jnp.asarray(rng.random((rows, length)) < 0.5)
        advantages_BT = jnp.asarray(rng.normal(2.0, 3.0, (rows, length)), jnp.float32)
        parts.append((ValueTargets(advantages_BT, 2 * advantages_BT), chosen_BT))
    sums = jax.tree.map(
        jnp.add, *(value_targets.sum_tokens(each, each.returns_BT, at) for each, at in parts)
    )
    squares = jax.tree.map(
        jnp.add, *(value_targets.sum_squares(each, at, sums) for each, at in parts)
    )
    tokens = np.concatenate([np.asarray(each.advantages_BT)[np.asarray(at)] for each, at in parts])
    wanted = (tokens - tokens.mean()) / tokens.std(ddof=1)
    found = [value_targets.whiten(each.advantages_BT, at, sums, squares) for each, at in parts]
    flat = [np.asarray(x)[np.asarray(at)] for x, (_, at) in zip(found, parts, strict=True)]
    np.testing.assert_allclose(np.concatenate(flat), wanted, rtol=1e-4, atol=1e-5)
    for x_BT, (_, at) in zip(found, parts, strict=True):
        assert not np.asarray(x_BT)[~np.asarray(at)].any()
    # Equal advantages say nothing: rounding is not blown up to a deviation of 1.
    equal = ValueTargets(jnp.full((1, 3), 0.3), jnp.ones((1, 3)))
    chosen_BT = mask("111")
    sums = value_targets.sum_tokens(equal, equal.returns_BT, chosen_BT)
    squares = value_targets.sum_squares(equal, chosen_BT, sums)
    whitened_BT = value_targets.whiten(equal.advantages_BT, chosen_BT, sums, squares)
    np.testing.assert_allclose(whitened_BT, np.zeros((1, 3)), atol=1e-2)
