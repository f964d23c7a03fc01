"""The optimiser does what its knobs say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from r1ci_jax.config import SftConfig
from r1ci_jax.train import optimizer, train_state
from tests.train.tiny_training import training_run


def test_constant_schedule_warms_up_and_stays():
    schedule = optimizer.constant_schedule(2.0, warmup_steps=3)
    np.testing.assert_allclose([schedule(i) for i in range(6)], [0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
    assert float(optimizer.constant_schedule(2.0)(0)) == 2.0


def test_cosine_schedule_by_hand():
    schedule = optimizer.cosine_schedule(1.0, steps=5, warmup_steps=1)
    # One warm-up step at half rate, then a cosine over the other four.
    want = [0.5, 1.0, 0.5 + 0.25 * 2**0.5, 0.5, 0.5 - 0.25 * 2**0.5, 0.0, 0.0]
    np.testing.assert_allclose([schedule(i) for i in range(7)], want, atol=1e-6)


def test_cosine_floor_and_degenerate_lengths():
    assert float(optimizer.cosine_schedule(2.0, steps=10, floor=0.1)(10)) == pytest.approx(0.2)
    for steps in (0, 1):
        first = optimizer.cosine_schedule(1.0, steps=steps, warmup_steps=steps)(0)
        assert 0 < float(first) <= 1


def test_tabulated_rates_are_those_of_the_compiled_schedule():
    schedule = optimizer.cosine_schedule(3e-3, steps=40, warmup_steps=3)
    compiled = jax.jit(schedule)
    want = [compiled(np.int32(step)) for step in range(40)]
    np.testing.assert_array_equal(optimizer.tabulate(schedule, 40), want)


def test_norms_and_biases_do_not_decay_even_when_layers_are_stacked():
    params = {
        "embed_VD": jnp.ones((8, 4)),
        "layers": {
            "norm1_D": jnp.ones((2, 4)),
            "q_DNH": jnp.ones((2, 4, 2, 2)),
            "q_bias_NH": jnp.ones((2, 2, 2)),
        },
        "norm_D": jnp.ones(4),
    }
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0, weight_decay=0.5)
    state = train_state.init_state(params, tx)
    state = train_state.apply_gradients(state, jax.tree.map(jnp.zeros_like, params), tx)
    np.testing.assert_allclose(state.params["embed_VD"], 0.95)
    np.testing.assert_allclose(state.params["layers"]["q_DNH"], 0.95)
    for same in (
        state.params["layers"]["norm1_D"],
        state.params["layers"]["q_bias_NH"],
        state.params["norm_D"],
    ):
        np.testing.assert_array_equal(same, 1.0)


def test_one_step_of_adam_by_hand():
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1e9)
    state = train_state.init_state({"w": jnp.array([1.0, 2.0])}, tx)
    state = train_state.apply_gradients(state, {"w": jnp.array([3.0, -0.5])}, tx)
    # The first step of Adam moves every weight by the learning rate.
    np.testing.assert_allclose(state.params["w"], [0.9, 2.1], rtol=1e-6)
    assert int(state.step) == 1 and state.step.dtype == jnp.int32


def test_reset_moments_start_anew_and_the_learning_rate_goes_on():
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.4, warmup_steps=3), clip_norm=1e9)
    state = train_state.create_state({"norm_D": jnp.array([1.0, 2.0])}, tx)
    for _ in range(2):
        state = train_state.apply_gradients(state, {"norm_D": jnp.array([3.0, -0.5])}, tx)
    before = np.asarray(state.params["norm_D"])
    fresh = train_state.init_state({"norm_D": jnp.zeros(2)}, tx).opt_state
    state = train_state.reset_moments(state)
    np.testing.assert_array_equal(state.params["norm_D"], before)
    assert int(state.step) == 2
    for found, wanted in zip(state.opt_state[1][0], fresh[1][0], strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
    # Adam's first step again, whatever the gradients before; the third rate of the warm-up is .3.
    state = train_state.apply_gradients(state, {"norm_D": jnp.array([-7.0, 0.1])}, tx)
    np.testing.assert_allclose(state.params["norm_D"], before + np.array([0.3, -0.3]), rtol=1e-5)


def test_the_global_norm_is_clipped():
    clip_only = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = train_state.init_state(params, clip_only)
    state = train_state.apply_gradients(
        state, {"a": jnp.array([30.0]), "b": jnp.array([40.0])}, clip_only
    )
    moments = optax.tree.get(state.opt_state, "mu")
    np.testing.assert_allclose([moments["a"][0], moments["b"][0]], [0.06, 0.08], rtol=1e-5)


def test_a_state_takes_over_the_arrays_of_its_parameters() -> None:
    params = {"embed": jnp.ones((8, 4)), "norm": jnp.ones(4)}
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0)
    state = train_state.create_state(params, tx)
    assert state.params["embed"].unsafe_buffer_pointer() == params["embed"].unsafe_buffer_pointer()
    wanted = train_state.abstract_state(params, tx)
    for made, said in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        assert (made.shape, made.dtype, made.sharding) == (said.shape, said.dtype, said.sharding)
    step = jax.jit(train_state.apply_gradients, static_argnums=2, donate_argnums=0)
    state = step(state, jax.tree.map(jnp.zeros_like, params), tx)
    assert params["embed"].is_deleted() and not state.params["embed"].is_deleted()


def test_a_resumed_training_frees_the_weights_that_it_does_not_need(tmp_path: Path) -> None:
    run = training_run("sft", tmp_path, seed=0)
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0)

    def start(params: dict[str, jax.Array]) -> float:
        with run.start(params, tx, SftConfig(), 2, identity={}) as loop:
            loop.save(1, loop.train_state, {}, metric=0.0)
            return float(loop.train_state.params["norm"][0])

    first, again = {"norm": jnp.ones(4)}, {"norm": jnp.zeros(4)}
    assert (start(first), start(again)) == (1.0, 1.0)
    assert again["norm"].is_deleted()


def test_nnx_state_trains_under_jit_with_donation():
    graph, params = nnx.split(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.05), clip_norm=10.0)
    state = train_state.init_state(params, tx)
    x_BD = jax.random.normal(jax.random.key(0), (16, 3))
    y_B = x_BD @ jnp.array([1.0, -2.0, 0.5])

    def loss_of(params):
        return jnp.mean((nnx.merge(graph, params)(x_BD)[:, 0] - y_B) ** 2)

    @jax.jit(donate_argnames="state")
    def step(state):
        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        return train_state.apply_gradients(state, gradients, tx), loss

    found = []
    for _ in range(100):
        state, loss = step(state)
        found.append(float(loss))
    assert found[-1] < 0.05 * found[0]
    assert int(state.step) == 100
