"""Trajectories of an earlier run in place of a runner's.

A trainer can so be debugged, profiled or compared without a sampler and a sandbox.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import override

from r1ci_jax.errors import UserError
from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource


class Replay(TrajectorySource):
    """Yields the trajectories in a directory that `serialize.write` has filled."""

    def __init__(self, directory: Path) -> None:
        """Raises UserError if there is no such directory."""
        if not directory.is_dir():
            raise UserError(
                f"{directory} holds no dumped rollouts (grpo.dump_rollouts writes them)"
            )
        self._directory = directory
        self._files = sorted(directory.glob("step_*.jsonl.gz"))
        self._unused: dict[RolloutId, Trajectory] = {}
        """Trajectories that were read and not yet requested."""

    @override
    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """Return the dumped trajectories of these requests, in their order.

        Raises:
            UserError: One was never dumped, or answered another question.
        """
        found = []
        for request in requests:
            while request.rollout_id not in self._unused and self._files:
                dumped = serialize.read(self._files.pop(0))
                self._unused |= {trajectory.rollout_id: trajectory for trajectory in dumped}
            trajectory = self._unused.pop(request.rollout_id, None)
            if trajectory is None or trajectory.example_id != request.example.id:
                raise UserError(
                    f"{self._directory} has no rollout {tuple(request.rollout_id)} of question "
                    f"{request.example.id}: it was dumped by another experiment or seed"
                )
            found.append(trajectory)
        if on_done is not None:
            on_done(len(found))
        return found

    @override
    def run_groups(
        self,
        requests: Iterable[Request],
        partial: Sequence[Episode],
        *,
        num_groups: int,
        step: int,
        max_staleness: int,
        on_done: Callable[[int], None] | None = None,
    ) -> tuple[list[Trajectory], list[Episode]]:
        """Return the trajectories dumped in this step (from 0), and all others in flight.

        Raises:
            UserError: The dump of the step holds something that is not in flight, or a group in
                part.
        """
        in_flight = [*partial, *(Episode(request=request, first_step=step) for request in requests)]
        example_ids = {
            episode.request.rollout_id: episode.request.example.id for episode in in_flight
        }
        path = serialize.step_path(self._directory, step + 1)
        trajectories = serialize.read(path)
        for trajectory in trajectories:
            if example_ids.get(trajectory.rollout_id) != trajectory.example_id:
                raise UserError(
                    f"{path} holds rollout {tuple(trajectory.rollout_id)} of question "
                    f"{trajectory.example_id}, which this training has not requested: it was "
                    "dumped by another experiment or seed"
                )
        taken = {trajectory.rollout_id for trajectory in trajectories}
        groups = {rollout_id.group_id for rollout_id in taken}
        left = [episode for episode in in_flight if episode.request.rollout_id not in taken]
        for episode in left:
            if episode.group_id in groups:
                raise UserError(
                    f"{path} holds group {episode.group_id} without rollout "
                    f"{tuple(episode.request.rollout_id)}: it was dumped with another "
                    "grpo.rollouts_per_prompt"
                )
        if on_done is not None:
            on_done(len(trajectories))
        return trajectories, left
