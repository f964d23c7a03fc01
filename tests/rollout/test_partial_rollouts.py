"""Partial rollouts == uninterrupted ones, exact through JSON, never older than the bound."""

import json
import pathlib

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.replay import Replay
from r1ci_jax.rollout.trajectory import Trajectory
from tests.rollout.scripts import CODE_AGENT, MIXED, echo, ragged, request

MEMBERS = 3


def step_requests(step: int, groups: int = 4) -> list[Request]:
    return [
        request(step * 4 + number, member) for number in range(groups) for member in range(MEMBERS)
    ]


def restored(episodes: list[Episode]) -> list[Episode]:
    """Through the checkpoint and back."""
    saved = json.dumps([serialize.episode_to_json(episode) for episode in episodes])
    return [serialize.episode_from_json(each, CODE_AGENT) for each in json.loads(saved)]


def key(trajectory: Trajectory) -> tuple:
    return trajectory.tokens, trajectory.sampled, trajectory.stop, trajectory.answer


@pytest.mark.parametrize("resumes", [False, True])
def test_under_the_same_weights_partial_rollouts_equal_uninterrupted_ones(
    world, stand_in, resumes: bool
) -> None:
    requests = [r for step in range(4) for r in step_requests(step)]
    expected = {t.rollout_id: t for t in world.runner(MIXED, stand_in(echo)).run(requests)}
    runner = world.runner(MIXED, stand_in(echo))
    partial: list[Episode] = []
    trained: list[Trajectory] = []
    stopped_midway = 0
    for step in range(4):
        new = requests[:24] if step == 0 else step_requests(step + 1) if step < 3 else []
        found, partial = runner.run_groups(
            new, partial, num_groups=4, step=step, max_staleness=2 if step < 3 else 0
        )
        stopped_midway += sum(
            episode.trajectory is None and any(episode.sampled) for episode in partial
        )
        trained += found
        if resumes:
            partial = restored(partial)
            runner = world.runner(MIXED, stand_in(echo))
    assert partial == [] and stopped_midway > 0
    assert {t.rollout_id for t in trained} == {r.rollout_id for r in requests}
    for trajectory in trained:
        assert key(trajectory) == key(expected[trajectory.rollout_id])
        assert trajectory.logprobs == pytest.approx(
            expected[trajectory.rollout_id].logprobs, abs=1e-4
        )


def test_groups_are_whole_in_order_and_never_too_old(world, stand_in) -> None:
    runner = world.runner(MIXED, stand_in(echo))
    partial: list[Episode] = []
    first_step: dict[int, int] = {}
    for step in range(6):
        new = step_requests(step) if step else [*step_requests(0), *step_requests(50)]
        first_step |= {r.rollout_id.group_id: step for r in new}
        found, partial = runner.run_groups(new, partial, num_groups=4, step=step, max_staleness=1)
        assert [t.rollout_id for t in found] == sorted(t.rollout_id for t in found)
        groups = [t.rollout_id.group_id for t in found]
        assert len(found) == 4 * MEMBERS and len(set(groups)) == 4
        for episode in partial:
            assert episode.first_step == first_step[episode.group_id]
            assert episode.trajectory is not None or step - episode.first_step < 1


def test_a_dump_keeps_every_bit(world, stand_in, tmp_path: pathlib.Path) -> None:
    found = world.runner(MIXED, stand_in(echo)).run(ragged(12))
    path = serialize.step_path(tmp_path / "dump", 3)
    serialize.write(path, found)
    assert serialize.read(path) == found
    before = path.read_bytes()
    serialize.write(path, found)
    assert path.read_bytes() == before


def test_a_replay_gives_what_was_dumped_and_refuses_the_rest(
    world, stand_in, tmp_path: pathlib.Path
) -> None:
    runner = world.runner(MIXED, stand_in(echo))
    steps = [runner.run(step_requests(step)) for step in range(3)]
    for step, found in enumerate(steps):
        serialize.write(serialize.step_path(tmp_path, step + 1), found)
    replay = Replay(tmp_path)
    assert [replay.run(step_requests(step)) for step in range(3)] == steps
    with pytest.raises(UserError, match="another experiment or seed"):
        replay.run(step_requests(7))
    with pytest.raises(UserError, match="no dumped rollouts"):
        Replay(tmp_path / "missing")
    broken = serialize.step_path(tmp_path, 1)
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(UserError, match="no dump of rollouts"):
        serialize.read(broken)
