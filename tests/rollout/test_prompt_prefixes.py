"""Instructions that all prompts of an agent begin with are computed once, and change nothing."""

import pytest

from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.episode import Request
from tests.rollout.scripts import CODE_AGENT, MIXED, echo, request

LONG = "Work it out step by step, and mark the answer as you were told above. Take your time. "
QUESTIONS = ("Compute 3+4.", "What is 3 + 4?", "Add 4 to 3, please.", "7", "three and four")


def asked(number: int, member: int = 0) -> Request:
    """Another question each, so that groups share their instructions only."""
    return request(number, member, question=QUESTIONS[number % len(QUESTIONS)])


@pytest.mark.parametrize("slots", [1, 4])
def test_the_instructions_are_computed_once(world, stand_in, slots: int) -> None:
    requests = [asked(number, member) for number in range(5) for member in range(2)]
    runner = world.runner(MIXED, stand_in(echo), slots=slots, instructions={"code_agent": LONG})
    prefix = runner.new_episode(requests[0]).num_prefix_tokens
    assert runners.SHORTEST_PREFIX <= prefix < len(runner.prompt_ids(requests[0])) - 5
    found = runner.run(requests)
    # One of each group computes what is behind the instructions, one of all the instructions.
    num_prompt_tokens = sum(len(runner.prompt_ids(each)) - 1 for each in requests)
    rest = sum(len(runner.prompt_ids(asked(number))) - 1 - prefix for number in range(5))
    assert runner.engine.shared_tokens == num_prompt_tokens - prefix - rest
    # As if each had been alone, with nothing in the cache.
    alone = world.runner(MIXED, stand_in(echo), slots=slots, instructions={"code_agent": LONG})
    for one, trajectory in zip(requests, found, strict=True):
        alone.load(alone.engine._weights)  # forgets all prompts
        assert alone.run([one]) == [trajectory]


def test_short_or_merged_beginnings_are_not_split(world) -> None:
    short = world.runner(MIXED, instructions={"code_agent": "Go. "})
    assert short.new_episode(asked(0)).num_prefix_tokens == 0
    none = world.runner(MIXED)
    assert none.new_episode(asked(0)).num_prefix_tokens == 0


def test_a_partial_rollout_remembers_where_its_question_begins(world) -> None:
    runner = world.runner(MIXED, instructions={"code_agent": LONG})
    episode = runner.new_episode(asked(1))
    saved = serialize.episode_to_json(episode)
    assert (
        serialize.episode_from_json(saved, CODE_AGENT).num_prefix_tokens
        == episode.num_prefix_tokens
        > 0
    )
