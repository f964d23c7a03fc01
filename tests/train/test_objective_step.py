"""Forms of the objective in the trainer: through the model, in microbatches, on stale tokens."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import ObjectiveConfig
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import grpo_step, microbatching, train_state
from r1ci_jax.train.objective import kl_reward
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.test_grpo import assert_close, largest, moved, scores, trajectory, update
from tests.train.tiny_training import CONFIG, tokenizer

SGD = optax.sgd(100.0)
ROWS = 8


def configure(objective: dict[str, Any] | None = None, **settings: Any) -> GrpoConfig:
    """One microbatch of all rows, without a KL term, unless the settings say otherwise."""
    settings = {
        "kl_coef": 0.0,
        "sequence_lengths": (64,),
        "microbatch_tokens": 64 * ROWS,
    } | settings
    return dataclasses.replace(CONFIG, objective=ObjectiveConfig(**(objective or {})), **settings)


# Few programs, as each takes seconds to compile: the tests share these.
GSPO = configure(
    {"surrogate": "gspo", "aggregation": "prompt_mean", "kl_estimator": "k2"},
    kl_coef=0.05,
    clip_low=0.01,
    clip_high=0.01,
)
DECOUPLED = configure(
    {
        "aggregation": "token_mean",
        "kl_estimator": "k2",
        "importance": "mask",
        "importance_low": 0.97,
        "importance_high": 1.04,
    },
    kl_coef=0.05,
    old_logprobs="decoupled",
)
RECOMPUTED = configure(
    {
        "surrogate": "cispo",
        "aggregation": "constant",
        "constant_tokens": 50,
        "importance": "truncate",
        "importance_high": 1.01,
        "kl_in": "reward",
    },
    kl_coef=0.5,
    old_logprobs="recompute",
)


@pytest.fixture
def sampled(tiny_policy: Policy, tiny_params: Params) -> list[Trajectory]:
    """Trajectories that other weights sampled, all of it or half."""
    other = moved(tiny_params, 0.02)
    made = []
    for number in range(ROWS):
        one = trajectory(tiny_policy, other, number, float(number % 3))
        stale = len(one.tokens) // 2 if number % 2 else 0
        made.append(dataclasses.replace(one, num_stale_tokens=stale))
    return made


def applied_gradient(
    policy: Policy, params: Params, rows: list[Trajectory], config: GrpoConfig, reference: Params
) -> tuple[Params, dict[str, float]]:
    """Gradient of one step of the trainer, from the change of its parameters."""
    begun = train_state.create_state(jax.tree.map(jnp.copy, params), SGD)
    after, values = update(begun, rows, policy, config, SGD, reference)
    return jax.tree.map(lambda old, new: (old - new) / 100.0, params, after.params), values


# --- against the formula on a tree of all logits -------------------------------------------------


def padded(rows: list[Trajectory], name: str, kind: Any) -> np.ndarray:
    found = np.zeros((len(rows), 64), kind)
    for row, one in enumerate(rows):
        found[row, : len(one.tokens)] = getattr(one, name)
    return found


@functools.partial(jax.jit, static_argnums=0)
def all_logprobs(policy: Policy, params: Params, tokens_BT: np.ndarray) -> jax.Array:
    logits_BTV = nnx.merge(policy.graphdef, params)(jnp.asarray(tokens_BT))
    all_BTV = jax.nn.log_softmax(logits_BTV[:, :-1, : policy.vocab_size])
    return jnp.take_along_axis(all_BTV, tokens_BT[:, 1:, None], axis=2)[:, :, 0]


def naive_gradient(
    policy: Policy, params: Params, rows: list[Trajectory], config: GrpoConfig, reference: Params
) -> Params:
    """Write the loss of a step down with every logit, and let JAX differentiate all of it."""
    tokens_BT, mask_BT = padded(rows, "tokens", int), padded(rows, "sampled", bool)[:, 1:]
    recorded_BT = padded(rows, "logprobs", float)[:, 1:]
    advantages_B1 = grpo_step.compute_advantages(rows, config).reshape(-1, 1)
    how, lengths_B1 = config.objective, mask_BT.sum(axis=1, keepdims=True)

    def loss(params: Params, fixed: tuple[jax.Array, jax.Array]) -> jax.Array:
        new_BT, (start_BT, ref_BT) = all_logprobs(policy, params, tokens_BT), fixed
        old_BT = start_BT if config.old_logprobs == "decoupled" else recorded_BT
        log_ratio_BT = jnp.where(mask_BT, new_BT - old_BT, 0.0)
        log_weight_BT = jnp.where(mask_BT, old_BT - recorded_BT, 0.0)
        if how.surrogate == "gspo":
            log_ratio_BT, log_weight_BT = (
                x.sum(axis=1, keepdims=True) / lengths_B1 for x in (log_ratio_BT, log_weight_BT)
            )
        ratio_BT, weight_BT = jnp.exp(log_ratio_BT), jnp.exp(log_weight_BT)
        clipped_BT = jnp.clip(ratio_BT, 1 - config.clip_low, 1 + config.clip_high)
        gain_BT = jnp.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
        if how.importance == "mask":
            is_in_BT = (weight_BT >= how.importance_low) & (weight_BT <= how.importance_high)
            gain_BT *= jnp.where(is_in_BT, weight_BT, 0.0)
        kl_BT = (new_BT - ref_BT) ** 2 / 2
        sums_B = jnp.sum(config.kl_coef * kl_BT - gain_BT, axis=1, where=mask_BT)
        if how.aggregation == "token_mean":
            return sums_B.sum() / mask_BT.sum()
        assert how.aggregation == "prompt_mean"
        groups = sums_B.reshape(2, 4).sum(axis=1) / mask_BT.reshape(2, 4, -1).sum(axis=(1, 2))
        return groups.mean()

    fixed = tuple(all_logprobs(policy, weights, tokens_BT) for weights in (params, reference))
    return jax.jit(jax.grad(loss))(params, fixed)


@pytest.mark.parametrize("config", [GSPO, DECOUPLED], ids=["gspo", "decoupled"])
def test_gradients_are_those_of_the_formula(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory], config: GrpoConfig
) -> None:
    reference = moved(tiny_params, 0.03)
    got, values = applied_gradient(tiny_policy, tiny_params, sampled, config, reference)
    wanted = naive_gradient(tiny_policy, tiny_params, sampled, config, reference)
    assert largest(wanted) > 1e-3
    assert_close(got, wanted, atol=1e-6, rtol=1e-3)
    # The case has what it is for: some are clipped or masked, and some are not.
    acted = (
        "clip_fraction" if config.objective.surrogate == "gspo" else "importance_masked_fraction"
    )
    assert 0 < values[f"optim/{acted}"] < 1


# --- microbatches --------------------------------------------------------------------------------


def test_the_split_into_microbatches_changes_nothing(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    # Of the means, that over questions alone needs to know of other microbatches.
    reference = moved(tiny_params, 0.03)
    found = []
    for number in (1, 2, 4):
        config = dataclasses.replace(GSPO, microbatch_tokens=64 * ROWS // number)
        batches = microbatching.make_minibatches(
            sampled, grpo_step.compute_advantages(sampled, config), config, tokenizer().pad_id
        )
        assert [len(minibatch) for minibatch in batches] == [number]
        found.append(applied_gradient(tiny_policy, tiny_params, sampled, config, reference))
    (whole, values), *others = found
    assert largest(whole) > 1e-4
    for gradient, other in others:
        assert_close(gradient, whole, atol=1e-6, rtol=1e-3)
        assert other == pytest.approx(values, rel=1e-4, abs=1e-6)


# --- stale tokens --------------------------------------------------------------------------------


def own_logprobs(policy: Policy, params: Params, one: Trajectory) -> np.ndarray:
    return np.concatenate([[0.0], scores(policy, params, one.tokens)])


def log_weights(
    policy: Policy, params: Params, rows: list[Trajectory], *, of_stale_tokens: bool
) -> np.ndarray:
    """log old - log sampler of every sampled token, one after the other."""
    found = []
    for one in rows:
        difference = own_logprobs(policy, params, one) - one.logprobs
        if not of_stale_tokens:
            difference[: one.num_stale_tokens] = 0.0  # what was recorded is the old one
        found.append(difference[np.asarray(one.sampled)])
    return np.concatenate(found)


def test_the_decoupled_ratio_starts_at_1_for_stale_tokens_as_well(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    assert any(one.num_stale_tokens for one in sampled)
    _, values = applied_gradient(tiny_policy, tiny_params, sampled, DECOUPLED, tiny_params)
    assert values["optim/ratio_mean"] == pytest.approx(1.0, abs=1e-6)
    assert values["optim/ratio_deviation"] == pytest.approx(0.0, abs=1e-5)
    weights = np.exp(log_weights(tiny_policy, tiny_params, sampled, of_stale_tokens=True))
    assert values["optim/importance_mean"] == pytest.approx(weights.mean(), rel=1e-4)
    # With ratios of 1 the surrogate is the weighted mean advantage.
    kept = np.where((weights >= 0.97) & (weights <= 1.04), weights, 0.0)
    assert values["optim/importance_masked_fraction"] == pytest.approx((kept == 0).mean(), abs=0.01)
    advantages = grpo_step.compute_advantages(sampled, DECOUPLED).reshape(-1)
    of_tokens = np.repeat(advantages, [sum(one.sampled) for one in sampled])
    surrogate = (kept * of_tokens).mean()
    assert values["optim/surrogate"] == pytest.approx(surrogate, rel=1e-2, abs=1e-5)


def test_recomputed_weights_are_1_where_the_old_policy_is_the_sampler(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    _, values = applied_gradient(tiny_policy, tiny_params, sampled, RECOMPUTED, tiny_params)
    weights = np.exp(log_weights(tiny_policy, tiny_params, sampled, of_stale_tokens=False))
    assert values["optim/importance_mean"] == pytest.approx(weights.mean(), rel=1e-4)
    above = float((weights > 1.01).mean())
    assert 0 < values["optim/importance_truncated_fraction"] == pytest.approx(above, abs=0.01)
    assert values["optim/ratio_deviation"] > 1e-3  # stale tokens


# --- KL in the reward ----------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_reward_loses_the_divergence_of_the_whole_trajectory(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory], estimator: Any
) -> None:
    config = configure(
        {"kl_in": "reward", "kl_estimator": estimator, "advantage_scale": "none"}, kl_coef=0.5
    )
    reference = moved(tiny_params, 0.03)
    by_hand = []
    for one in sampled:
        d = own_logprobs(tiny_policy, reference, one) - one.logprobs
        terms = {"k1": -d, "k3": np.exp(d) - 1 - d}[estimator]
        by_hand.append(terms[np.asarray(one.sampled)].sum())
    # Several microbatches, sorted by length: each row finds its place again.
    split = dataclasses.replace(config, microbatch_tokens=2 * 64)
    kl = kl_reward.compute_kl(sampled, Weights(reference), tiny_policy, split, tokenizer().pad_id)
    assert kl is not None
    np.testing.assert_allclose(kl, by_hand, rtol=1e-3, atol=1e-4)
    assert kl_reward.kl_metrics(sampled, kl) == {
        "reward/kl": pytest.approx(np.mean(by_hand), rel=1e-3)
    }
    rewards = np.array([one.reward for one in sampled]) - 0.5 * np.array(by_hand)
    shaped = rewards.reshape(2, 4)
    got = grpo_step.compute_advantages(sampled, config, kl)
    np.testing.assert_allclose(got, shaped - shaped.mean(axis=1, keepdims=True), atol=1e-3)


def test_a_kl_in_the_reward_is_not_in_the_loss(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    in_reward = configure({"kl_in": "reward"}, kl_coef=0.5)
    assert LossSettings.of(in_reward) == LossSettings.of(configure())
    assert kl_reward.compute_kl(sampled, None, tiny_policy, in_reward, 0) is None
    in_loss, weights = configure(kl_coef=0.5), Weights(tiny_params)
    assert kl_reward.compute_kl(sampled, weights, tiny_policy, in_loss, 0) is None
    _, values = applied_gradient(tiny_policy, tiny_params, sampled, RECOMPUTED, tiny_params)
    assert "optim/kl" not in values and values["optim/loss"] == -values["optim/surrogate"]


# --- programs and settings -----------------------------------------------------------------------


def test_after_the_warm_up_nothing_compiles(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), SGD)
    reference, pad_id = Weights(tiny_params), tokenizer().pad_id
    empty = microbatching.empty_microbatches(RECOMPUTED, pad_id)
    grpo_step.warm_up(Weights(begun.params), reference, tiny_policy, RECOMPUTED, empty)
    kl_reward.warm_up(reference, tiny_policy, RECOMPUTED, pad_id)
    jitted: list[Any] = [
        grpo_step.accumulate_gradients,
        grpo_step.compute_ref_logprobs,
        grpo_step.recompute_old_logprobs,
        kl_reward._row_kl,
    ]
    before = [function._cache_size() for function in jitted]
    kl_reward.compute_kl(sampled, reference, tiny_policy, RECOMPUTED, pad_id)
    update(begun, sampled, tiny_policy, RECOMPUTED, SGD, tiny_params)
    assert [function._cache_size() for function in jitted] == before


def test_settings_that_a_form_does_not_read_are_no_part_of_its_program() -> None:
    plain = LossSettings.of(configure())
    for objective in (
        {"advantage_scale": "none"},
        {"leave_one_out": True},
        {"dppo_max_change": 0.1},
        {"importance_low": 0.1, "importance_high": 9.0},
        {"kl_estimator": "k1"},
    ):
        assert LossSettings.of(configure(objective)) == plain
    assert LossSettings.of(configure(clip_low=0.3)) != plain
    dppo = {"surrogate": "dppo"}
    assert LossSettings.of(configure(dppo, clip_low=0.3)) == LossSettings.of(configure(dppo))


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        ({"aggregation": "constant"}, {}, r"constant_tokens = 0 .* needs it above 0"),
        ({"constant_tokens": 5}, {}, r"constant_tokens = 5 with aggregation \"sequence_mean\""),
        ({"dual_clip": 1.0}, {}, r"dual_clip = 1.0 .* above 1, or to 0"),
        ({"dual_clip": 3.0, "surrogate": "dppo"}, {}, r"dual_clip belongs to .* \"clip\""),
        ({"dual_clip": 3.0, "surrogate": "cispo"}, {}, r"dual_clip belongs to .* \"cispo\""),
        ({"importance_high": 0.9}, {}, r"must include 1"),
        ({"importance_low": 1.5}, {}, r"must include 1"),
        ({"importance": "mask"}, {}, r"old_logprobs = \"rollout\"; use \"recompute\""),
    ],
)
def test_a_combination_without_meaning_is_refused(
    objective: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        configure(objective, **settings)
    assert "\n" not in str(caught.value)
