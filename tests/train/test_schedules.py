"""Our schedules are optax's curves up to rounding; docs/adr/0023 has the bound."""

import numpy as np
import optax
import pytest

from r1ci_jax.train import optimizer

STEPS, WARMUP = 400, 24


@pytest.mark.parametrize("lr", [1e-5, 3e-3])
def test_cosine_is_optax_s_cosine_up_to_rounding(lr: float) -> None:
    ours = optimizer.cosine_schedule(lr, steps=STEPS, warmup_steps=WARMUP)
    # Our first rate is above zero: step 0 has the rate that optax gives one step after zero.
    rise = optax.linear_schedule(lr / (WARMUP + 1), lr, WARMUP)
    fall = optax.cosine_decay_schedule(lr, STEPS - WARMUP)
    theirs = optax.join_schedules([rise, fall], [WARMUP])
    found, wanted = (optimizer.tabulate(each, STEPS + 1) for each in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * lr)
    np.testing.assert_allclose(found[:WARMUP], wanted[:WARMUP], rtol=2e-6)
    assert found[WARMUP] == np.float32(lr) and found[STEPS] < 1e-7 * lr


def test_constant_is_optax_s_rise_and_constant() -> None:
    theirs = optax.join_schedules(
        [optax.linear_schedule(1 / (WARMUP + 1), 1, WARMUP), optax.constant_schedule(1)], [WARMUP]
    )
    ours = optimizer.constant_schedule(1.0, warmup_steps=WARMUP)
    found, wanted = (optimizer.tabulate(each, STEPS) for each in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=2e-6)
