"""Runs that grow while they are sampled: the same trajectories as round by round, and no waits."""

from collections.abc import Sequence

import pytest

from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.sampling.engine import Engine
from tests.rollout.scripts import CODE_THEN_ANSWER, MIXED, echo, request

MEMBERS, GROUPS, ROUNDS = 2, 7, 3


def group(number: int) -> list[Request]:
    return [request(number, index) for index in range(MEMBERS)]


class Refill:
    """Asks a further group for each that is all right or all wrong, as a trainer does."""

    def __init__(self) -> None:
        self.asked = GROUPS
        self.signal: dict[int, bool] = {}

    def first(self) -> list[Request]:
        return [each for number in range(GROUPS) for each in group(number)]

    def __call__(self, found: Sequence[Trajectory]) -> list[Request]:
        (number,) = {each.rollout_id.group_id for each in found}
        assert len(found) == MEMBERS and number not in self.signal, "a group is asked about once"
        self.signal[number] = len({each.correct for each in found}) == 2
        begin = self.asked
        self.asked = group_selection.groups_to_ask(self.signal, GROUPS, ROUNDS)[-1]
        return [each for number in range(begin, self.asked) for each in group(number)]


def in_rounds(runner: Runner, refill: Refill) -> list[Trajectory]:
    """The rounds of a source that has nothing better."""
    return TrajectorySource.run_extended(runner, refill.first(), refill)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_stream_equals_rounds_whatever_the_order(world, stand_in, slots: int) -> None:
    runner = world.runner(MIXED, stand_in(echo), slots=slots)
    streamed, rounds = Refill(), Refill()
    found = runner.run_extended(streamed.first(), streamed)
    assert found == in_rounds(runner, rounds)
    assert streamed.asked == rounds.asked > GROUPS
    assert [each.rollout_id for each in found] == [
        (number, index) for number in range(streamed.asked) for index in range(MEMBERS)
    ]


def test_slots_do_not_wait_for_the_end_of_a_round(
    world, printing, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch, counts = Engine.dispatch, [0]

    def counted(engine: Engine) -> None:
        counts[0] += 1
        dispatch(engine)

    # All trajectories are equally long, so that the last ones of a round fill half of the 4 slots.
    runner = world.runner(CODE_THEN_ANSWER, printing("ok!\n"))
    monkeypatch.setattr(Engine, "dispatch", counted)
    chunks = []
    for run in (lambda refill: runner.run_extended(refill.first(), refill),
                lambda refill: in_rounds(runner, refill)):  # fmt: skip
        counts[0] = 0
        refill = Refill()
        # All are right: every group is asked in place of another one, in every round.
        assert len(run(refill)) == MEMBERS * GROUPS * (1 + ROUNDS)
        chunks.append(counts[0])
    assert chunks[0] < chunks[1]


def test_nothing_asked_gives_nothing(world, printing) -> None:
    runner = world.runner(CODE_THEN_ANSWER, printing("ok!\n"))
    assert runner.run_extended([], Refill()) == []


def test_a_run_that_is_not_extended_is_a_run(world, stand_in) -> None:
    runner = world.runner(MIXED, stand_in(echo))
    requests = [each for number in range(5) for each in group(number)]
    done: list[int] = []
    found = runner.run_extended(requests, lambda _: [], on_done=done.append)
    assert found == runner.run(requests)
    assert done == sorted(done) and done[-1] == len(requests)
