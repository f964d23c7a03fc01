"""Guards stop a diverged training, and warn of spikes and mismatches."""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.train import guards


class Batch(NamedTuple):
    tokens_BT: np.ndarray
    mask_BT: np.ndarray


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_none_stops_and_keeps_the_batch(bad: float, tmp_path: Path) -> None:
    batch = Batch(np.arange(6).reshape(2, 3), np.ones((2, 3), bool))
    path = tmp_path / "diverged" / "sft_step_7.npz"

    def check(value: float) -> None:
        guards.require_finite(
            {"optim/loss": 1.0, "optim/grad_norm": value},
            step=7,
            save=lambda: guards.save_arrays(path, batch),
            advice="lower the rate",
        )

    check(2.0)
    assert not path.exists()
    with pytest.raises(UserError, match=r"diverged at step 7 .*grad_norm.*sft_step_7.npz; lower"):
        check(bad)
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["tokens_BT"], batch.tokens_BT)
        np.testing.assert_array_equal(saved["mask_BT"], batch.mask_BT)


def test_strict_lets_nothing_travel_or_grow_unasked() -> None:
    ask = jax.jit(lambda x: x + 1)
    with guards.no_implicit_transfers():
        there = jax.device_put(np.ones(3, np.float32))
        np.testing.assert_array_equal(jax.device_get(ask(there)), 2.0)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            ask(np.ones(3, np.float32))
        with pytest.raises(ValueError, match="rank_promotion"):
            jnp.add(there, ask(jax.device_put(np.ones((2, 3), np.float32))))


def test_a_loss_far_above_the_recent_ones_is_a_spike(capsys: pytest.CaptureFixture[str]) -> None:
    spikes = guards.LossSpikeDetector(window=20, min_history=4)
    found = [spikes.report("sft", step, loss) for step, loss in enumerate([1.0, 1.2, 0.8, 1.0])]
    assert found == [0.0] * 4
    # Of these four the mean is 1 and the deviation the root of 0.02.
    assert spikes.report("sft", 4, 1.1) == pytest.approx(0.1 / 0.02**0.5)
    assert "standard deviations" not in capsys.readouterr().err
    assert spikes.report("sft", 5, 9.0) > 6
    assert "sft: the loss of step 5 is 9, " in capsys.readouterr().err


def test_a_resumed_watch_judges_as_one_that_went_on() -> None:
    losses = [1.0 + 0.1 * math.sin(step) for step in range(140)]
    one, other = guards.LossSpikeDetector(), guards.LossSpikeDetector()
    whole = [one.deviation(loss) for loss in losses]
    other.resume(losses[:125])
    assert [other.deviation(loss) for loss in losses[125:]] == whole[125:]


def test_a_mismatch_of_sampler_and_trainer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    name = "check/sampler_trainer_logprob_diff"
    guards.report_logprob_mismatch("grpo", 3, {})
    guards.report_logprob_mismatch("grpo", 3, {name: 0.01})
    assert not capsys.readouterr().err
    guards.report_logprob_mismatch("grpo", 3, {name: 0.5})
    assert 'set grpo.old_logprobs to "recompute"' in " ".join(capsys.readouterr().err.split())
