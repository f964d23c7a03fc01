"""CodeSteer's guide: what it says is followed, it ends in time, and nothing depends on when."""

import dataclasses
import json
import random
from collections.abc import Sequence

import numpy as np
import pytest

from r1ci_jax.config import TurnLimits
from r1ci_jax.rollout import agents, serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.text import chatml, prompts, protocol
from tests.rollout.scripts import CODING, ENDING, EXAMPLE, GUIDED, ONLY_ANSWER, echo, request
from tests.rollout.test_late_scripts import Dawdler

GUIDE_PROMPT = "Check the answer with code."
"""Short, and of words that the tokenizer of the tests has."""
STEER = agents.CodeSteer()
LIMITS = TurnLimits(max_code_calls=6, max_new_tokens=200, max_observation_tokens=40)


def guided(world, script=GUIDED, box=None, *, limits=LIMITS, **sampler: int) -> Runner:
    """A runner whose instructions have a guide."""
    sampler = {"cache_length": 600, **sampler}
    runner: Runner = world.runner(script, box, limits=limits, **sampler)
    runner.instructions = {prompts.GUIDE: GUIDE_PROMPT}
    return runner


def steered(count: int) -> list[Request]:
    return [request(number // 3, number % 3, agent=STEER) for number in range(count)]


def runs(trajectory: Trajectory) -> list[tuple[bool, int, list[int]]]:
    """(sampled, start, tokens) of each run of tokens by one writer, the prompt first."""
    found: list[tuple[bool, int, list[int]]] = []
    for index, (token, sampled) in enumerate(
        zip(trajectory.tokens, trajectory.sampled, strict=True)
    ):
        if not found or found[-1][0] != sampled:
            found.append((sampled, index, []))
        found[-1][2].append(token)
    return found


def turns(trajectory: Trajectory) -> list[tuple[int, list[int]]]:
    return [(start, tokens) for sampled, start, tokens in runs(trajectory) if sampled]


# --- What the guide's words mean ---


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("<<<Search all orders.>>>", "Search all orders."),
        ("It guessed. <<< Search all orders. >>>", "Search all orders."),
        ("Search all orders.", "Search all orders."),
        ("<<<Code>>>", prompts.CODE_REQUEST),
        ("It guessed, so: <<<code>>>", prompts.CODE_REQUEST),
        ("<<<Code the search anew.>>>", "Code the search anew."),
        ("<<<Return Answer>>>", None),
        ("All conditions hold. <<<return answer.>>>", None),
        ("All conditions hold. Return Answer", None),
        ("<<<Terminate>>>", None),
        ("<<<Terminate the search sooner.>>>", "Terminate the search sooner."),
        ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ("", None),
        (" \n", None),
    ],
)
def test_guidance_is_read_from_the_marks_or_else_from_the_whole(
    said: str, message: str | None
) -> None:
    assert agents.read_guidance(said) == message


def turn(**changes) -> agents.ModelTurn:
    known = {"code": None, "answer": "7", "num_answers": 1, "text": "<<<7>>>", "guide": "G"}
    return agents.ModelTurn(**{**known, **changes})


def test_what_codesteer_does_by_hand() -> None:
    act = STEER.act
    assert act(turn()) == agents.AskGuide(prompt="G")
    assert act(turn(answer=None)) == agents.AskGuide(prompt="G")  # the guide may ask for one
    assert act(turn(code="print(1)", answer=None)) == agents.RunCode(code="print(1)")
    last = turn(num_guide_turns=agents.MAX_GUIDE_TURNS, num_answers=6)
    assert act(last) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    guide = {"is_guide": True, "num_guide_turns": 1, "guided_answer": "7"}
    assert act(turn(text="<<<More.>>>", answer="More.", **guide)) == agents.UserMessage(
        text="More."
    )
    done = turn(text="<<<Return Answer>>>", answer="Return Answer", **guide)
    assert act(done) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    none = turn(text="<<<Terminate>>>", **{**guide, "guided_answer": None})
    assert act(none) == agents.Finish(stop=StopReason.EOS, answer=None)
    # Without a guide, one fixed sentence.
    assert act(turn(guide="")) == agents.UserMessage(text=prompts.CHECK_MESSAGE)
    checked = turn(guide="", num_answers=2, messages=(prompts.CHECK_MESSAGE,))
    assert act(checked) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    assert act(turn(guide="", answer=None)) == agents.Finish(stop=StopReason.EOS, answer=None)


# --- Whole trajectories ---


def test_the_guide_sends_back_five_times_and_its_words_do_not_train(world) -> None:
    (found,) = guided(world, ONLY_ANSWER).run([request(agent=STEER)])
    tokenizer = world.tokenizer
    written = turns(found)
    assert [tokenizer.decode(tokens) for _, tokens in written] == ["<<<7>>>"] * 11
    assert found.guide_starts == tuple(start for start, _ in written[1::2])
    context = [tokens for sampled, _, tokens in runs(found) if not sampled]
    assert context[0] == chatml.prompt_ids(tokenizer, EXAMPLE.question)
    assert context[1::2] == [chatml.user_message_ids(tokenizer, GUIDE_PROMPT)] * 5
    assert context[2::2] == [chatml.user_message_ids(tokenizer, "7")] * 5  # what the guide said
    assert (found.stop, found.answer, found.correct) == (StopReason.ANSWER, "7", True)
    own = {index for start, tokens in written[0::2] for index in range(start, start + len(tokens))}
    assert {index for index, trained in enumerate(found.trained) if trained} == own
    assert sum(found.sampled) == 33 and sum(found.trained) == 18
    expected = world.logprobs(ONLY_ANSWER, found.tokens[:160], 1.0)
    sampled = np.array(found.sampled[1:160])
    np.testing.assert_allclose(
        np.array(found.logprobs[1:160])[sampled], expected[sampled], atol=1e-4
    )


def next_message(text: str, *, is_guide: bool, guide_turns: int) -> str | None:
    """The user message after a turn without code, None at the end: the rules in the test's words"""
    if not is_guide:
        return GUIDE_PROMPT if guide_turns < 5 else None
    inner = text.partition("<<<")[2].partition(">>>")[0] or text
    if inner in ("", ENDING):
        return None
    return prompts.CODE_REQUEST if inner == CODING else inner


def check_by_rule(world, trajectory: Trajectory) -> list[str]:
    """Follow a trajectory turn by turn; return what the guide did."""
    tokenizer, parts = world.tokenizer, runs(trajectory)
    guide_turns, is_guide, seen = 0, False, list[str]()
    num_scripts, answer = 0, None
    for number in range(1, len(parts), 2):
        _, start, ids = parts[number]
        is_closed = ids[-1] == tokenizer.eos_id
        text = tokenizer.decode(ids[:-1] if is_closed else ids)
        context = parts[number + 1][2] if number + 1 < len(parts) else None
        assert (start in trajectory.guide_starts) == is_guide
        if not is_guide:
            answer = protocol.final_answer(text)
        if text.endswith("```") and not is_guide:
            num_scripts += 1
            printed = protocol.observation(trajectory.code_calls[num_scripts - 1].result)
            assert context == tokenizer.encode(printed)
            seen += ["script"] if guide_turns else []
            continue
        message = next_message(text, is_guide=is_guide, guide_turns=guide_turns)
        if message is None:
            assert context is None
        else:
            assert context == chatml.user_message_ids(tokenizer, message, is_closed=is_closed)
        if is_guide:
            seen.append("code block" if text.endswith("```") else str(message))
        is_guide = message == GUIDE_PROMPT
        guide_turns += is_guide
    assert num_scripts == len(trajectory.code_calls)
    assert trajectory.answer == answer
    assert trajectory.stop is (StopReason.EOS if answer is None else StopReason.ANSWER)
    return [*seen, f"{guide_turns} turns"]


def test_every_trajectory_follows_its_guide(world, stand_in) -> None:
    found = guided(world, GUIDED, stand_in(echo)).run(steered(60))
    whole = [
        each
        for each in found
        if each.stop in (StopReason.ANSWER, StopReason.EOS)  # no limit of the trajectory
    ]
    assert len(whole) > 40
    seen = {event for each in whole for event in check_by_rule(world, each)}
    wanted = {"7", "8", prompts.CODE_REQUEST, "None", "script", "code block"}
    assert wanted <= seen and {"1 turns", "2 turns", "5 turns"} <= seen
    assert not seen & {"0 turns", "6 turns"}
    assert any(each.correct for each in whole)


@pytest.mark.parametrize(
    ("changes", "cache_length", "stop"),
    [
        ({"max_new_tokens": 3}, 600, StopReason.MAX_TOKENS),  # no token left for the guide
        ({"max_new_tokens": 4}, 600, StopReason.MAX_TOKENS),  # it is cut off
        ({"max_new_tokens": 6}, 600, StopReason.MAX_TOKENS),  # its message finds no room
        ({"max_turns": 1}, 600, StopReason.MAX_TURNS),
        ({"max_turns": 2}, 600, StopReason.MAX_TURNS),
        ({}, 60, StopReason.CONTEXT_FULL),
    ],
)
def test_an_answer_stands_when_a_limit_ends_the_guide(
    world, changes: dict[str, int], cache_length: int, stop: StopReason
) -> None:
    limits = dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]  # no rule in it
    runner = guided(
        world, ONLY_ANSWER, limits=limits, cache_length=cache_length,
        slots=1, prefill_rows=1,
    )  # fmt: skip
    (found,) = runner.run([request(agent=STEER)])
    assert (found.stop, found.answer, found.correct) == (stop, "7", True)


def test_a_limit_that_ends_the_guided_answer_leaves_none(world) -> None:
    limits = TurnLimits(max_new_tokens=8, max_observation_tokens=40)
    (found,) = guided(world, ONLY_ANSWER, limits=limits).run([request(agent=STEER)])
    assert (found.stop, found.answer) == (StopReason.MAX_TOKENS, None)
    assert len(found.guide_starts) == 1 and len(turns(found)) == 3


# --- What trajectories may not depend on ---


def test_slots_chunks_order_and_slow_scripts_change_nothing(world, stand_in) -> None:
    requests = steered(15)
    expected = guided(world, GUIDED, stand_in(echo)).run(requests)
    assert sum(len(each.guide_starts) for each in expected) > 15
    found = guided(world, GUIDED, stand_in(echo), chunk_steps=16, slots=3).run(requests)
    assert [(t.tokens, t.sampled, t.stop, t.answer, t.guide_starts) for t in found] == [
        (t.tokens, t.sampled, t.stop, t.answer, t.guide_starts) for t in expected
    ]
    assert guided(world, GUIDED, Dawdler(0)).run(requests) == expected
    shuffled = random.Random(0).sample(requests, len(requests))
    again = guided(world, GUIDED, stand_in(echo)).run(shuffled)
    assert sorted(again, key=lambda each: each.rollout_id) == expected


def step_requests(steps: Sequence[int]) -> list[Request]:
    return [
        request(step * 4 + number, member, agent=STEER)
        for step in steps
        for number in range(4)
        for member in range(3)
    ]


@pytest.mark.parametrize("resumes", [False, True])
def test_partial_rollouts_equal_uninterrupted_ones(world, stand_in, resumes: bool) -> None:
    requests = step_requests(range(4))
    whole = {t.rollout_id: t for t in guided(world, GUIDED, stand_in(echo)).run(requests)}
    runner = guided(world, GUIDED, stand_in(echo))
    partial: list[Episode] = []
    trained: list[Trajectory] = []
    inside_guide = 0
    for step in range(4):
        new = step_requests(range(2)) if step == 0 else step_requests([step + 1] * (step < 3))
        found, partial = runner.run_groups(
            new, partial, num_groups=4, step=step, max_staleness=2 if step < 3 else 0
        )
        inside_guide += sum(
            each.trajectory is None and each.is_guide and each.sampled[-1] for each in partial
        )
        trained += found
        if resumes:
            saved = json.dumps([serialize.episode_to_json(each) for each in partial])
            partial = [serialize.episode_from_json(each, STEER) for each in json.loads(saved)]
            runner = guided(world, GUIDED, stand_in(echo))
    assert partial == [] and inside_guide > 0
    assert {t.rollout_id for t in trained} == set(whole)
    for each in trained:
        expected = whole[each.rollout_id]
        assert (each.tokens, each.sampled, each.stop, each.answer, each.guide_starts) == (
            expected.tokens, expected.sampled, expected.stop, expected.answer,
            expected.guide_starts,
        )  # fmt: skip
        assert each.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_rewound_guide_has_not_spoken(world) -> None:
    made = guided(world).new_episode(request(agent=STEER))
    made.start_step()
    made.append_completion([5, 6], [-1.0, -1.0])
    before = len(made.tokens)
    made.append_context([9], for_guide=True)
    first = len(made.tokens)
    made.append_completion([7], [-1.0])
    made.append_context([9])
    made.append_completion([8], [-1.0])
    assert (made.guide_starts, made.is_guide) == ([first], False)
    made.rewind(first + 1)
    assert (made.guide_starts, made.is_guide) == ([first], True)
    made.rewind(first)
    assert (made.guide_starts, made.is_guide) == ([first], True)
    made.rewind(before)
    assert (made.guide_starts, made.is_guide) == ([], False)


def test_a_dump_keeps_where_the_guide_spoke_and_says_nothing_without_one(
    world, stand_in, tmp_path
) -> None:
    found = guided(world, GUIDED, stand_in(echo)).run(steered(6))
    path = serialize.step_path(tmp_path, 1)
    serialize.write(path, found)
    assert serialize.read(path) == found and any(each.guide_starts for each in found)
    (plain,) = world.runner(ONLY_ANSWER).run([request()])
    assert "guide_starts" not in serialize.trajectory_to_json(plain)
    assert plain.trained == plain.sampled
    episode = world.runner(ONLY_ANSWER).new_episode(request())
    assert "guide_starts" not in serialize.episode_to_json(episode)
