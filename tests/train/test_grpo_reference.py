"""The reference policy is evaluated once per batch, and not at all without a KL term."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import grpo, grpo_step, microbatching, optimizer, train_state
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.test_grpo import knobs, trajectory, update, zero_accumulator
from tests.train.tiny_training import CONFIG, tokenizer

TX = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)


@pytest.fixture
def batch(tiny_policy: Policy, tiny_params: Params) -> list[Trajectory]:
    return [trajectory(tiny_policy, tiny_params, n, float(n % 3)) for n in range(8)]


def run_update(
    policy: Policy, params: Params, batch: list[Trajectory], **changes: Any
) -> dict[str, float]:
    config = dataclasses.replace(CONFIG, **changes)
    state = train_state.create_state(jax.tree.map(jnp.copy, params), TX)
    return update(state, batch, policy, config, TX, params)[1]


def count_reference_passes(monkeypatch: pytest.MonkeyPatch) -> list[microbatching.Microbatch]:
    """Note every microbatch that the reference scores from now on."""
    seen: list[microbatching.Microbatch] = []
    compute = grpo_step.compute_ref_logprobs

    def noted(reference: Weights, batch: microbatching.Microbatch, **settings: Any) -> Any:
        seen.append(batch)
        return compute(reference, batch, **settings)

    monkeypatch.setattr(grpo_step, "compute_ref_logprobs", noted)
    return seen


def test_the_reference_scores_each_microbatch_once(
    tiny_policy: Policy,
    tiny_params: Params,
    batch: list[Trajectory],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = count_reference_passes(monkeypatch)
    run_update(tiny_policy, tiny_params, batch, num_iterations=3, num_minibatches=2)
    # One microbatch in each of two minibatches; the three iterations share the result.
    assert len(seen) == 2


def test_the_gradient_function_has_no_reference_weights(
    tiny_policy: Policy, tiny_params: Params, batch: list[Trajectory]
) -> None:
    [microbatch] = microbatching.split_microbatches(batch, np.ones(8), CONFIG, tokenizer().pad_id)
    microbatch = microbatch._replace(ref_logprobs_BT=microbatch.old_logprobs_BT)
    total = zero_accumulator(tiny_params, CONFIG)
    arguments = total, Weights(tiny_params), microbatch
    traced = grpo_step.accumulate_gradients.trace(*arguments, policy=tiny_policy, **knobs(CONFIG))
    assert len(traced.jaxpr.in_avals) == len(jax.tree.leaves(arguments))


def test_without_a_kl_term_there_is_no_reference(
    tiny_policy: Policy,
    tiny_params: Params,
    batch: list[Trajectory],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    initial = tiny_policy.split_trainable(tiny_params, seed=0)
    before = len(jax.live_arrays())
    assert grpo._make_reference(initial, dataclasses.replace(CONFIG, kl_coef=0.0)) is None
    assert len(jax.live_arrays()) == before, "a copy of the weights is held"
    copy = grpo._make_reference(initial, CONFIG)
    assert len(jax.live_arrays()) == before + len(jax.tree.leaves(copy))

    seen = count_reference_passes(monkeypatch)
    values = run_update(tiny_policy, tiny_params, batch, kl_coef=0.0)
    assert not seen and "optim/kl" not in values
    # The same update as with a reference of weight zero.
    assert values["optim/loss"] == -values["optim/surrogate"]
    assert "optim/kl" in run_update(tiny_policy, tiny_params, batch) and len(seen) == 1


def test_with_lora_the_reference_is_the_frozen_base(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    settings = dataclasses.replace(tiny_policy.train_config, lora_rank=2)
    small = dataclasses.replace(tiny_policy, train_config=settings)
    initial = small.split_trainable(tiny_params, seed=0)
    before = len(jax.live_arrays())
    reference = grpo._make_reference(initial, CONFIG)
    assert reference == Weights(initial.base) and len(jax.live_arrays()) == before


def test_a_knob_outside_the_loss_compiles_nothing(
    tiny_policy: Policy, tiny_params: Params, batch: list[Trajectory]
) -> None:
    jitted: list[Any] = [grpo_step.accumulate_gradients, grpo_step.compute_ref_logprobs]

    def programs() -> int:
        return sum(function._cache_size() for function in jitted)

    run_update(tiny_policy, tiny_params, batch)
    before = programs()
    run_update(
        tiny_policy, tiny_params, batch, lr=1.0, checkpoint_every=7, logged_trajectories=1,
        steps_per_stage=(9,),
    )  # fmt: skip
    assert programs() == before
    run_update(tiny_policy, tiny_params, batch, clip_low=0.123)
    assert programs() == before + 1


def test_a_policy_holds_plain_values() -> None:
    names = {field.name for field in dataclasses.fields(Policy)}
    assert names == {"config", "graphdef", "vocab_size", "train_config"}
