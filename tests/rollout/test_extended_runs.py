"""Runs that grow while they are sampled: the same trajectories as round by round, and no waits."""

import itertools
from collections.abc import Callable

import pytest

from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.refill import Refill
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.sampling.engine import Engine
from tests.rollout.scripts import CODE_THEN_ANSWER, EXAMPLE, MIXED, echo, request
from tests.rollout.test_summaries import trajectory

MEMBERS, GROUPS, ROUNDS = 2, 7, 3

type Run = Callable[[Runner, Refill], list[Trajectory]]


def group(number: int) -> list[Request]:
    return [request(number, index) for index in range(MEMBERS)]


def new_refill(num_groups: int = GROUPS) -> Refill:
    """Asks a further group for each that is all right or all wrong, as a trainer does."""
    return Refill(
        itertools.repeat(EXAMPLE),
        lambda number, _: group(number),
        lambda found: len({each.correct for each in found}) == 2,
        first_id=0,
        num_groups=num_groups,
        rounds=ROUNDS,
    )


def answered(number: int, *, correct: tuple[bool, ...]) -> list[Trajectory]:
    return [
        trajectory(rollout_id=RolloutId(number, index), correct=each)
        for index, each in enumerate(correct)
    ]


def in_rounds(runner: Runner, refill: Refill) -> list[Trajectory]:
    """The rounds of a source that has nothing better."""
    return TrajectorySource.run_extended(runner, refill.first(), refill.extend)


def streamed(runner: Runner, refill: Refill) -> list[Trajectory]:
    """One stream, without guesses."""
    return runner.run_extended(refill.first(), refill.extend)


def started_early(runner: Runner, refill: Refill) -> list[Trajectory]:
    """One stream, in which free slots begin what will probably be asked for."""
    return runner.run_extended(refill.first(), refill.extend, start_early=refill.start_early)


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("run", [streamed, started_early])
def test_a_stream_equals_rounds_whatever_the_order(world, stand_in, run: Run, slots: int) -> None:
    runner = world.runner(MIXED, stand_in(echo), slots=slots)
    stream, rounds = new_refill(), new_refill()
    found = run(runner, stream)
    assert found == in_rounds(runner, rounds)
    assert stream.num_asked == rounds.num_asked > GROUPS
    assert [each.rollout_id for each in found] == [
        (number, index) for number in range(stream.num_asked) for index in range(MEMBERS)
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
    for run in (streamed, in_rounds):
        counts[0] = 0
        # All are right: every group is asked in place of another one, in every round.
        assert len(run(runner, new_refill())) == MEMBERS * GROUPS * (1 + ROUNDS)
        chunks.append(counts[0])
    assert chunks[0] < chunks[1]


def test_free_slots_begin_what_will_be_asked_for(
    world, stand_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch, counts = Engine.dispatch, [0]

    def counted(engine: Engine) -> None:
        counts[0] += 1
        dispatch(engine)

    # Answers of different lengths: slots are free before the last group of a round is complete.
    runner = world.runner(MIXED, stand_in(echo), slots=16)
    monkeypatch.setattr(Engine, "dispatch", counted)
    chunks = []
    for run in (started_early, streamed):
        counts[0] = 0
        run(runner, new_refill(12))
        chunks.append(counts[0])
    assert chunks[0] < chunks[1]


def test_what_is_not_asked_for_is_dropped_and_counted(world, printing) -> None:
    """Nobody's signal is missing, and two free slots begin a group all the same."""
    runner = world.runner(CODE_THEN_ANSWER, printing("ok!\n"), slots=MEMBERS * GROUPS)
    wanted = [each for number in range(GROUPS - 1) for each in group(number)]
    begun: list[int] = []

    def start_early(num_slots: int) -> list[Request]:
        begun.append(num_slots)
        return group(GROUPS) if len(begun) == 1 else []

    found = runner.run_extended(wanted, lambda _: [], start_early=start_early)
    assert found == runner.run(wanted)
    assert begun[0] == MEMBERS and runner.num_dropped == MEMBERS
    # The engine serves others as if it had never begun them.
    assert runner.run(group(GROUPS)) == runner.run(group(GROUPS))


def test_groups_are_started_early_at_the_rate_of_those_that_are_known() -> None:
    refill = new_refill()
    refill.first()
    assert refill.start_early(100) == []  # nothing is known yet
    assert len(refill.extend(answered(0, correct=(True, True)))) == MEMBERS  # asked for at once
    # One of one known is without signal, so in all rounds all of them may be: 4 x 7 groups.
    assert len(refill.start_early(3 * MEMBERS + 1)) == 3 * MEMBERS
    for number in range(1, 5):
        assert refill.extend(answered(number, correct=(True, False))) == []
    # 8 asked, 11 begun. Of 5 known a fifth is without: 1 + 0.2 x 2 of 7, 1 + 0.2 x 3 of 8.
    assert refill.num_asked == GROUPS + 1
    assert refill.start_early(100) == []
    assert [each.rollout_id for each in refill.extend(answered(5, correct=(False, False)))] == [
        (8, 0),
        (8, 1),
    ]


def test_nothing_asked_gives_nothing(world, printing) -> None:
    runner = world.runner(CODE_THEN_ANSWER, printing("ok!\n"))
    assert runner.run_extended([], new_refill().extend) == []


def test_a_run_that_is_not_extended_is_a_run(world, stand_in) -> None:
    runner = world.runner(MIXED, stand_in(echo))
    requests = [each for number in range(5) for each in group(number)]
    done: list[int] = []
    found = runner.run_extended(requests, lambda _: [], on_done=done.append)
    assert found == runner.run(requests)
    assert done == sorted(done) and done[-1] == len(requests)
