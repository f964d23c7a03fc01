"""Advantages: each form by hand, and the gradient law of the paper on a bandit."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train import losses
from r1ci_jax.train.objective.advantages import group_advantages
from r1ci_jax.train.objective.aggregation import token_weights
from r1ci_jax.train.objective.loss_settings import LossSettings

FORMS = [
    {"scale": scale, "leave_one_out": leave_one_out}
    for scale in ("group_std", "batch_std", "none")
    for leave_one_out in (False, True)
]
EVERY = np.ones((2, 4), bool)
REWARDS = np.array([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 0.0]])


def advantages(rewards_PR: Any, valid_PR: Any = EVERY, **form: Any) -> np.ndarray:
    return np.asarray(group_advantages(jnp.asarray(rewards_PR), jnp.asarray(valid_PR), **form))


def test_without_a_scale_they_are_differences() -> None:
    wanted = [[0.5, -0.5, -0.5, 0.5], [2.25, -0.75, -0.75, -0.75]]
    np.testing.assert_allclose(advantages(REWARDS, scale="none"), wanted)


def test_leaving_one_out_compares_with_the_others() -> None:
    # The others of a 1 in the first group have mean 1/3, those of a 0 have 2/3.
    wanted = [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [3.0, -1.0, -1.0, -1.0]]
    got = advantages(REWARDS, scale="none", leave_one_out=True)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    # With an invalid member the others are fewer.
    valid_PR = EVERY.copy()
    valid_PR[1, 3] = False
    got = advantages(REWARDS, valid_PR, scale="none", leave_one_out=True)
    np.testing.assert_allclose(got[1], [3.0, -1.5, -1.5, 0.0], rtol=1e-6)


def test_the_batch_has_one_deviation() -> None:
    # Squares of the differences: 4 of 1/4, one of 81/16 and 3 of 9/16: 7.75 over 8 trajectories.
    deviation = (7.75 / 8) ** 0.5
    differences = np.array([[0.5, -0.5, -0.5, 0.5], [2.25, -0.75, -0.75, -0.75]])
    got = advantages(REWARDS, scale="batch_std")
    np.testing.assert_allclose(got, differences / deviation, rtol=1e-5)
    # Invalid trajectories are none: 4 of 1/4, and 2, -1, -1.
    valid_PR = EVERY.copy()
    valid_PR[1, 3] = False
    got = advantages(REWARDS, valid_PR, scale="batch_std")
    deviation = (7 / 7) ** 0.5
    np.testing.assert_allclose(got[1], np.array([2, -1, -1, 0]) / deviation, rtol=1e-5)


def test_the_baseline_does_not_change_the_deviation() -> None:
    plain = advantages(REWARDS, scale="group_std")
    got = advantages(REWARDS, scale="group_std", leave_one_out=True)
    np.testing.assert_allclose(got, plain * 4 / 3, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_group_of_equal_rewards_has_exactly_none(form: dict[str, Any]) -> None:
    # The float32 mean of five times 1.1 is not 1.1. A group of one has nothing to compare with.
    rewards_PR = np.array([[1.1] * 5, [0.0, 1.0, 0.0, 0.0, 1.0], [5.0, 1.1, 7.0, 8.0, 9.0]])
    valid_PR = np.ones((3, 5), bool)
    valid_PR[2] = [False, True, False, False, False]
    got = advantages(rewards_PR, valid_PR, **form)
    assert not got[[0, 2]].any() and got[1].all()
    assert not advantages(np.full((3, 5), 1.1), np.ones((3, 5), bool), **form).any()


# --- the gradient law ----------------------------------------------------------------------------

G = 5
"""Rollouts of a question, the paper's."""


@functools.partial(jax.jit, static_argnames=("scale",))
def bandit_gradients(logits: jax.Array, arms: jax.Array, rewards: jax.Array, *, scale: Any) -> Any:
    """Policy gradients of many groups of G pulls of one bandit, and the sum of G |∇ log π|².

    Each pull is a trajectory of one token of a policy that is a softmax over arms. The loss is the
    trainer's, so this is the gradient that it would apply.
    """
    how = LossSettings()
    sampled_BT = jnp.ones((G, 1), bool)

    def loss(logits: jax.Array, arms_B: jax.Array, advantages_B: jax.Array) -> jax.Array:
        logprobs_BT = jax.nn.log_softmax(logits)[arms_B][:, None]
        inputs = losses.TokenInputs(
            jax.lax.stop_gradient(logprobs_BT),
            None,
            advantages_B[:, None],
            token_weights(sampled_BT),
        )
        return losses.grpo_token_loss(logprobs_BT, *inputs, settings=how).sum() / G

    advantages = group_advantages(rewards, jnp.ones(rewards.shape, bool), scale=scale)
    gradients = jax.vmap(jax.grad(loss), (None, 0, 0))(logits, arms, advantages)
    probabilities = jax.nn.softmax(logits)
    scores = jnp.eye(len(logits))[arms] - probabilities[None, None]
    return gradients, jnp.mean(jnp.sum(scores**2, axis=-1), axis=-1)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_gradient_energy_is_bounded_by_the_variance_of_the_reward(p: float) -> None:
    """Check section 5 of the paper exactly, over all 2^G outcomes of a bandit of two arms.

    A trajectory is right with probability p, r_i = 1, else r_i = 0. The policy's gradient is
    g = (1/G) Σ (r_i - r̄) v_i with v_i = ∇ log π(y_i). The paper derives

        E[(r_i - r̄)²] = p (1 - p) (1 - 1/G)
        E|g|² <= p (1 - p) (1 - 1/G) E[(1/G) Σ |v_i|²]

    so that a question teaches nothing where p is 0 or 1, and most where p = 1/2: the reason for
    the improvement potential 4 p (1 - p). The first line and E|g|² <= E[(1/G) Σ (r_i - r̄)² |v_i|²]
    always hold. The second line follows where |v_i|² does not depend on the outcome: here for
    p = 1/2. Elsewhere rare answers have the longer |v_i|: at p = 0.1 its left side is twice the
    right one. It still vanishes for p at 0 and 1.
    """
    outcomes = np.array(list(itertools.product([0, 1], repeat=G)))
    chances = np.prod(np.where(outcomes == 1, p, 1 - p), axis=1)
    centered = advantages(outcomes, np.ones(outcomes.shape, bool), scale="none")
    variance = chances @ (centered**2).mean(axis=1)
    assert variance == pytest.approx(p * (1 - p) * (1 - 1 / G), rel=1e-5)

    logits = jnp.log(jnp.array([1 - p, p]))
    gradients, _ = bandit_gradients(logits, outcomes, outcomes, scale="none")
    energy = chances @ np.sum(np.asarray(gradients) ** 2, axis=1)
    scores = np.eye(2)[outcomes] - np.array([1 - p, p])
    bound = chances @ np.mean(centered**2 * np.sum(scores**2, axis=-1), axis=1)
    assert 0 < energy <= bound * (1 + 1e-5)
    mean_score = chances @ np.mean(np.sum(scores**2, axis=-1), axis=1)
    ratio = energy / (variance * mean_score)
    if p == 0.5:
        assert ratio <= 1 + 1e-5
    if p == 0.1:
        assert ratio == pytest.approx(2.0, rel=0.05)


def test_measured_gradient_energy_follows_p_times_1_minus_p() -> None:
    """Measure the law of section 5 on bandits of many arms, where it is sharp.

    With K arms of equal probability, pK of them right, the gradients v_i of G pulls are nearly
    orthogonal and of one length, |v|² = 1 - 1/K, whatever p is. Then of the sum over i and j in
    |g|² only i = j stays, and

        E|g|² = (1/G) p (1 - p) (1 - 1/G) |v|²

    Dividing by the group's standard deviation makes each mixed group equally loud: E|g|² is then
    proportional to the chance of a mixed group, 1 - p^G - (1-p)^G, nearly flat between 0.2 and 0.8.
    """
    num_arms, groups = 400, 4000
    rng = np.random.default_rng(0)
    arms = rng.integers(0, num_arms, (groups, G))
    measured = {}
    for p in (0.05, 0.2, 0.5, 0.8, 0.95):
        rewards = (arms < p * num_arms).astype(np.float32)
        for scale in ("none", "group_std"):
            gradients, lengths = bandit_gradients(jnp.zeros(num_arms), arms, rewards, scale=scale)
            energy = np.sum(np.asarray(gradients) ** 2, axis=1).mean()
            measured[p, scale] = G * energy / float(lengths.mean())
    for (p, scale), energy in measured.items():
        mixed = 1 - p**G - (1 - p) ** G
        law = p * (1 - p) * (1 - 1 / G) if scale == "none" else mixed
        assert energy == pytest.approx(law, rel=0.08), (p, scale)
