"""A step of PPO: advantages from the critic, its own update, and what it leaves alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import grpo_step, train_state
from r1ci_jax.train.critic import critic_step
from r1ci_jax.train.critic.critic_model import Critic
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.critic.critic_rows import (
    ROWS,
    TX,
    configure,
    make_baseline,
    opinionated,
    token_advantages,
    values_by_hand,
)
from tests.train.test_grpo import assert_close, largest, moved, scores, trajectory

# Few programs, as each takes seconds to compile: the tests share these two, and `configure()`.
RECURSION = {"gamma": 0.9, "gae_lambda": 0.8, "whiten": False}
KL_IN_REWARD = configure(RECURSION, {"kl_in": "reward", "kl_estimator": "k3"}, kl_coef=0.5)


@pytest.fixture
def sampled(tiny_policy: Policy, tiny_params: Params) -> list[Trajectory]:
    """Trajectories with an observation inside."""
    return [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(ROWS)]


def gae_by_hand(
    rewards: np.ndarray, values: np.ndarray, gamma: float, gae_lambda: float
) -> np.ndarray:
    """Recurse over the chosen tokens of one trajectory."""
    found, later, next_value = np.zeros_like(values), 0.0, 0.0
    for place in reversed(range(len(values))):
        later = rewards[place] + gamma * next_value - values[place] + gamma * gae_lambda * later
        found[place], next_value = later, values[place]
    return found


# --- the model -----------------------------------------------------------------------------------


def test_a_value_is_that_of_the_state_before_its_token(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    critic, params = Critic.of(tiny_policy), opinionated(tiny_policy, tiny_params)
    values = jax.jit(critic.values)
    tokens_BT = jnp.asarray(np.random.default_rng(0).integers(0, 250, (1, 12)))
    first_BT = values(params, None, tokens_BT)
    other_BT = values(params, None, tokens_BT.at[0, 5].set(251))
    assert first_BT.shape == (1, 11)
    # Entry t - 1 is the value before token t: that of token 5 does not know token 5.
    np.testing.assert_array_equal(first_BT[0, :5], other_BT[0, :5])
    assert (np.abs(first_BT - other_BT)[0, 5:] > 1e-5).all()
    begun = critic.init_params(tiny_params)
    assert not values(begun, None, tokens_BT).any()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_critic_has_no_lm_head_of_its_own(rank: int) -> None:
    config = qwen2.Qwen2Config(
        vocab_size=320, width=32, layers=1, query_heads=2, kv_heads=2, head_dim=16, mlp_width=64
    )
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0))))
    params = jax.tree.map(lambda leaf: 0.1 * jnp.ones(leaf.shape, leaf.dtype), shapes)
    policy = Policy(config, graphdef, 300)
    policy = dataclasses.replace(
        policy, train_config=dataclasses.replace(policy.train_config, lora_rank=rank)
    )
    weights = policy.split_trainable(params, seed=0)
    critic = Critic.of(policy)
    made = critic.init_params(weights.trainable)
    wanted = jax.tree.map(jnp.shape, critic.param_shapes(weights.trainable))
    assert jax.tree.map(jnp.shape, made) == wanted
    sizes = {leaf.shape for leaf in jax.tree.leaves(made["trunk"])}
    assert (32, 320) not in sizes and ((320, 32) in sizes) == (rank == 0)
    # Its activations are the policy's; with LoRA the frozen weights are the same arrays.
    tokens_BT = jnp.arange(8)[None, :]
    left, right = (
        jax.jit(lambda w, p=p: p.hidden(w, tokens_BT)[0])(w)
        for p, w in ((policy, weights), (critic.trunk, Weights(made["trunk"], weights.base)))
    )
    np.testing.assert_array_equal(left, right)


# --- advantages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["none", "k3"])
def test_advantages_are_those_of_the_recursion_with_the_kl_at_each_token(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory], estimator: str
) -> None:
    has_kl = estimator != "none"
    config = KL_IN_REWARD if has_kl else configure(RECURSION)
    params, reference = opinionated(tiny_policy, tiny_params), moved(tiny_params, 0.03)
    baseline = make_baseline(tiny_policy, params, config)
    weights = Weights(reference) if has_kl else None
    minibatches, values = baseline.compare(0, sampled, weights)
    summed_kl = []
    for one, got_T in zip(sampled, token_advantages(minibatches, ROWS), strict=True):
        at = np.flatnonzero(one.sampled)
        rewards = np.zeros(len(at))
        rewards[-1] = one.reward
        if has_kl:
            d = np.concatenate([[0.0], scores(tiny_policy, reference, one.tokens)]) - one.logprobs
            kl = (np.exp(d) - 1 - d)[at]
            rewards -= 0.5 * kl
            summed_kl.append(kl.sum())
        by_hand = gae_by_hand(rewards, values_by_hand(tiny_policy, params, one)[at], 0.9, 0.8)
        np.testing.assert_allclose(got_T[at], by_hand, rtol=1e-3, atol=1e-4)
        assert not np.delete(got_T, at).any()
    if has_kl:
        assert values["reward/kl"] == pytest.approx(np.mean(summed_kl), rel=1e-3, abs=1e-5)
    assert ("reward/kl" in values) == has_kl
    assert all(batch.ref_logprobs_BT is None for batch in minibatches[0])


def test_metrics_are_those_of_the_values_before_the_step(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    config, params = configure(), opinionated(tiny_policy, tiny_params)
    minibatches, values = make_baseline(tiny_policy, params, config).compare(0, sampled, None)
    known = np.concatenate(
        [values_by_hand(tiny_policy, params, one)[np.asarray(one.sampled)] for one in sampled]
    )
    returns = np.repeat([one.reward for one in sampled], [sum(one.sampled) for one in sampled])
    explained = 1 - np.var(returns - known) / np.var(returns)
    assert values == {
        "critic/loss": pytest.approx(0.5 * np.mean((known - returns) ** 2), rel=1e-4),
        "critic/clip_fraction": 0.0,
        "critic/grad_norm": values["critic/grad_norm"],
        "critic/value_mean": pytest.approx(known.mean(), rel=1e-4),
        "critic/return_mean": pytest.approx(returns.mean(), rel=1e-4),
        "critic/explained_variance": pytest.approx(explained, rel=1e-3),
    }
    assert values["critic/grad_norm"] > 0
    # Whitened over all tokens.
    at = [np.asarray(one.sampled) for one in sampled]
    found = np.concatenate(
        [x[: len(a)][a] for x, a in zip(token_advantages(minibatches, ROWS), at, strict=True)]
    )
    assert (found.mean(), found.std(ddof=1)) == pytest.approx((0.0, 1.0), abs=1e-4)
    # Where all returns are equal there is nothing to explain.
    equal = [dataclasses.replace(one, reward=0.5) for one in sampled]
    _, values = make_baseline(tiny_policy, params, config).compare(0, equal, None)
    assert "critic/explained_variance" not in values


def test_masked_and_lost_trajectories_change_nothing(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    config, params = configure(), opinionated(tiny_policy, tiny_params)
    left_out = [dataclasses.replace(one, is_masked=n in (1, 6)) for n, one in enumerate(sampled)]
    results = []
    for reward in (0.0, 9.0):
        rows = [
            dataclasses.replace(one, reward=reward) if one.is_masked else one for one in left_out
        ]
        baseline = make_baseline(tiny_policy, params, config)
        minibatches, values = baseline.compare(0, rows, None)
        results.append((baseline._params, minibatches, values))
    rows = [index for batch in results[0][1][0] for index in np.asarray(batch.index_B).tolist()]
    assert sorted(rows) == [-1, -1, 0, 2, 3, 4, 5, 7]
    assert_close(results[0][0], results[1][0], atol=0.0, rtol=0.0)
    assert results[0][2] == results[1][2]


# --- the critic's update -------------------------------------------------------------------------


def test_the_split_into_microbatches_changes_nothing(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    params = opinionated(tiny_policy, tiny_params)
    found = []
    for number in (1, 2):
        config = configure(microbatch_tokens=64 * ROWS // number)
        baseline = make_baseline(tiny_policy, params, config)
        minibatches, values = baseline.compare(0, sampled, None)
        assert [len(minibatch) for minibatch in minibatches] == [number]
        moments = baseline._loop.critic.opt_state[1][0].mu  # type: ignore[union-attr]
        found.append((moments, token_advantages(minibatches, ROWS), values))
    assert largest(found[0][0]) > 1e-3
    assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-3)
    for left_T, right_T in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(left_T, right_T, atol=1e-4)
    assert found[0][2] == pytest.approx(found[1][2], rel=1e-4, abs=1e-6)


def test_gradients_are_those_of_the_loss_written_down_whole(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    config, params = configure(), opinionated(tiny_policy, tiny_params)
    critic = Critic.of(tiny_policy)
    baseline = make_baseline(tiny_policy, params, config)
    baseline.compare(0, sampled, None)

    tokens_BT, chosen_BT = np.zeros((2, ROWS, 64), np.int32)
    for row, one in enumerate(sampled):
        tokens_BT[row, : len(one.tokens)] = one.tokens
        chosen_BT[row, : len(one.tokens)] = one.sampled
    rewards_B1 = np.array([[one.reward] for one in sampled], np.float32)

    def loss(params: Any) -> jax.Array:
        values_BT = critic.values(params, None, jnp.asarray(tokens_BT))
        return 0.5 * jnp.mean((values_BT - rewards_B1) ** 2, where=chosen_BT[:, 1:] > 0)

    gradient = jax.jit(jax.grad(loss))(params)
    norm = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))))
    moments = baseline._loop.critic.opt_state[1][0].mu  # type: ignore[union-attr]
    # Adam's first moment is a tenth of the gradient, whose norm was clipped to 1.
    wanted = jax.tree.map(lambda leaf: 0.1 * leaf / max(norm, 1.0), gradient)
    assert largest(wanted) > 1e-3
    assert_close(moments, wanted, atol=1e-6, rtol=1e-3)


def test_minibatches_and_iterations_are_updates_one_after_the_other(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    params = opinionated(tiny_policy, tiny_params)
    config = configure({"num_iterations": 2}, num_minibatches=2)
    baseline = make_baseline(tiny_policy, params, config)
    minibatches, _ = baseline.compare(0, sampled, None)
    assert len(minibatches) == 2, "the policy's, each once"
    assert int(baseline._loop.critic.step) == 4  # type: ignore[union-attr]


def test_the_critic_learns_the_reward(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    begun = Critic.of(tiny_policy).init_params(tiny_params)
    baseline = make_baseline(tiny_policy, begun, configure())
    losses = [baseline.compare(step, sampled, None)[1]["critic/loss"] for step in range(12)]
    assert losses[0] == pytest.approx(
        0.5
        * np.average([one.reward**2 for one in sampled], weights=[sum(o.sampled) for o in sampled]),
        rel=1e-4,
    )
    assert losses[-1] < 0.5 * losses[0]


def test_with_lora_the_critic_trains_adapters_over_the_frozen_weights(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    how = dataclasses.replace(tiny_policy.train_config, lora_rank=2)
    small = dataclasses.replace(tiny_policy, train_config=how)
    adapters, base = small.split_trainable(tiny_params, seed=0)
    before = jax.tree.map(np.asarray, (adapters, base))
    begun = opinionated(small, adapters)
    baseline = make_baseline(small, begun, configure(), base)
    baseline.compare(0, sampled, None)
    moments = baseline._loop.critic.opt_state[1][0].mu  # type: ignore[union-attr]
    # B begins at zero, so that A has no gradient yet.
    assert largest(moments["trunk"]["layers"]["q"]["lora_out"]) > 0
    assert largest(moments["trunk"]["layers"]["q"]["lora_in"]) == 0
    # Adapters of zero change no value: the gradient of the head is that without them.
    plain = make_baseline(tiny_policy, opinionated(tiny_policy, tiny_params), configure())
    _, values = plain.compare(0, sampled, None)
    _, again = make_baseline(small, begun, configure(), base).compare(0, sampled, None)
    assert again["critic/loss"] == pytest.approx(values["critic/loss"], rel=1e-5)
    assert_close((adapters, base), before, atol=0.0, rtol=0.0)


def test_while_the_critic_learns_alone_the_policy_has_nothing_to_do(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    config, params = configure({"lead_steps": 1}), opinionated(tiny_policy, tiny_params)
    baseline = make_baseline(tiny_policy, params, config)
    waiting, values = baseline.compare(0, sampled, None)
    assert waiting == [] and values["critic/grad_norm"] > 0
    assert int(baseline._loop.critic.step) == 1  # type: ignore[union-attr]
    minibatches, _ = baseline.compare(1, sampled, None)
    assert len(minibatches) == 1


def test_after_the_warm_up_nothing_compiles(
    tiny_policy: Policy, tiny_params: Params, sampled: list[Trajectory]
) -> None:
    config = KL_IN_REWARD
    baseline = make_baseline(tiny_policy, opinionated(tiny_policy, tiny_params), config)
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), TX)
    reference = Weights(tiny_params)
    baseline.warm_up(Weights(begun.params), reference)
    jitted: list[Any] = [
        grpo_step.accumulate_gradients,
        grpo_step.compute_ref_logprobs,
        critic_step.estimate,
        critic_step.sum_squares,
        critic_step.add_advantages,
        critic_step.accumulate_gradients,
    ]
    before = [function._cache_size() for function in jitted]
    assert min(before) > 0
    minibatches, _ = baseline.compare(0, sampled, reference)
    grpo_step.update(begun, None, reference, minibatches, tiny_policy, config, TX)
    assert [function._cache_size() for function in jitted] == before


# --- a bandit ------------------------------------------------------------------------------------


def test_ppo_learns_a_bandit(tiny_policy: Policy, tiny_params: Params) -> None:
    """Two tokens after a prompt; the reward is the fraction of them with an even id."""
    config = configure(prompts_per_step=8)  # four microbatches
    baseline = make_baseline(tiny_policy, Critic.of(tiny_policy).init_params(tiny_params), config)
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), TX)
    template = trajectory(tiny_policy, tiny_params, 0, 0.0)

    @jax.jit
    def sample(params: Params, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        tokens_BT, logprobs_BT = jnp.full((32, 6), 7), jnp.zeros((32, 6))
        for place in (4, 5):
            logits_BV = nnx.merge(tiny_policy.graphdef, params)(tokens_BT)[:, place - 1]
            logits_BV = logits_BV[:, : tiny_policy.vocab_size]
            key, now = jax.random.split(key)
            chosen_B = jax.random.categorical(now, logits_BV)
            found_B = jax.nn.log_softmax(logits_BV)[jnp.arange(32), chosen_B]
            tokens_BT = tokens_BT.at[:, place].set(chosen_B)
            logprobs_BT = logprobs_BT.at[:, place].set(found_B)
        return tokens_BT, logprobs_BT

    rewards = []
    for step in range(24):
        tokens_BT, logprobs_BT = jax.device_get(sample(begun.params, jax.random.key(step)))
        rows = [
            dataclasses.replace(
                template,
                tokens=tuple(tokens_T.tolist()),
                sampled=(False,) * 4 + (True,) * 2,
                logprobs=tuple(logprobs_T.tolist()),
                reward=float(np.mean(tokens_T[4:] % 2 == 0)),
                rollout_id=type(template.rollout_id)(*divmod(number, 4)),
            )
            for number, (tokens_T, logprobs_T) in enumerate(
                zip(tokens_BT, logprobs_BT, strict=True)
            )
        ]
        minibatches, _ = baseline.compare(step, rows, None)
        begun, values, _ = grpo_step.update(begun, None, None, minibatches, tiny_policy, config, TX)
        assert values["check/sampler_trainer_logprob_diff_max"] < 1e-4
        rewards.append(np.mean([one.reward for one in rows]))
    assert np.mean(rewards[:2]) < 0.6 and np.mean(rewards[-2:]) > 0.8, rewards
