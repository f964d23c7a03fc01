"""Every limit of a trajectory ends it with a reason of its own; other tools count as turns."""

import concurrent.futures
import dataclasses
import json
import threading
from collections.abc import Callable
from typing import override

import pytest

from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents, episode, serialize, summaries
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.sandbox import ExecResult, Status
from tests.rollout.scripts import (
    CODE_THEN_ANSWER,
    ENDLESS,
    MIXED,
    ONLY_ANSWER,
    ONLY_CODE,
    echo,
    ragged,
    request,
)

LIMITS = TurnLimits(max_code_calls=9, max_new_tokens=80, max_observation_tokens=40)


def limits(**changes: float) -> TurnLimits:
    return dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]  # floats for ints


def test_a_turn_has_its_own_number_of_tokens(world) -> None:
    (cut,) = world.runner(ENDLESS, limits=limits(max_turn_tokens=13)).run([request()])
    assert cut.stop is StopReason.MAX_TURN_TOKENS and sum(cut.sampled) == 13
    # Nine tokens are a script: three turns of nine each pass, though they are 27 together.
    (whole,) = world.runner(
        ONLY_CODE, limits=limits(max_turn_tokens=10, max_new_tokens=28, max_code_calls=3)
    ).run([request()])
    assert len(whole.code_calls) == 3 and whole.stop is StopReason.MAX_TOKENS


def test_turns_are_limited(world) -> None:
    for most in (1, 2, 4):
        (trajectory,) = world.runner(ONLY_CODE, limits=limits(max_turns=most)).run([request()])
        assert trajectory.stop is StopReason.MAX_TURNS
        assert trajectory.num_turns == most


class Hanging:
    """An interpreter that never answers scripts that print `no`."""

    def __init__(self) -> None:
        self.hung: list[concurrent.futures.Future[ExecResult]] = []

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        if "no!" in code:
            self.hung.append(future)
        else:
            future.set_result(echo(code))
        return future


def test_wall_time_ends_a_trajectory_and_leaves_the_others(world, stand_in) -> None:
    whole = world.runner(MIXED, stand_in(echo), limits=limits()).run(ragged(14))
    hangs = [any("no!" in call.code for call in each.code_calls) for each in whole]
    for seconds in (5.0, 40.0, 320.0):  # on a busy machine the others take long too
        box = Hanging()
        runner = world.runner(MIXED, box, limits=limits(max_wall_seconds=seconds))
        runner.warm_up()
        found = runner.run(ragged(14))
        if sum(each.stop is StopReason.WALL_TIME for each in found) == sum(hangs):
            break
    for trajectory, expected, is_hung in zip(found, whole, hangs, strict=True):
        if is_hung:
            assert trajectory.stop is StopReason.WALL_TIME
        else:
            assert trajectory == expected
    hung = sum(hangs)
    assert 2 <= hung == len(box.hung) <= 12
    assert all(future.cancelled() for future in box.hung)
    assert runner.engine.decode() == []


@pytest.mark.parametrize("slots", [1, 3])
def test_wall_time_may_end_a_trajectory_that_was_just_sent_a_message(
    world, monkeypatch, slots: int
) -> None:
    agent = agents.CodeSteer()
    asked = [dataclasses.replace(each, agent=agent) for each in ragged(9)]
    # A trajectory is late from its first message on, which the same step has staged for its slot.
    is_late = property(lambda self: 9.0 if self.messages else 0.0)
    monkeypatch.setattr(episode.Episode, "seconds", is_late)
    runner = world.runner(ONLY_ANSWER, limits=limits(max_wall_seconds=1), slots=slots)
    found = runner.run(asked)
    assert {each.stop for each in found} == {StopReason.WALL_TIME}
    assert runner.engine.decode() == []
    # The slots are free, and what enters them next is what it is elsewhere.
    monkeypatch.undo()
    plain = world.runner(ONLY_ANSWER, limits=limits(), slots=slots)
    assert runner.run(asked) == plain.run(asked)


@pytest.mark.parametrize("name", ["max_turns", "max_turn_tokens", "max_wall_seconds"])
def test_limits_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"limits.{name}"):
        limits(**{name: 0})


class Calculator(agents.Agent):
    """An agent with a tool in place of the interpreter."""

    name = "calculator"

    def __init__(self, result: Callable[[], str]) -> None:
        self.result = result

    @override
    def act(self, turn: agents.ModelTurn) -> agents.Action:
        if turn.code is not None:
            assert turn.code in turn.text
            return agents.UseTool(call=self.result)
        return agents.Finish(stop=StopReason.ANSWER, answer=turn.answer)


def test_the_text_of_another_tool_is_read_like_an_observation(world, printing) -> None:
    sandbox = printing("never asked")
    runner = world.runner(CODE_THEN_ANSWER, sandbox)
    (trajectory,) = runner.run([request(agent=Calculator(lambda: "\x1bok!"))])
    text = world.tokenizer.decode(
        [t for t, own in zip(trajectory.tokens, trajectory.sampled, strict=True) if not own]
    )
    assert text.endswith("\n\\x1bok!\n") and sandbox.codes == []
    assert (trajectory.stop, trajectory.code_calls) == (StopReason.ANSWER, ())
    assert (trajectory.num_tool_calls, trajectory.num_turns) == (1, 2)
    means = summaries.compute_means([trajectory])
    assert (means["tool/calls_per_traj"], means["tool/used_fraction"]) == (1, 1)
    stored = json.loads(json.dumps(serialize.trajectory_to_json(trajectory)))
    assert serialize.trajectory_from_json(stored) == trajectory


def test_a_tool_that_raises_ends_the_run_and_leaves_the_runner_usable(world) -> None:
    def fails() -> str:
        raise RuntimeError("the calculator is gone")

    runner = world.runner(CODE_THEN_ANSWER)
    with pytest.raises(RuntimeError, match="the calculator is gone"):
        runner.run([request(agent=Calculator(fails))])
    (trajectory,) = runner.run([request()])
    assert trajectory.stop is StopReason.ANSWER


def test_an_interrupt_leaves_nothing_behind(world, stand_in) -> None:
    runner, expected = world.runner(MIXED, stand_in(echo)), None
    expected = world.runner(MIXED, stand_in(echo)).run(ragged(9))

    def interrupt(done: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        runner.run(ragged(9), on_done=interrupt)
    assert runner.engine.decode() == [] and threading.active_count() <= threads + 1
    assert runner.run(ragged(9)) == expected


def test_a_lost_worker_marks_its_trajectories_only(world, stand_in) -> None:
    def answer(code: str) -> ExecResult:
        return ExecResult(status=Status.INFRA_ERROR) if "no!" in code else echo(code)

    found = world.runner(MIXED, stand_in(answer)).run(ragged(14))
    for trajectory in found:
        lost = any(call.result.status is Status.INFRA_ERROR for call in trajectory.code_calls)
        assert lost == (trajectory.stop is StopReason.SANDBOX_FAULT) == (not trajectory.is_valid)
    assert 0 < sum(trajectory.is_valid for trajectory in found) < 14
