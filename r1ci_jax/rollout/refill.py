"""The groups of one step whose groups without signal are replaced (`grpo.signal.refill_rounds`).

Which groups a step has is a function of their trajectories (`group_selection.groups_to_ask`). But
the last of them are known late: each waits for the end of the group that it replaces. Slots that
are free meanwhile start the groups that will probably be asked for. Those that are not asked for in
the end are dropped, with no effect on the step or on the position in the data.
"""

from collections.abc import Callable, Iterator, Sequence

from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks.base import Example

type MakeGroup = Callable[[int, Example], Sequence[Request]]
"""Returns the requests of a group, given its id and its question."""


class Refill:
    """Asks for the groups of one step; `TrajectorySource.run_extended` takes its two methods."""

    def __init__(
        self,
        questions: Iterator[Example],
        make_group: MakeGroup,
        has_signal: Callable[[Sequence[Trajectory]], bool],
        *,
        first_id: int,
        num_groups: int,
        rounds: int,
    ) -> None:
        """`questions` are those of the groups, whose ids count from `first_id`."""
        self.num_asked = num_groups
        """Number of the step's groups, as far as it is known."""
        self._questions = questions
        self._make_group = make_group
        self._has_signal = has_signal
        self._first_id, self._num_groups, self._rounds = first_id, num_groups, rounds
        self._signal: dict[int, bool] = {}
        """Of the groups that are complete, by their place in the step."""
        self._groups: list[Sequence[Request]] = []
        """The requests of every group that was started, in order."""

    def first(self) -> list[Request]:
        """Return the requests of round 0."""
        return self._requests(0, self.num_asked)

    def extend(self, group: Sequence[Trajectory]) -> list[Request]:
        """Return the requests of the groups that one more complete group adds to the step."""
        self._signal[group[0].rollout_id.group_id - self._first_id] = self._has_signal(group)
        begin, self.num_asked = self.num_asked, self._count(0.0)
        return self._requests(begin, self.num_asked)

    def start_early(self, num_slots: int) -> list[Request]:
        """Return the requests of groups that will probably be asked for, if they fit the slots.

        Groups that are not complete are expected to be without signal at the rate of those that
        are.
        """
        rate = 1 - sum(self._signal.values()) / len(self._signal) if self._signal else 0.0
        begin, size = len(self._groups), len(self._groups[0])
        return self._requests(begin, min(self._count(rate), begin + num_slots // size))

    def _count(self, rate: float) -> int:
        return group_selection.groups_to_ask(
            self._signal, self._num_groups, self._rounds, unknown=rate
        )[-1]

    def _requests(self, begin: int, end: int) -> list[Request]:
        while len(self._groups) < end:
            group_id = self._first_id + len(self._groups)
            self._groups.append(self._make_group(group_id, next(self._questions)))
        return [request for group in self._groups[begin:end] for request in group]
