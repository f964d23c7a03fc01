"""What every teacher does: make demonstrations for questions, and count what it does not keep."""

from collections.abc import Callable, Sequence
from typing import Protocol

from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.tasks.base import Example


class DemonstrationSource(Protocol):
    """A teacher: scripts per task (`scripted`), a model, or an endpoint (`external`)."""

    def teach(
        self,
        examples: Sequence[Example],
        collected: Selection,
        *,
        report: Callable[[int, int], None] | None = None,
    ) -> Made:
        """Offer demonstrations for these questions to `collected`, which keeps the good ones.

        Args:
            examples: Questions of the sft split.
            collected: Keeps what is right, new and short enough; counts the rest by reason.
            report: Called with the numbers of finished and of all pieces of work.
        """
        ...
