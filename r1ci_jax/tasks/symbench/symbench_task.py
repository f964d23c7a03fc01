"""Base class of the procedural tasks of SymBench, and of those whose items were released."""

import abc
import dataclasses
import json
from typing import Any, ClassVar

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import ProceduralTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedItem:
    """An item of the released data, in the form that our scorer reads."""

    example: Example
    """The `metadata` that our generator would have written for this question."""
    gold: str | None
    """The released answer as a text between answer marks; None where the item stores none."""


class SymbenchTask(ProceduralTask):
    """A task that is generated after the rules of released items."""

    suite = "symbench"
    split = "train"  # The fixed split is in tasks/train_test_split.py.
    released_name: ClassVar[str] = ""
    """The name of the released items where it is not the task's own."""
    released_files: ClassVar[str] = ""
    """The pattern of the files with one item each in the release's own layout, if it has such."""

    @abc.abstractmethod
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        """Parse item `number` of the released data.

        Args:
            number: The number of the item's folder or line.
            question: The content of question.txt.
            solution: The parsed solution.json (or the task's own file).

        Raises:
            UserError: The item does not have the form of this task's items.
        """

    def explain_gold(self, item: ReleasedItem) -> str | None:
        """Return why a released answer that our rules find wrong is wrong; None if unknown.

        The reason is checked on this item, by other means than the scorer's.
        """
        del item
        return None

    def solve(self, example: Example) -> str | None:
        """Search for an answer to an item whose release stores none.

        None: the search found none, or the task has no search that goes without an answer.
        """
        del example
        return None

    def item(
        self, number: int, question: str, metadata: dict[str, Any], gold: str | None
    ) -> ReleasedItem:
        """Assemble a released item."""
        return ReleasedItem(
            example=Example(
                id=f"{self.name}/released/{number}",
                task=self.name,
                question=question,
                answer="" if gold is None else json.dumps(gold),
                difficulty=1,
                metadata=json.dumps(metadata, sort_keys=True),
            ),
            gold=gold,
        )

    def malformed(self, number: int, why: str) -> UserError:
        """Return the error for an item that cannot be read."""
        return UserError(f"released item {number} of {self.name}: {why}; is the folder complete?")


def read_field(solution: Any, key: str = "solution") -> Any:
    """Return the value of a released solution under a key; None where it has no such key."""
    return solution.get(key) if isinstance(solution, dict) else None


def wrong_verdict(reason: str) -> Verdict:
    """Make the verdict of a wrong answer."""
    return Verdict(correct=False, reason=reason)


def right_verdict(reason: str) -> Verdict:
    """Make the verdict of a right answer."""
    return Verdict(correct=True, reason=reason)
