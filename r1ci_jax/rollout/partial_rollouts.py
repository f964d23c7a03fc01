"""Partial rollouts: unfinished trajectories continue in the next step, with bounded staleness.

A step that waits for its longest trajectory leaves most slots empty. With more groups in flight
than a step needs, it can end as soon as enough of them are complete; the others continue under the
next weights. Each token keeps the log-probability under the weights that sampled it, which is what
GRPO's policy ratio needs. No group is trained on later than `max_staleness` steps after the one in
which it began: a step waits for groups that would be.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.trajectory import Trajectory


def mark_stale(episodes: Iterable[Episode]) -> None:
    """Record that all tokens so far were sampled under older weights than the next ones."""
    for episode in episodes:
        episode.num_stale_tokens = len(episode.tokens)
        if episode.trajectory is not None:
            episode.trajectory = dataclasses.replace(
                episode.trajectory, num_stale_tokens=len(episode.trajectory.tokens)
            )


def has_enough_groups(
    episodes: Sequence[Episode], *, num_groups: int, step: int, max_staleness: int
) -> bool:
    """True if `num_groups` groups are complete, and all that began max_staleness steps ago."""
    complete = _complete_groups(episodes)
    due = {episode.group_id for episode in episodes if step - episode.first_step >= max_staleness}
    return len(complete) >= num_groups and due <= complete


def split(
    episodes: Sequence[Episode], *, num_groups: int
) -> tuple[list[Trajectory], list[Episode]]:
    """Split off the `num_groups` oldest complete groups, in the order of the rollout ids.

    Returns their trajectories, and all other episodes: the partial rollouts of the next step.
    """
    taken = set(sorted(_complete_groups(episodes))[:num_groups])
    ordered = sorted(episodes, key=lambda episode: episode.request.rollout_id)
    trajectories = [
        episode.trajectory
        for episode in ordered
        if episode.group_id in taken and episode.trajectory is not None
    ]
    return trajectories, [episode for episode in ordered if episode.group_id not in taken]


def _complete_groups(episodes: Iterable[Episode]) -> set[int]:
    open_groups = {episode.group_id for episode in episodes if not episode.is_done}
    return {episode.group_id for episode in episodes} - open_groups
