"""Losses against hand-computed numbers, the naive formula, and the laws they must keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train import losses
from r1ci_jax.train.objective.advantages import group_advantages
from r1ci_jax.train.objective.aggregation import token_weights
from r1ci_jax.train.objective.loss_settings import LossSettings


@functools.partial(jax.jit, static_argnames=("clip_low", "clip_high", "kl_coef"))
def grpo_loss(
    logprobs_BT, old_logprobs_BT, ref_logprobs_BT, advantages_B, mask_BT, *, kl_coef, **clip
):
    tokens = (
        logprobs_BT,
        old_logprobs_BT,
        ref_logprobs_BT,
        jnp.broadcast_to(advantages_B[:, None], mask_BT.shape),
        token_weights(mask_BT),
    )
    settings = LossSettings(kl_coef=kl_coef, **clip)
    loss = losses.grpo_token_loss(*tokens, settings=settings).sum()
    return loss, jax.lax.stop_gradient(losses.grpo_sums(*tokens, settings=settings))


CLIP = {"clip_low": 0.2, "clip_high": 0.28, "kl_coef": 0.01}
SETTINGS = LossSettings(**CLIP)


def random_batch(rows: int = 8, length: int = 6, seed: int = 0) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 5)
    return {
        "logprobs_BT": -jax.random.exponential(keys[0], (rows, length)),
        "old_logprobs_BT": -jax.random.exponential(keys[1], (rows, length)),
        "ref_logprobs_BT": -jax.random.exponential(keys[2], (rows, length)),
        "advantages_B": jax.random.normal(keys[3], (rows,)),
        "mask_BT": jax.random.bernoulli(keys[4], 0.5, (rows, length)).at[:, 0].set(True),
    }


# --- sft_loss ------------------------------------------------------------------------------------


def test_sft_loss_counts_only_the_policys_own_tokens():
    logprobs_BT = jnp.array([[-1.0, -2.0, jnp.nan], [-4.0, -8.0, -16.0]])
    mask_BT = jnp.array([[1, 1, 0], [0, 0, 1]])
    want_BT = [[1.0, 2.0, 0.0], [0.0, 0.0, 16.0]]
    np.testing.assert_array_equal(losses.sft_token_loss(logprobs_BT, mask_BT), want_BT)


def test_sft_loss_gives_masked_tokens_no_gradient():
    batch = random_batch()
    gradient = jax.grad(lambda x: losses.sft_token_loss(x, batch["mask_BT"]).sum())(
        batch["logprobs_BT"]
    )
    np.testing.assert_array_equal(gradient, -batch["mask_BT"].astype(jnp.float32))


# --- advantages -----------------------------------------------------------------------------------


def test_advantages_by_hand():
    rewards_PR = jnp.array([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 0.0]])
    got = group_advantages(rewards_PR, jnp.ones((2, 4), bool))
    third = 3**-0.5
    want = [[1.0, -1.0, -1.0, 1.0], [3 * third, -third, -third, -third]]
    np.testing.assert_allclose(got, want, atol=1e-5)
    centred = group_advantages(rewards_PR, jnp.ones((2, 4), bool), scale="none")
    np.testing.assert_allclose(centred[1], [2.25, -0.75, -0.75, -0.75])


def test_faulted_members_do_not_vote():
    rewards_PR = jnp.array([[1.0, 0.0, -50.0, 0.0, 1.0]])
    valid_PR = jnp.array([[True, True, False, True, True]])
    got = group_advantages(rewards_PR, valid_PR)
    without = group_advantages(jnp.array([[1.0, 0.0, 0.0, 1.0]]), jnp.ones((1, 4), bool))
    assert got[0, 2] == 0.0
    np.testing.assert_allclose(np.delete(got[0], 2), without[0], atol=1e-6)


@pytest.mark.parametrize("reward", [1.1, 0.1, -0.2, 1.0 / 3.0])
def test_a_group_that_agrees_teaches_nothing(reward):
    # The float32 mean of five times 1.1 is not 1.1: the naive formula gives about 0.1 here.
    rewards_PR = jnp.full((1, 5), reward)
    assert not group_advantages(rewards_PR, jnp.ones((1, 5), bool)).any()


def test_groups_with_one_or_no_valid_member_give_zeros():
    valid_PR = jnp.array([[False, True, False], [False, False, False]])
    got = group_advantages(jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), valid_PR)
    np.testing.assert_array_equal(got, np.zeros((2, 3)))


def test_permuting_a_group_permutes_its_advantages():
    rewards_PR = jax.random.normal(jax.random.key(0), (4, 6))
    valid_PR = jax.random.bernoulli(jax.random.key(1), 0.8, (4, 6))
    order = np.array([3, 0, 5, 1, 4, 2])
    got = group_advantages(rewards_PR[:, order], valid_PR[:, order])
    want = group_advantages(rewards_PR, valid_PR)[:, order]
    np.testing.assert_allclose(got, want, atol=1e-5)


# --- grpo_loss -----------------------------------------------------------------------------------


def test_grpo_loss_by_hand():
    ratio_BT = np.array([[1.1, 2.0, 7.0], [0.5, 1.0, 7.0]])
    old_BT = np.array([[-1.0, -2.0, 0.0], [-0.5, -3.0, 0.0]])
    ref_BT = old_BT + np.array([[0.1, -0.2, 9.0], [0.3, 0.0, 9.0]])
    mask_BT = np.array([[True, True, False], [True, True, False]])
    logprobs_BT = old_BT + np.log(ratio_BT)
    loss, sums = grpo_loss(
        jnp.array(logprobs_BT),
        jnp.array(old_BT),
        jnp.array(ref_BT),
        jnp.array([2.0, -1.0]),
        jnp.array(mask_BT),
        clip_low=0.2,
        clip_high=0.28,
        kl_coef=0.01,
    )
    # Row 0, A = 2: tokens gain 2.2 and clip(2.0) -> 2.56. Row 1, A = -1: clip(0.5) -> -0.8, -1.0.
    surrogate = (2.2 + 2.56) / 2 + (-0.8 - 1.0) / 2
    d = (ref_BT - logprobs_BT)[:, :2]
    kl = np.sum(np.mean(np.exp(d) - d - 1, axis=1))
    assert float(loss) == pytest.approx(-surrogate + 0.01 * kl, rel=1e-5)
    metrics = losses.grpo_metrics(sums, SETTINGS)
    assert float(metrics["loss"]) == pytest.approx(float(loss) / 2, rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(kl / 2, rel=1e-5)
    assert float(metrics["clip_fraction"]) == 0.5
    assert float(metrics["ratio_mean"]) == pytest.approx(4.6 / 4, rel=1e-5)
    assert float(metrics["ratio_deviation"]) == pytest.approx(((0.01 + 1.0 + 0.25) / 4) ** 0.5)


def test_grpo_gives_masked_tokens_exactly_no_gradient_whatever_stands_there():
    batch = random_batch()
    mask_BT = batch["mask_BT"]
    poison = {name: batch[name] for name in batch}
    for name in ("old_logprobs_BT", "ref_logprobs_BT"):
        poison[name] = jnp.where(mask_BT, batch[name], jnp.inf)

    @jax.jit
    def gradient(values):
        rest = {name: values[name] for name in values if name != "logprobs_BT"}
        return jax.grad(lambda x: grpo_loss(x, **rest, **CLIP)[0])(batch["logprobs_BT"])

    np.testing.assert_array_equal(gradient(poison), gradient(batch))
    assert not gradient(batch)[~mask_BT].any()
    assert gradient(batch)[mask_BT].any()


def test_the_first_on_policy_gradient_is_reinforce():
    batch = random_batch() | {"ref_logprobs_BT": None}
    same = batch["logprobs_BT"]
    gradient = jax.grad(
        lambda x: grpo_loss(
            x,
            same,
            same,
            batch["advantages_B"],
            batch["mask_BT"],
            clip_low=0.2,
            clip_high=0.2,
            kl_coef=0.1,
        )[0]
    )(same)
    length_B1 = batch["mask_BT"].sum(axis=1, keepdims=True)
    want = -batch["advantages_B"][:, None] * batch["mask_BT"] / length_B1
    np.testing.assert_allclose(gradient, want, atol=1e-6)


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [
        (1.0, 1.5, False),  # already more likely than the clip allows
        (1.0, 0.5, True),  # a good token that became less likely is always pulled back
        (-1.0, 0.5, False),
        (-1.0, 1.5, True),
        (1.0, 1.1, True),
        (-1.0, 0.9, True),
    ],
)
def test_the_clip_acts_only_on_the_side_that_runs_away(advantage, ratio, moves):
    def loss(logprob):
        return grpo_loss(
            jnp.full((1, 1), logprob),
            jnp.full((1, 1), -1.0),
            jnp.full((1, 1), -1.0),
            jnp.array([advantage]),
            jnp.ones((1, 1), bool),
            clip_low=0.2,
            clip_high=0.2,
            kl_coef=0.0,
        )

    (_, sums), gradient = jax.value_and_grad(loss, has_aux=True)(-1.0 + np.log(ratio))
    assert (float(gradient) != 0.0) is moves
    assert (float(sums.clipped) == 0.0) is moves


def test_kl_is_never_negative_and_zero_only_for_the_reference():
    batch = random_batch(64, 16)
    arguments = {name: batch[name] for name in batch}
    _, sums = grpo_loss(**arguments, **CLIP)
    assert sums.kl > 0
    close = batch["logprobs_BT"] + 1e-4
    _, sums = grpo_loss(**(arguments | {"ref_logprobs_BT": close}), **CLIP)
    assert 0 < float(sums.kl) < 1e-5
    _, sums = grpo_loss(**(arguments | {"ref_logprobs_BT": batch["logprobs_BT"]}), **CLIP)
    assert sums.kl == 0.0


def test_four_micro_batches_equal_one_batch():
    batch = random_batch(rows=12)
    # Unequal token counts and one row that counts nowhere: means of means would differ.
    batch["mask_BT"] = batch["mask_BT"].at[0].set(True).at[5].set(False)

    @jax.jit
    def run(part):
        rest = {name: part[name] for name in part if name != "logprobs_BT"}
        (loss, sums), gradient = jax.value_and_grad(
            lambda x: grpo_loss(x, **rest, **CLIP), has_aux=True
        )(part["logprobs_BT"])
        return loss, sums, gradient

    loss, sums, gradient = run(batch)
    parts = [run({name: batch[name][i : i + 3] for name in batch}) for i in range(0, 12, 3)]
    added = jax.tree.map(lambda *values: sum(values), *[part[1] for part in parts])
    assert float(sums.sequences) == float(added.sequences) == 11
    assert float(sums.tokens) == float(added.tokens)
    np.testing.assert_array_equal(gradient, jnp.concatenate([part[2] for part in parts]))
    np.testing.assert_allclose(sum(part[0] for part in parts), loss, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(sums), jax.tree.leaves(added), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_batch_without_any_sampled_token_is_finite():
    batch = random_batch() | {"mask_BT": jnp.zeros((8, 6), bool)}
    loss, sums = grpo_loss(**batch, **CLIP)
    metrics = losses.grpo_metrics(sums, SETTINGS)
    assert float(loss) == 0.0
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_single_sampled_token_has_the_whole_weight() -> None:
    mask_BT = jnp.array([[False, True, False], [False, False, False], [True, True, False]])
    expected_BT = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    np.testing.assert_array_equal(token_weights(mask_BT), expected_BT)


def test_a_step_of_one_trajectory_is_divided_by_one() -> None:
    one = losses.GrpoSums.filled(jnp.float32(0.0), LossSettings())
    one = one._replace(surrogate=jnp.float32(0.5), sequences=jnp.float32(1.0))
    assert losses.grpo_metrics(one, LossSettings())["surrogate"] == 0.5
