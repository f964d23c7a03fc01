"""Scripts that are late: nobody waits for another's, and no bit of any trajectory depends on it."""

import concurrent.futures
import dataclasses
import json
import random
import threading
import time

import pytest

from r1ci_jax.config import SamplerConfig
from r1ci_jax.rollout import partial_rollouts, serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.partial_rollouts import StepEnd, tokens_at
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sandbox import ExecResult
from tests.load import PATIENCE
from tests.rollout.scripts import CODE_THEN_ANSWER, MIXED, echo, ragged, request

type Result = concurrent.futures.Future[ExecResult]


class Held:
    """Answers as the interpreter would; the script of this number only when it is released."""

    def __init__(self, number: int = 0) -> None:
        self.number, self.submitted = number, 0
        self.is_stalled = False
        self._held: Result = concurrent.futures.Future()
        self._result = ExecResult(status="ok")  # type: ignore[arg-type]  # replaced by `submit`
        self._timer = threading.Timer(PATIENCE, self._give_up)

    def submit(self, code: str) -> Result:
        self.submitted += 1
        if self.submitted == self.number + 1:
            self._result = echo(code)
            self._timer.start()
            return self._held
        future: Result = concurrent.futures.Future()
        future.set_result(echo(code))
        return future

    def release(self) -> None:
        self._timer.cancel()
        if not self._held.done():
            self._held.set_result(self._result)

    @property
    def is_released(self) -> bool:
        return self._held.done() and not self.is_stalled

    def _give_up(self) -> None:
        self.is_stalled = True
        self.release()


class Dawdler:
    """Answers as the interpreter would, after a random time for every script."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def submit(self, code: str) -> Result:
        future: Result = concurrent.futures.Future()
        future.set_running_or_notify_cancel()  # as a script that runs: it cannot be cancelled
        seconds = self._random.choice((0.0, 0.001, 0.01, 0.05))
        threading.Timer(seconds, lambda: future.set_result(echo(code))).start()
        return future


# --- All trajectories of a batch ---


def test_one_late_script_holds_up_no_other_trajectory(world, stand_in) -> None:
    requests = [request(number) for number in range(64)]
    expected = world.runner(MIXED, stand_in(echo), slots=8).run(requests)
    box, done = Held(), list[int]()

    def release_last(num_done: int) -> None:
        done.append(num_done)
        if num_done == 63:
            box.release()

    assert world.runner(MIXED, box, slots=8).run(requests, on_done=release_last) == expected
    assert box.is_released and 63 in done and done[-1] == 64


def test_a_slow_interpreter_changes_not_one_bit(world, stand_in) -> None:
    expected = world.runner(MIXED, stand_in(echo)).run(ragged(14))
    assert sum(len(trajectory.code_calls) for trajectory in expected) > 8
    for seed in range(3):
        assert world.runner(MIXED, Dawdler(seed)).run(ragged(14)) == expected


@pytest.mark.parametrize("slots", [3, 8])
def test_not_one_bit_depends_on_the_slot_or_the_neighbors(world, stand_in, slots: int) -> None:
    """The law that lets scripts decide the order: log-probabilities are compared exactly."""
    requests = ragged(24)
    runner = world.runner(MIXED, stand_in(echo), slots=slots)
    expected = {each.rollout_id: each for each in runner.run(requests)}
    for seed in range(3):
        for each in runner.run(random.Random(seed).sample(requests, len(requests))):
            assert each == expected[each.rollout_id]


def test_a_runner_that_only_waits_decodes_nothing(world) -> None:
    futures: list[Result] = []
    all_wait = threading.Event()

    class Gate:
        def submit(self, code: str) -> Result:
            futures.append(concurrent.futures.Future())
            if len(futures) == 4:
                all_wait.set()
            return futures[-1]

    runner: Runner = world.runner(CODE_THEN_ANSWER, Gate())
    dispatched: list[int] = []
    dispatch = runner.engine.dispatch
    runner.engine.dispatch = lambda: (dispatched.append(1), dispatch())[1]
    runner.warm_up()

    def release() -> None:
        all_wait.wait()
        before, quiet = len(dispatched), -1
        while quiet < len(dispatched):  # until nothing was decoded for 0.3 s
            quiet = len(dispatched)
            time.sleep(0.3)
        counts.append(len(dispatched) - before)
        for future in futures:
            future.set_result(echo("'ok!\n'"))

    counts: list[int] = []
    thread = threading.Thread(target=release)
    thread.start()
    found = runner.run([request(number) for number in range(4)])
    thread.join()
    assert len(found) == 4 and counts[0] <= 2
    assert runner.waited_seconds > 0.2 and runner.slot_waited_seconds > 0.2


def test_batches_are_yielded_whole_and_the_slots_never_run_empty(world, stand_in) -> None:
    requests = ragged(24)
    expected = world.runner(MIXED, stand_in(echo)).run(requests)
    box = Held()
    runner, started = world.runner(MIXED, box), list[int]()

    def batches():
        for first in range(0, 24, 8):
            started.append(first)
            if first == 16:  # asked for only because the first batch is not waited for
                box.release()
            yield requests[first : first + 8]

    found = runner.run_batches(batches())
    first = next(found)
    assert first == expected[:8] and started == [0, 8, 16] and box.is_released
    assert [*first, *(each for batch in found for each in batch)] == expected
    assert list(runner.run_batches([])) == []


# --- Steps that end with some trajectories unfinished ---

MEMBERS = 3


def step_requests(step: int) -> list[Request]:
    return [request(step * 4 + number, member) for number in range(4) for member in range(MEMBERS)]


def steps(runner: Runner, box: Held | None = None) -> list[tuple[list[Trajectory], str]]:
    """Four steps: the trajectories of each, and all of the others as JSON."""
    made: list[tuple[list[Trajectory], str]] = []
    partial: list[Episode] = []
    for step in range(4):
        new = [*step_requests(0), *step_requests(1)] if step == 0 else step_requests(step + 1)
        asked = sum(not episode.is_done for episode in partial) + len(new)

        def release_last(num_done: int, asked: int = asked) -> None:
            if box is not None and num_done == asked - 1 and box.submitted > box.number:
                box.release()

        found, partial = runner.run_groups(
            new, partial, num_groups=4, step=step, max_staleness=2, on_done=release_last
        )
        saved = [{**serialize.episode_to_json(each), "seconds": 0} for each in partial]
        made.append((found, json.dumps(saved)))
    return made


def test_where_a_step_ends_depends_on_no_script(world, stand_in) -> None:
    expected = steps(world.runner(MIXED, stand_in(echo)))
    assert any(each.num_stale_tokens for found, _ in expected for each in found)
    for seed in range(3):
        assert steps(world.runner(MIXED, Dawdler(seed))) == expected
    for number in (0, 5):
        box = Held(number)
        assert steps(world.runner(MIXED, box), box) == expected
        assert box.is_released


SAMPLER = SamplerConfig(slots=2, chunk_steps=4, observation_lag=1)
"""A tool stands for 1 x 4 + 2 = 6 ticks, and a free slot is filled after 6."""


def episode(group: int, clock: int, *, is_done: bool = True) -> Episode:
    made = Episode(request=request(group))
    made.clock, made.is_done = clock, is_done
    return made


def rule(num_groups: int, *due: int) -> StepEnd:
    return StepEnd(num_groups=num_groups, due=frozenset(due))


def test_the_end_of_a_step_by_hand() -> None:
    # Slot 0: a until 10, c from 16 to 20. Slot 1: b until 30, d would enter at 26.
    a, b, c, d = episode(0, 10), episode(1, 30), episode(2, 4), episode(3, 100, is_done=False)
    queue = [a, b, c, d]
    assert rule(1).clocks([], queue, SAMPLER) == {a: 10, b: 10, c: 0, d: 0}
    assert rule(2).clocks([], queue, SAMPLER) == {a: 20, b: 20, c: 4, d: 0}
    assert rule(2, 1).clocks([], queue, SAMPLER) == {a: 30, b: 30, c: 14, d: 4}
    assert rule(1).clocks([episode(7, 0)], queue, SAMPLER) == {a: 0, b: 0, c: 0, d: 0}


def test_a_step_does_not_end_before_all_is_known_that_lies_before_its_end() -> None:
    a, b, c = episode(0, 10), episode(1, 9, is_done=False), episode(2, 4)
    assert rule(1).clocks([], [a, b, c], SAMPLER) is None  # b may end at 10 as well, or at 9
    b.clock = 10
    assert rule(1).clocks([], [a, b, c], SAMPLER) == {a: 10, b: 10, c: 0}
    # c ended long ago; it entered when a's slot was free, at 16, unless b's was free earlier.
    assert rule(2).clocks([], [a, b, c], SAMPLER) is None
    b.clock = 20
    assert rule(2).clocks([], [a, b, c], SAMPLER) == {a: 20, b: 20, c: 4}


def test_the_tokens_of_a_clock_by_hand() -> None:
    made = Episode(request=request())
    made.append_context([1, 2])
    made.start_step()
    made.append_completion([3, 4, 5], [0.0] * 3)
    made.append_context([6, 7])
    made.append_completion([8], [0.0])
    # The observation comes with the token that closes the turn; the next token 6 ticks later.
    expected = {0: 2, 1: 3, 2: 4, 3: 7, 8: 7, 9: 7, 10: 8, 50: 8}
    assert {clock: tokens_at(made, clock, SAMPLER) for clock in expected} == expected


def test_a_rewound_episode_is_as_it_was(world, stand_in) -> None:
    kept = {}
    runner: Runner = world.runner(MIXED, stand_in(echo))
    found = runner.new_episode(request(3))
    state = [field.name for field in dataclasses.fields(Episode)]
    assert partial_rollouts.tool_steps(SAMPLER) == 6

    def snapshot() -> dict:
        copied = {name: getattr(found, name) for name in state if name != "marks"}
        return {name: list(v) if isinstance(v, list) else v for name, v in copied.items()}

    found.start_step()
    for turn in range(3):
        found.append_completion([5, 6], [-1.0, -2.0])
        kept[len(found.tokens)] = snapshot()
        found.messages.append("more")
        found.num_tool_calls += turn != 1
        found.num_answers += turn % 2
        found.append_context([9])
        kept[len(found.tokens)] = snapshot()
    for size in sorted(kept, reverse=True):
        found.is_done = True
        found.rewind(size)
        assert snapshot() == kept[size]
