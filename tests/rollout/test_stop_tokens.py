"""A turn ends at each of the tokenizer's stop tokens, in the engine and in what is kept of it."""

import copy

import pytest

from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text.tokenizer import MESSAGE_END, PAD
from tests.rollout.conftest import World
from tests.rollout.scripts import request


@pytest.mark.parametrize("mark", [MESSAGE_END, PAD, "a", "b"])
def test_every_stop_token_ends_the_turn(world: World, mark: str) -> None:
    ids = {data: index for index, data in enumerate(world.tokenizer.token_bytes())}
    stops = copy.copy(world.tokenizer)
    stops.stop_token_ids = (*stops.stop_token_ids, ids[b"a"], ids[b"b"])
    runner = world.runner({"\n": mark, mark: "7", "7": "7"}, tokenizer=stops)
    (found,) = runner.run([request()])
    assert found.stop is StopReason.EOS
    assert [token for token, is_own in zip(found.tokens, found.sampled, strict=True) if is_own] == [
        ids[mark.encode()]
    ]


def test_other_tokens_end_nothing(world: World) -> None:
    (found,) = world.runner({"\n": "a", "a": "a"}).run([request()])
    assert found.stop is StopReason.MAX_TOKENS
