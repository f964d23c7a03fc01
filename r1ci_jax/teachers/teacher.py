"""The contract of a scripted teacher.

A teacher reads the text of a question and nothing else, as the policy does: this package imports
nothing of `r1ci_jax.tasks`, and no method is given the answer. What a teacher says after a script
is derived from what the script printed.
"""

import abc
import dataclasses
import random
from typing import ClassVar


class UnreadableQuestionError(ValueError):
    """The question does not have the form that the teacher knows; it is skipped and counted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Words of the policy, then a script that it runs."""

    words: str
    """One to three sentences of reasoning before the code; empty where the script says it all."""
    code: str
    """A complete script that prints what is needed. It ends without a line feed."""


class Teacher[D](abc.ABC):
    """Solves the questions of one task. It is stateless; `D` is the data read from a question."""

    task: ClassVar[str]
    """Name of the task."""
    forms: ClassVar[tuple[str, ...]]
    """Names of the visibly different script forms (algorithms), at least three."""

    @abc.abstractmethod
    def parse(self, question: str) -> D:
        """Read the data from the text of the question.

        Raises:
            UnreadableQuestionError: The text has another form.
        """

    @abc.abstractmethod
    def step(self, data: D, form: str, rng: random.Random) -> Step:
        """Write the reasoning and the script of this form; `rng` varies phrases and names."""

    def answer(self, data: D, printed: str) -> str:
        """Return the answer, in the form that the question asks for, from the script's output."""
        del data
        return printed.strip()

    def check(self, data: D, answer: str, rng: random.Random) -> Step | None:
        """Write a script that tests `answer` against the question's own conditions.

        It prints `True` as its last line if the answer holds. None where solving the question again
        would be the only check.
        """
        del data, answer, rng
        return None

    def small_case(self, data: D, rng: random.Random) -> Step | None:
        """Write a script that explores a smaller case or lists intermediate values first."""
        del data, rng
        return None

    def first_attempt(self, data: D, rng: random.Random) -> Step | None:
        """Write a plausible script that is wrong for this question; the next turn repairs it."""
        del data, rng
        return None

    def in_words(self, data: D, rng: random.Random) -> tuple[str, str] | None:
        """Return the working in words and the answer, where words suffice; else None."""
        del data, rng
        return None

    def wrong_answer(self, data: D, answer: str, rng: random.Random) -> str | None:
        """Return a plausible answer that is wrong, for a guess that code corrects; else None."""
        del data, answer, rng
        return None
