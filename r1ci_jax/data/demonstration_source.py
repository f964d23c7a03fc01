"""What every teacher does: make demonstrations for questions, and count what it does not keep."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts

Report = Callable[[int, int], None]
"""A function called with the numbers of finished and of all pieces of work."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemonstrationSource(abc.ABC):
    """A teacher: scripts per task (`scripted`), a model, or an endpoint (`external`)."""

    instructions: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: prompts.NO_INSTRUCTIONS
    )
    """Instructions of the policy that is to learn, by agent; a teacher may have its own."""

    @abc.abstractmethod
    def teach(
        self, examples: Sequence[Example], collected: Selection, *, report: Report | None = None
    ) -> Made:
        """Offer demonstrations for these questions to `collected`, which keeps the good ones.

        Args:
            examples: Questions of the sft split.
            collected: Keeps what is right, new and short enough; counts the rest by reason.
            report: Called with the progress.
        """
