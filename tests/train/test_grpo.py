"""GRPO: what moves the policy, what must not, and training with the real sampler and jail."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.rollout.diagnostics import token_sums
from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.train import grpo_step, microbatching, optimizer, train_state
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.tiny_training import (
    CONFIG,
    STAGES,
    RecordingRunner,
    Stopped,
    load_examples,
    tokenizer,
    train,
    write_until,
)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _scores(policy: Policy, params: Params, tokens_BT: jax.Array, temperature: float) -> jax.Array:
    weights = Weights(params)
    return policy.logprobs_and_entropy(weights, tokens_BT, temperature=temperature).logprobs_BT


def scores(
    policy: Policy, params: Params, tokens: Sequence[int], temperature: float = 1.0
) -> np.ndarray:
    """Log-probability of every token but the first."""
    padded_BT = np.zeros((1, 128), np.int32)
    padded_BT[0, : len(tokens)] = tokens
    found_BT = _scores(policy, params, padded_BT, temperature)
    return np.asarray(found_BT)[0, : len(tokens) - 1]


def kl_by_hand(
    policy: Policy, reference: Params, sampled: Sequence[Trajectory], temperature: float
) -> float:
    """Mean over trajectories of the mean k3 per sampled token, policy against reference."""
    means = []
    for one in sampled:
        chosen = np.asarray(one.sampled)[1:]
        log_ratio = scores(policy, reference, one.tokens, temperature) - one.logprobs[1:]
        means.append((np.exp(log_ratio) - log_ratio - 1)[chosen].mean())
    return float(np.mean(means))


def trajectory(
    policy: Policy,
    params: Params,
    number: int,
    reward: float,
    *,
    faulted: bool = False,
    temperature: float = 1.0,
) -> Trajectory:
    """Random tokens with the log-probabilities that `params` give them; an observation inside."""
    rng = np.random.default_rng(number)
    size = int(rng.integers(12, 40))
    tokens = rng.integers(0, tokenizer().vocab_size, size)
    sampled = np.arange(size) >= 4
    sampled[7:10] = False
    scored = scores(policy, params, tokens.tolist(), temperature)
    logprobs = np.where(sampled, np.concatenate([[0.0], scored]), 0.0)
    return Trajectory(
        example_id=f"e{number // CONFIG.rollouts_per_prompt}",
        task="toy_letters",
        question="q",
        agent="code_agent",
        rollout_id=RolloutId(*divmod(number, CONFIG.rollouts_per_prompt)),
        tokens=tuple(tokens.tolist()),
        sampled=tuple(sampled.tolist()),
        logprobs=tuple(logprobs.tolist()),
        code_calls=(),
        stop=StopReason.SANDBOX_FAULT if faulted else StopReason.ANSWER,
        answer="1",
        correct=reward > 1,
        reward=reward,
    )


def summed_gradients(
    policy: Policy,
    params: Params,
    reference: Params,
    trajectories: list[Trajectory],
    config: GrpoConfig = CONFIG,
) -> Params:
    advantages = grpo_step.compute_advantages(trajectories, config).reshape(-1)
    weights, temperature = Weights(params), config.temperature
    parts = []
    for batch in microbatching.split_microbatches(
        trajectories, advantages, config, tokenizer().pad_id
    ):
        if config.kl_coef:
            batch = grpo_step.compute_ref_logprobs(
                Weights(reference), batch, policy=policy, temperature=temperature
            )
        accumulator, _ = grpo_step.accumulate_gradients(
            zero_accumulator(params, config), weights, batch, policy=policy, **knobs(config)
        )
        parts.append(accumulator.gradients)
    return jax.tree.map(lambda *leaves: sum(leaves), *parts)


def knobs(config: GrpoConfig) -> dict[str, Any]:
    """Return what the compiled loss depends on."""
    return {"temperature": config.temperature, "settings": LossSettings.of(config)}


def zero_accumulator(params: Params, config: GrpoConfig) -> grpo_step.GradAccumulator:
    return grpo_step.zero_accumulator(params, LossSettings.of(config))


def update(
    state: train_state.TrainState,
    trajectories: list[Trajectory],
    policy: Policy,
    config: GrpoConfig,
    tx: optax.GradientTransformation,
    reference: Params,
    base: Params | None = None,
) -> tuple[train_state.TrainState, dict[str, float]]:
    """One step of the trainer on these trajectories."""
    advantages_PR = grpo_step.compute_advantages(trajectories, config)
    minibatches = microbatching.make_minibatches(
        trajectories, advantages_PR, config, tokenizer().pad_id
    )
    weights = Weights(reference) if config.kl_coef else None
    state, values, _ = grpo_step.update(state, base, weights, minibatches, policy, config, tx)
    return state, values


def assert_close(left: Params, right: Params, atol: float = 1e-6, rtol: float = 1e-4) -> None:
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=rtol)


def largest(tree: Params) -> float:
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def moved(params: Params, by: float) -> Params:
    """Parameters some way off, the same way every time."""
    return jax.tree.map(lambda leaf: leaf + by * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape),
                        params)  # fmt: skip


# --- one update ----------------------------------------------------------------------------------


def test_equal_rewards_leave_only_the_kl(tiny_policy: Policy, tiny_params: Params) -> None:
    same = [trajectory(tiny_policy, tiny_params, number, 1.1) for number in range(8)]
    assert (grpo_step.compute_advantages(same, CONFIG) == 0).all()
    reference = moved(tiny_params, 0.02)

    def gradients(kl_coef: float) -> Params:
        config = dataclasses.replace(CONFIG, kl_coef=kl_coef)
        return summed_gradients(tiny_policy, tiny_params, reference, same, config)

    assert largest(gradients(0.0)) == 0.0
    assert largest(gradients(CONFIG.kl_coef)) > 1e-3


def test_better_answers_become_likelier(tiny_policy: Policy, tiny_params: Params) -> None:
    rewards = [1.1, -0.1, -0.1, 0.1, 0.9, 0.9, 1.1, -0.1]
    mixed = [trajectory(tiny_policy, tiny_params, n, reward) for n, reward in enumerate(rewards)]
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
    advantages = grpo_step.compute_advantages(mixed, CONFIG)
    after, values = update(begun, mixed, tiny_policy, CONFIG, tx, tiny_params)
    assert values["check/sampler_trainer_logprob_diff_max"] <= 1e-5
    np.testing.assert_allclose(values["optim/ratio_mean"], 1.0, atol=1e-6)
    assert values["optim/kl"] == pytest.approx(0.0, abs=1e-9) and values["optim/grad_norm"] > 0

    def mean_logprob(params: Params, one: Trajectory) -> float:
        return float(scores(tiny_policy, params, one.tokens)[np.asarray(one.sampled)[1:]].mean())

    change = [mean_logprob(after.params, t) - mean_logprob(tiny_params, t) for t in mixed]
    assert np.corrcoef(change, advantages.reshape(-1))[0, 1] > 0.9


@pytest.mark.parametrize("rows", [1, 3])
def test_micro_batches_change_nothing(tiny_policy: Policy, tiny_params: Params, rows: int) -> None:
    mixed = [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]
    reference = moved(tiny_params, 0.02)
    config = dataclasses.replace(CONFIG, microbatch_tokens=rows * 64)
    assert_close(
        summed_gradients(tiny_policy, tiny_params, reference, mixed, config),
        summed_gradients(tiny_policy, tiny_params, reference, mixed),
        atol=1e-5,
    )


def test_micro_batches_are_short_where_they_can_be(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    some = [trajectory(tiny_policy, tiny_params, n, 1.0) for n in range(7)]
    fourth = sorted(len(one.tokens) for one in some)[3]
    config = dataclasses.replace(CONFIG, sequence_lengths=(fourth, 64), microbatch_tokens=4 * 64)
    batches = microbatching.split_microbatches(some, np.arange(7.0), config, tokenizer().pad_id)
    assert [batch.tokens_BT.shape for batch in batches] == [(4, 64), (256 // fourth, fourth)]
    found = {}
    for batch in batches:
        assert batch[6:] == (None,) * 4
        for row in zip(*map(np.asarray, batch[:6]), strict=True):
            tokens_T, sampled_T, old_T, on_policy_T, advantage, index = row
            np.testing.assert_array_equal(on_policy_T, sampled_T)
            assert index == (advantage if sampled_T.any() else -1)
            if sampled_T.any():
                found[float(advantage)] = (tokens_T, sampled_T, old_T)
    assert sorted(found) == list(range(7))
    for number, one in enumerate(some):
        tokens_T, sampled_T, old_T = found[number]
        size = len(one.tokens)
        np.testing.assert_array_equal(tokens_T[:size], one.tokens)
        np.testing.assert_array_equal(sampled_T[:size], one.sampled)
        np.testing.assert_allclose(old_T[:size], one.logprobs)
        assert (tokens_T[size:] == tokenizer().pad_id).all()
        assert not sampled_T[size:].any() and not old_T[size:].any()


def test_faulted_rows_neither_vote_nor_train(tiny_policy: Policy, tiny_params: Params) -> None:
    def with_fault(tokens_of: int, reward: float) -> list[Trajectory]:
        rewards = [1.0, 0.0, reward, 1.0, 0.0, 1.0, 1.0, 1.0]
        rows = [trajectory(tiny_policy, tiny_params, n, r) for n, r in enumerate(rewards)]
        rows[2] = trajectory(tiny_policy, tiny_params, tokens_of, reward, faulted=True)
        return rows

    # By hand: 1, 0, 1 have mean 2/3 and deviation √2/3; 0, 1, 1, 1 have mean 3/4 and √3/4.
    wanted = [0.5**0.5, -(2**0.5), 0.0, 0.5**0.5, -(3**0.5), 3**-0.5, 3**-0.5, 3**-0.5]
    advantages = grpo_step.compute_advantages(with_fault(2, 99.0), CONFIG)
    np.testing.assert_allclose(advantages.reshape(-1), wanted, atol=1e-5)
    results = [
        summed_gradients(tiny_policy, tiny_params, moved(tiny_params, 0.02), rows)
        for rows in (with_fault(2, 99.0), with_fault(77, -5.0))
    ]
    assert_close(*results, atol=0.0, rtol=0.0)


def test_flat_fraction_by_hand() -> None:
    advantages_PR = np.array([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0], [0.5, 0.0]])
    assert grpo_step.zero_advantage_fraction(advantages_PR) == 0.5


def test_a_step_in_which_every_jail_failed_is_said(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    rows = [trajectory(tiny_policy, tiny_params, n, 1.0, faulted=True) for n in range(8)]
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
    with pytest.raises(UserError, match=r"sandbox failed in every trajectory .* sandbox doctor"):
        update(begun, rows, tiny_policy, CONFIG, tx, tiny_params)


# --- the trainer with the real sampler and the real jail -----------------------------------------


def test_training_over_two_stages(
    tiny_policy: Policy, tiny_params: Params, runner: RecordingRunner, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, temperature=0.7)
    trained = train(tiny_policy, tiny_params, runner, tmp_path, config)
    assert largest(jax.tree.map(jnp.subtract, trained, tiny_params)) > 0
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["curriculum/stage"] for row in rows] == [1, 1, 2, 2, 2]
    # What the sampler noted is what the trainer computes, with weights that have moved.
    assert max(row["check/sampler_trainer_logprob_diff_max"] for row in rows) <= 1e-4
    assert all(row["optim/ratio_mean"] == pytest.approx(1.0, abs=1e-4) for row in rows)
    # In every stage the reference is the model that the training started from.
    kl = [kl_by_hand(tiny_policy, tiny_params, each, 0.7) for each in runner.sampled]
    assert [row["optim/kl"] for row in rows] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    assert kl[0] < 1e-6 < 1e-3 < min(kl[1:])

    # No two trajectories of the training share their random numbers.
    ids = [request.rollout_id for requests in runner.recorded for request in requests]
    assert len(ids) == 5 * 8 == len(set(ids))
    for requests in runner.recorded:
        examples = [request.example.id for request in requests]
        assert [examples[i] for i in (0, 4)] == [examples[i] for i in (3, 7)]
        assert examples[0] != examples[4]
    first, second = ({example.id for example in load_examples(stage.split)} for stage in STAGES)
    assert {request.example.id for requests in runner.recorded[:2] for request in requests} == first
    later = {request.example.id for requests in runner.recorded[2:] for request in requests}
    assert later <= second and later - first

    logged = metrics.read(tmp_path / "trajectories.jsonl")
    assert [row["step"] for row in logged] == [step for step in range(1, 6) for _ in range(4)]


def test_a_stopped_training_ends_as_an_uninterrupted_one(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(tiny_policy, tiny_params, runner, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(5))
        train(tiny_policy, tiny_params, runner, tmp_path / "stopped")
    resumed = train(tiny_policy, tiny_params, runner, tmp_path / "stopped")

    # Steps 1 to 5, 1 to 5 stopped in its middle, then 4 and 5 again: the checkpoint was that of 3.
    assert [request[0].rollout_id[0] // 2 for request in runner.recorded] == [
        *range(5), *range(5), 3, 4,
    ]  # fmt: skip
    assert_close(resumed, whole, atol=0.0, rtol=0.0)
    names = ("step", "optim/loss", "optim/grad_norm", "reward/mean", "len/tokens")
    left, right = (
        [[row[name] for name in names] for row in metrics.read(tmp_path / place / "metrics.jsonl")]
        for place in ("whole", "stopped")
    )
    assert left == right


# --- several updates a batch ---------------------------------------------------------------------


def updated(
    policy: Policy, params: Params, rows: list[Trajectory], config: GrpoConfig
) -> tuple[train_state.TrainState, dict[str, float]]:
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)
    begun = train_state.create_state(jax.tree.map(jnp.copy, params), tx)
    return update(begun, rows, policy, config, tx, params)


def test_minibatches_are_updates_on_parts_of_the_questions(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    rows = [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]
    together, values = updated(
        tiny_policy,
        tiny_params,
        rows,
        dataclasses.replace(CONFIG, num_minibatches=2, num_iterations=2),
    )
    assert int(together.step) == 4
    # One question after the other, twice, by hand.
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)
    begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
    seen = []
    for part in (rows[:4], rows[4:]) * 2:
        begun, each = update(begun, part, tiny_policy, CONFIG, tx, tiny_params)
        seen.append(each)
    for a, b in zip(*map(jax.tree.leaves, (together, begun)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert values["optim/loss"] == pytest.approx(np.mean([each["optim/loss"] for each in seen]))
    # Later updates differ from the policy that sampled; the check is made before the first.
    assert seen[3]["check/sampler_trainer_logprob_diff"] > 1e-3
    assert values["check/sampler_trainer_logprob_diff"] <= 1e-5


def test_rows_add_up_to_the_totals(tiny_policy: Policy, tiny_params: Params) -> None:
    rows = [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]
    rows[5] = trajectory(tiny_policy, tiny_params, 5, 0.0, faulted=True)
    here = moved(tiny_params, 0.02)  # so that ratios differ from 1, and some are clipped
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)
    advantages_PR = grpo_step.compute_advantages(rows, CONFIG)

    def summed(config: GrpoConfig) -> tuple[token_sums.TokenSums, dict[str, float]]:
        minibatches = microbatching.make_minibatches(
            rows, advantages_PR, config, tokenizer().pad_id
        )
        begun = train_state.create_state(jax.tree.map(jnp.copy, here), tx)
        _, values, found = grpo_step.update(
            begun, None, Weights(tiny_params), minibatches, tiny_policy, config, tx
        )
        return token_sums.gather(found, len(rows)), values

    sums, values = summed(dataclasses.replace(CONFIG, microbatch_tokens=3 * 64))
    sampled = np.array([sum(one.sampled) * one.is_valid for one in rows])
    np.testing.assert_array_equal(sums.tokens, sampled)
    assert values["optim/clip_fraction"] > 0
    valid = [n for n in range(8) if n != 5]
    counts = [sum(one.sampled) for one in rows]
    parts = token_sums.measure(sums, counts, valid)
    assert parts.pop("optim/mask_fraction") == 0
    assert parts == pytest.approx({name: values[name] for name in parts}, rel=1e-5)
    for n in valid:
        by_hand = kl_by_hand(tiny_policy, tiny_params, [rescored(tiny_policy, here, rows[n])], 1.0)
        assert token_sums.measure(sums, counts, [n])["optim/kl"] == pytest.approx(by_hand, rel=1e-3)
    # Every trajectory is in one minibatch, and is visited in each iteration.
    twice, _ = summed(dataclasses.replace(CONFIG, num_minibatches=2, num_iterations=2))
    assert twice.iterations == 2
    np.testing.assert_array_equal(twice.tokens, 2 * sampled)


def rescored(policy: Policy, params: Params, one: Trajectory) -> Trajectory:
    """The same tokens as if these parameters had sampled them."""
    scored = np.concatenate([[0.0], scores(policy, params, one.tokens)])
    return dataclasses.replace(one, logprobs=tuple(np.where(one.sampled, scored, 0.0).tolist()))


def test_recomputed_behaviour_forgives_the_sampler_its_rounding(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    exact = [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]
    rounded = [
        dataclasses.replace(
            one,
            logprobs=tuple(
                x + 0.2 * chosen for x, chosen in zip(one.logprobs, one.sampled, strict=True)
            ),
        )
        for one in exact
    ]
    again = dataclasses.replace(CONFIG, old_logprobs="recompute")
    wanted, _ = updated(tiny_policy, tiny_params, exact, CONFIG)
    got, values = updated(tiny_policy, tiny_params, rounded, again)
    assert_close(got.opt_state[1][0].mu, wanted.opt_state[1][0].mu, atol=1e-6, rtol=1e-3)
    assert values["optim/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert values["check/sampler_trainer_logprob_diff"] == pytest.approx(0.2, abs=1e-4)
    _, noted = updated(tiny_policy, tiny_params, rounded, CONFIG)
    assert noted["optim/ratio_mean"] == pytest.approx(np.exp(-0.2), abs=1e-4)


@pytest.mark.parametrize("old_logprobs", ["rollout", "recompute"])
def test_log_probabilities_are_those_at_the_sampling_temperature(
    tiny_policy: Policy, tiny_params: Params, old_logprobs: Literal["rollout", "recompute"]
) -> None:
    rows = [
        trajectory(tiny_policy, tiny_params, n, float(n % 3), temperature=0.5) for n in range(8)
    ]
    config = dataclasses.replace(CONFIG, temperature=0.5, old_logprobs=old_logprobs)
    _, values = updated(tiny_policy, tiny_params, rows, config)
    assert values["optim/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert values["optim/kl"] == pytest.approx(0.0, abs=1e-8)
    assert values["check/sampler_trainer_logprob_diff_max"] <= 1e-4
    # The test sees the temperature: at another one the log-probabilities are others.
    _, warm = updated(tiny_policy, tiny_params, rows, dataclasses.replace(config, temperature=1.0))
    assert warm["check/sampler_trainer_logprob_diff_max"] > 0.1


def test_lora_moves_towards_better_answers_from_the_same_reference(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    rows = [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]
    how = dataclasses.replace(tiny_policy.train_config, lora_rank=2)
    small = dataclasses.replace(tiny_policy, train_config=how)
    adapters, base = small.split_trainable(tiny_params, seed=0)
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)
    begun = train_state.create_state(adapters, tx)
    for _ in range(3):
        begun, values = update(begun, rows, small, CONFIG, tx, tiny_params, base)
    after = small.merge_weights(Weights(begun.params, base))
    assert values["optim/kl"] > 0 and values["optim/surrogate"] > 0
    np.testing.assert_array_equal(after["embed"][...], tiny_params["embed"][...])
    assert largest(jax.tree.map(jnp.subtract, after, tiny_params)) > 1e-3
