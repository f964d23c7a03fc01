"""A conversation on one cache row, and what its text may do to a terminal."""

import concurrent.futures
import dataclasses
import io
import json
from collections.abc import Callable, Sequence

import pytest

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import CodeCall, StopReason
from r1ci_jax.sampling.engine import SlotInput
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.text import chatml, prompts, protocol
from r1ci_jax.tools.chat import conversation as chat
from r1ci_jax.tools.chat import view as chat_view
from tests.rollout.conftest import StandIn, World
from tests.rollout.scripts import (
    CODE_THEN_ANSWER,
    ENDLESS,
    MIXED,
    ONLY_ANSWER,
    ONLY_CODE,
    ONLY_EOS,
    echo,
    request,
)

SAMPLING = SamplingParams(temperature=1.0)
LIMITS = TurnLimits(max_code_calls=3, max_new_tokens=40, max_observation_tokens=40)


class Seen:
    """An observer that keeps the conversation's episode and its stops."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []
        self.stops: list[StopReason] = []
        self.ids: list[int] = []

    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        self.episodes.append(episode)
        self.ids += ids

    def on_code(self, episode: Episode, code: str) -> None:
        pass

    def on_observation(self, episode: Episode, text: str) -> None:
        pass

    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        self.stops.append(stop)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def conversation(
    world: World, script, box=None, **sampler: int
) -> tuple[chat.Conversation, Runner, Seen]:
    sizes = {"slots": 1, "cache_length": 400, "chunk_steps": 4, "prefill_rows": 1} | sampler
    runner = world.runner(script, box or StandIn(echo), limits=LIMITS, **sizes)
    seen = Seen()
    return chat.Conversation(runner, SAMPLING, seen), runner, seen


def never() -> bool:
    return False


def after(looks: int) -> Callable[[], bool]:
    """True from this look on."""
    left = iter([False] * looks)
    return lambda: next(left, True)


def assert_uninterrupted(world: World, script, episode: Episode) -> int:
    """Every turn is what a fresh cache gives after the tokens before it; returns their number."""
    engine = world.runner(script, cache_length=400).engine
    sampled = episode.sampled
    starts = [i for i in range(1, len(sampled)) if sampled[i] and not sampled[i - 1]]
    for start in starts:
        size = next((n for n, own in enumerate(sampled[start:]) if not own), None)
        stretch = episode.tokens[start:][:size]
        slot_input = SlotInput(
            slot=0, tokens=tuple(episode.tokens[:start]), position=0, budget=len(stretch),
            rollout_id=episode.request.rollout_id,
        )  # fmt: skip
        engine.feed([slot_input])
        again: list[int] = []
        while emitted := engine.decode():
            again += emitted[0].tokens
        assert again == stretch
    return len(starts)


def test_messages_continue_in_the_same_cache_row(world: World) -> None:
    talk, runner, seen = conversation(world, MIXED)
    for number in range(5):
        before = len(seen.episodes[-1].tokens) if seen.episodes else 0
        assert talk.ask(f"Compute 3+{number}.", never)
        episode = seen.episodes[-1]
        # Every token is computed once: only context tokens, and the token before each run of them,
        # enter by prefill.
        sampled = episode.sampled
        runs = sum(not own and sampled[index] for index, own in enumerate(sampled[1:]))
        assert runner.engine.prefilled_tokens <= sampled.count(False) + runs
        assert before < len(episode.tokens)
    assert len({id(episode) for episode in seen.episodes}) == 1 and len(seen.stops) == 5
    assert assert_uninterrupted(world, MIXED, seen.episodes[-1]) >= 5
    text = world.tokenizer.decode(seen.episodes[-1].tokens)
    assert text.count("<|im_start|>user") == 5 and "<|im_end|><|im_end|>" not in text


def test_the_guide_has_all_its_turns_in_every_answer(world: World) -> None:
    instructions = prompts.choose("paper", is_pretrained=True)
    whole = world.runner(
        ONLY_ANSWER, limits=LIMITS, instructions=instructions, slots=1, cache_length=5000
    )
    steer = agents.CodeSteer()
    (expected,) = whole.run([request(agent=steer)])
    assert len(expected.guide_starts) == agents.MAX_GUIDE_TURNS
    seen = Seen()
    talk = chat.Conversation(
        world.runner(ONLY_ANSWER, limits=LIMITS, slots=1, cache_length=5000),
        SAMPLING,
        seen,
        instructions=prompts.instructions_of("codesteer", instructions),
        guide=instructions[prompts.GUIDE],
        agent=steer,
    )
    for number in (1, 2):
        assert talk.ask("Compute 3+4.", never)
        assert len(seen.episodes[-1].guide_starts) == number * agents.MAX_GUIDE_TURNS


def test_every_answer_may_take_as_many_turns(world: World) -> None:
    limits = dataclasses.replace(LIMITS, max_turns=2)
    seen = Seen()
    runner = world.runner(CODE_THEN_ANSWER, StandIn(echo), limits=limits, slots=1, cache_length=400)
    talk = chat.Conversation(runner, SAMPLING, seen)
    for _ in range(3):
        assert talk.ask("Compute 3+4.", never)
    assert seen.stops == [StopReason.ANSWER] * 3


def test_a_turn_that_the_policy_closed_is_not_closed_again(world: World) -> None:
    talk, _, seen = conversation(world, ONLY_EOS)
    assert talk.ask("Compute", never) and talk.ask("Again!", never)
    first = chatml.prompt_ids(world.tokenizer, "Compute")
    second = chatml.user_message_ids(world.tokenizer, "Again!")
    assert seen.episodes[-1].tokens == [*first, *second, world.tokenizer.eos_id]
    assert seen.stops == [StopReason.EOS] * 2


@pytest.mark.parametrize("looks", [0, 1, 2, 5])
def test_an_answer_can_be_stopped_anywhere(world: World, looks: int) -> None:
    talk, runner, seen = conversation(world, ENDLESS)
    assert not talk.ask("Compute 3+4.", after(looks))
    assert seen.stops == [] and len(seen.ids) <= 4 * looks
    assert talk.ask("Again!", never)
    assert seen.stops == [StopReason.MAX_TOKENS]
    episode = seen.episodes[-1]
    assert sum(episode.sampled) == len(seen.ids) <= 4 * looks + LIMITS.max_new_tokens
    assert_uninterrupted(world, ENDLESS, episode)
    assert runner.engine.decode() == []


class Hanging:
    """An interpreter whose first script never ends."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        if self.codes:
            future.set_result(echo(code))
        self.codes.append(code)
        return future


def test_an_answer_can_be_stopped_while_its_script_hangs(world: World) -> None:
    box = Hanging()
    talk, _, seen = conversation(world, ONLY_CODE, box)
    assert not talk.ask("Compute 3+4.", lambda: bool(box.codes))
    assert talk.ask("Again!", never)
    # Limits are of an answer, not of the conversation.
    assert seen.stops == [StopReason.MAX_CODE_CALLS] and len(box.codes) == 1 + 3
    assert talk.ask("Again!", never) and len(box.codes) == 1 + 6
    assert_uninterrupted(world, ONLY_CODE, seen.episodes[-1])


def test_a_message_without_room_is_refused_and_forgotten(world: World) -> None:
    talk, _, seen = conversation(world, ONLY_EOS, cache_length=64)
    assert talk.ask("Compute", never)
    before = list(seen.episodes[-1].tokens)
    with pytest.raises(UserError, match=r"/reset"):
        talk.ask("x" * 100, never)
    assert seen.episodes[-1].tokens == before and talk.ask("Again!", never)
    talk.reset("Read this.")
    assert talk.ask("Compute", never)
    text = world.tokenizer.decode(seen.episodes[-1].tokens)
    assert text.startswith("<|im_start|>system\nRead this.<|im_end|>\n<|im_start|>user\nCompute")


# --- What is shown ---

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31mred\r\u202e\u2066end\U000e0041\ud800\tkept"


def views(world: World) -> list[tuple[chat_view.View, io.StringIO]]:
    texts, objects = io.StringIO(), io.StringIO()
    return [
        (chat_view.TextView(texts, world.tokenizer, use_color=False), texts),
        (chat_view.JsonView(objects, world.tokenizer), objects),
    ]


def shown(stream: io.StringIO) -> str:
    text = stream.getvalue()
    if text.startswith("{"):
        events = [json.loads(line) for line in text.splitlines()]
        return "".join(event.get("text", "") for event in events)
    return text


def new_episode(base: Request) -> Episode:
    return Episode(request=base)


def test_a_character_appears_when_all_its_bytes_are_there(world: World) -> None:
    ids = [world.tokenizer.encode("é")[0], *world.tokenizer.encode("€")[:2]]
    assert len(world.tokenizer.encode("é")) == 2 and len(world.tokenizer.encode("€")) == 3
    for view, stream in views(world):
        episode = new_episode(request())
        for token in world.tokenizer.encode("aé€b"):
            view.on_tokens(episode, [token])
            assert "\ufffd" not in shown(stream)
        assert shown(stream) == "aé€b"
        # Broken off in its middle, it is marked, and the next turn is not damaged.
        view.on_tokens(episode, [world.tokenizer.eos_id, *ids[1:]])
        view.interrupted()
        view.on_tokens(episode, world.tokenizer.encode("é"))
        assert "b\ufffd" in shown(stream) and shown(stream).endswith("é")


def test_hostile_text_does_not_reach_the_terminal(world: World) -> None:
    episode = new_episode(request())
    episode.code_calls.append(
        CodeCall(code="", result=ExecResult(status=Status.OK, stdout=HOSTILE))
    )
    for view, stream in views(world):
        view.on_tokens(episode, world.tokenizer.encode(HOSTILE))
        view.on_code(episode, HOSTILE)
        view.on_observation(episode, HOSTILE)
        view.on_observation(episode, protocol.observation(episode.code_calls[0].result))
        view.problem(HOSTILE)
        view.on_stop(episode, StopReason.ANSWER, HOSTILE)
        bad = [c for c in stream.getvalue() if not (c.isprintable() or c in "\n\t")]
        assert bad == []
        assert "kept" in stream.getvalue()


def test_marks_are_colored_though_they_come_in_parts(world: World) -> None:
    stream = io.StringIO()
    view = chat_view.TextView(stream, world.tokenizer, use_color=True)
    episode = new_episode(request())
    for character in "so <<<7>>> and ```python \nprint(1)\n```":
        view.on_tokens(episode, world.tokenizer.encode(character))
    view.on_code(episode, "print(1)\n")
    text = stream.getvalue()
    assert "<<<\x1b[0m\x1b[1;32m7>>>\x1b[0m" in text
    assert "```python \n\x1b[0m\x1b[36mprint(1)\n```\x1b[0m\n" in text
