"""Speculation in whole rollouts: the same trajectories, in fewer steps."""

import pytest

from tests.rollout.scripts import MIXED, echo, ragged, request
from tests.rollout.test_memory_pressure import PAGED, ROW, assert_equal

CIRCLE = {"\n": "a", "a": "b", "b": "c", "c": "a"}
"""After the prompt, a policy that writes abcabc and never ends."""


def test_verified_guesses_spare_steps(world) -> None:
    plain, guessing = world.runner(CIRCLE), world.runner(CIRCLE, speculative_tokens=3)
    requests = [request(0)]
    assert_equal(guessing.run(requests), plain.run(requests))
    # The first circle cannot be guessed; after it, a step yields up to four tokens.
    assert guessing.engine.decode_steps < 0.5 * plain.engine.decode_steps


@pytest.mark.parametrize("memory", [{}, {**PAGED, "cache_tokens": ROW + 24}])
def test_guesses_change_no_trajectory(world, stand_in, memory: dict[str, int]) -> None:
    expected = world.runner(MIXED, stand_in(echo)).run(ragged(16))
    runner = world.runner(MIXED, stand_in(echo), **memory, speculative_tokens=2)
    assert_equal(runner.run(ragged(16)), expected)
    assert runner.num_evicted or not memory
