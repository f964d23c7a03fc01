"""The interface between a trainer and whatever yields its trajectories.

`runner.Runner` samples them from a policy; `replay.Replay` reads those that an earlier run wrote.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from r1ci_jax.config import SamplerConfig
from r1ci_jax.model.qwen2 import DecoderWeights
from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.trajectory import Trajectory

type MakeWeights = Callable[[SamplerConfig], DecoderWeights]
"""Returns the policy's weights in the layout of a sampler with these settings."""

type Extend = Callable[[Sequence[Trajectory]], Sequence[Request]]
"""Returns the requests of further groups, given the trajectories of one that is complete."""

type StartEarly = Callable[[int], Sequence[Request]]
"""Returns the requests of at most so many groups that will probably be asked for next."""


class TrajectorySource(Protocol):
    """Yields the trajectories of requests. The defaults are those of a source without a model."""

    waited_seconds: float = 0.0
    """Time that all slots stood still for tools, since the source was made."""
    slot_waited_seconds: float = 0.0
    """Time that a slot stood still for tools, the mean over slots."""
    num_evicted: int = 0
    """How often a trajectory gave up its cache and was computed again, since it was made."""
    num_dropped: int = 0
    """Trajectories that were started early and not asked for, since it was made."""

    def weights_loaded(
        self,
        make_weights: MakeWeights,  # made by a source that samples, and only there
    ) -> contextlib.AbstractContextManager[None]:
        """Within the context, trajectories are sampled from these weights; after it, none are held.

        A source that does not sample never calls `make_weights`.
        """
        return contextlib.nullcontext()

    def warm_up(self) -> None:
        """Compile every program that will be used, with the weights loaded."""
        return

    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """Return one trajectory per request, in the order of the requests.

        `on_done` is called with the number of finished trajectories.
        """
        ...

    def run_extended(
        self,
        requests: Iterable[Request],
        extend: Extend,
        *,
        start_early: StartEarly | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Trajectory]:
        """Return the trajectories of whole groups and of those that `extend` adds, in id order.

        `extend` is called once for each group, those that it added too. The order of the calls is
        not fixed, so what it returns in all must not depend on that. Here: in rounds.

        Where it would have nothing to do, a source may start the groups of `start_early`. Those
        that `extend` does not ask for until all others are complete are dropped.
        """
        found: list[Trajectory] = []
        requests = list(requests)
        while requests:
            answered = self.run(requests)
            found += answered
            if on_done is not None:
                on_done(len(found))
            groups = group_selection.by_group(answered)
            requests = [request for group in groups for request in extend(group)]
        return sorted(found, key=lambda each: each.rollout_id)

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
        """Return `num_groups` complete groups, and the partial rollouts for the next step.

        Requests and partial rollouts are in flight together. Groups that began `max_staleness`
        steps before `step` are waited for; see partial_rollouts.py.
        """
        ...
