"""Partial rollouts: unfinished trajectories continue in the next step, with bounded staleness.

A step that waits for its longest trajectory leaves most slots empty. With more groups in flight
than a step needs, it can end as soon as enough of them are complete; the others continue under the
next weights. Each token keeps the log-probability under the weights that sampled it, which is what
GRPO's policy ratio needs. No group is trained on later than `max_staleness` steps after the one in
which it began: a step waits for groups that would be.

Where a step ends decides which weights sample a token, so it must not depend on the time that
scripts take. A clock decides that counts: each slot decodes one token per tick, and a script stands
for a fixed number of ticks. Episodes enter the slots in their order; the step ends at the first
tick at which enough groups are complete. The real slots need not keep this order. What they sampled
past that tick is dropped, and the step goes on until all of it is known that lies before it.
"""

import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from r1ci_jax.config import SamplerConfig
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepEnd:
    """The rule by which a step ends."""

    num_groups: int
    """Groups that must be complete."""
    due: frozenset[int]
    """Groups that must be among them, because they began `max_staleness` steps ago."""

    @classmethod
    def of(
        cls, episodes: Iterable[Episode], *, num_groups: int, step: int, max_staleness: int
    ) -> "StepEnd":
        """Make the rule of a step from its episodes."""
        due = {each.group_id for each in episodes if step - each.first_step >= max_staleness}
        return cls(num_groups=num_groups, due=frozenset(due))

    def is_reached(self, episodes: Iterable[Episode]) -> bool:
        """True if enough groups are complete."""
        return self._holds(_complete_groups(episodes))

    def clocks(
        self, begun: Sequence[Episode], queue: Sequence[Episode], sampler: SamplerConfig
    ) -> dict[Episode, int] | None:
        """Return the clock of each queued episode when the step ends; None: not known yet.

        Args:
            begun: Episodes that were done before the step.
            queue: All others, in the order in which they enter the slots.
            sampler: The sampler's settings.
        """
        entries, horizon = _enter(queue, sampler)
        ends = {each: entry + each.clock for each, entry in entries.items() if each.is_done}
        end = self._first_tick([*begun, *queue], {**ends, **dict.fromkeys(begun, 0)})
        if end > horizon:
            return None
        return {each: max(0, int(end) - entries.get(each, int(end))) for each in queue}

    def _first_tick(self, episodes: Iterable[Episode], ends: Mapping[Episode, int]) -> float:
        """Return the first tick at which enough groups are complete."""
        groups: dict[int, float] = {}
        for episode in episodes:
            end = max(groups.get(episode.group_id, 0), ends.get(episode, math.inf))
            groups[episode.group_id] = end
        complete: set[int] = set()
        for group, end in sorted(groups.items(), key=lambda pair: pair[1]):
            complete.add(group)
            if self._holds(complete):
                return end
        return math.inf

    def _holds(self, complete: set[int]) -> bool:
        return len(complete) >= self.num_groups and self.due <= complete


def tool_steps(sampler: SamplerConfig) -> int:
    """Return the ticks that a tool stands for."""
    # A stop is read half a chunk later on average.
    return sampler.observation_lag * sampler.chunk_steps + sampler.chunk_steps // 2


def tokens_at(episode: Episode, clock: int, sampler: SamplerConfig) -> int:
    """Return the number of tokens that the episode has when its own clock shows this.

    An observation belongs to the turn before it.
    """
    index, now = episode.marks[0].num_tokens, 0
    for is_sampled, run in itertools.groupby(episode.sampled[index:]):
        length = len(list(run))
        if not is_sampled:
            now += tool_steps(sampler)
        elif now + length > clock:
            return index + max(0, clock - now)
        else:
            now += length
        index += length
    return index


def _enter(queue: Iterable[Episode], sampler: SamplerConfig) -> tuple[dict[Episode, int], float]:
    """Return when episodes enter a slot, and the tick up to which everything is known."""
    refill = sampler.chunk_steps + sampler.chunk_steps // 2
    free: list[float] = [0] * sampler.slots
    entries: dict[Episode, int] = {}
    horizon = math.inf
    for episode in queue:
        entry = heapq.heappop(free)
        if entry >= horizon:
            break
        entries[episode] = int(entry)
        end = entry + episode.clock
        if not episode.is_done:
            horizon = min(horizon, end)
        # A slot whose episode goes on is free some time after the horizon.
        heapq.heappush(free, end + refill if episode.is_done else math.inf)
    return entries, horizon


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
