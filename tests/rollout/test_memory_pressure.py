"""Rollouts in too little memory for all slots equal those in enough of it."""

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.trajectory import Trajectory
from tests.rollout.scripts import MIXED, echo, ragged, request
from tests.rollout.test_late_scripts import Dawdler

PAGED = {"slots": 6, "page_length": 8, "chunk_steps": 5}
ROW = 160
"""Tokens of the longest trajectory: the least memory that a sampler may have."""


def assert_equal(found: list[Trajectory], expected: list[Trajectory]) -> None:
    """The same, up to the rounding of what was computed again in another order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.rollout_id, one.tokens, one.sampled) == (
            other.rollout_id,
            other.tokens,
            other.sampled,
        )
        assert (one.stop, one.answer) == (other.stop, other.answer)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("cache_tokens", [ROW, ROW + 40, 2 * ROW])
def test_too_little_memory_changes_no_trajectory(world, stand_in, cache_tokens: int) -> None:
    expected = world.runner(MIXED, stand_in(echo), **PAGED).run(ragged(24))
    runner = world.runner(MIXED, stand_in(echo), **PAGED, cache_tokens=cache_tokens)
    assert_equal(runner.run(ragged(24)), expected)
    assert runner.num_evicted > 0 or cache_tokens == 2 * ROW


def test_scripts_that_are_late_and_too_little_memory(world, stand_in) -> None:
    expected = world.runner(MIXED, stand_in(echo), **PAGED).run(ragged(20))
    for seed in range(2):
        runner = world.runner(MIXED, Dawdler(seed), **PAGED, cache_tokens=ROW + 16)
        assert_equal(runner.run(ragged(20)), expected)


def test_enough_memory_for_all_evicts_nobody(world, stand_in) -> None:
    runner = world.runner(MIXED, stand_in(echo), **PAGED, cache_tokens=6 * ROW)
    runner.run(ragged(24))
    assert runner.num_evicted == 0


def test_partial_rollouts_in_too_little_memory(world, stand_in) -> None:
    requests = [request(number, member) for number in range(12) for member in range(3)]
    expected = world.runner(MIXED, stand_in(echo), **PAGED).run(requests)
    runner = world.runner(MIXED, stand_in(echo), **PAGED, cache_tokens=ROW + 24)
    partial: list[Episode] = []
    found: list[Trajectory] = []
    for step in range(3):
        trained, partial = runner.run_groups(
            requests[:24] if step == 0 else requests[24:] if step == 1 else [],
            partial,
            num_groups=4,
            step=step,
            max_staleness=2 if step < 2 else 0,
        )
        found += trained
    assert partial == [] and runner.num_evicted > 0
    assert_equal(sorted(found, key=lambda each: each.rollout_id), expected)


def test_memory_of_less_than_a_row_is_refused(world, stand_in) -> None:
    with pytest.raises(UserError, match=r"cache_tokens = 152 .* set it to 160 at least"):
        world.runner(MIXED, stand_in(echo), **PAGED, cache_tokens=152)
