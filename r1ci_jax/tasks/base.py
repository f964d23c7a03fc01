"""The contract of a task: it generates questions and scores answers by rules."""

import abc
import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import answer_forms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A question with its answer."""

    id: str
    """An id that is unique across all tasks: task, difficulty, seed and index."""
    task: str
    question: str
    answer: str
    """A correct answer as JSON text; empty where only a verifier decides. `Task.gold` returns it as
    the text that `Task.score` takes."""
    difficulty: int
    metadata: str = "{}"
    """The data that the scorer needs in addition to the answer, as a JSON object."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The score of an answer."""

    correct: bool
    reason: str
    """The reason in one short line, also for correct answers."""


class Task(abc.ABC):
    """One kind of question. It is stateless: methods use nothing but their arguments.

    A subclass defines `score` for answers without marks around them: those of `answer_forms` are
    tried where the answer as it stands is wrong.
    """

    name: str
    suite: str
    """One of symbench, bbh, reasoning_gym, toy, extra, ood, or a user's own."""
    split: str
    """`train` if questions of this task may be trained on, else `test`."""
    kind: str
    """One of execution, planning, reasoning."""
    answer_format: str
    """The accepted form of an answer, in words."""
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5)
    many_answers: bool = False
    """True where a question has right answers that differ from the stored one."""
    marks_matter: bool = False
    """True where brackets, stars or quotes are what an answer consists of, so none is removed."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the subclass's `score` accept the forms of an answer."""
        super().__init_subclass__(**options)
        if "score" in cls.__dict__:
            cls.score = _accept_forms(cls.score)  # type: ignore  # called in the same way

    @abc.abstractmethod
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        """Generate question number `index`: it is the same in every process and version.

        Raises:
            UserError: The task has no such difficulty.
        """

    def require_difficulty(self, difficulty: int) -> None:
        """Raise UserError unless `difficulty` is one of `difficulties`."""
        if difficulty not in self.difficulties:
            there = ", ".join(map(str, self.difficulties))
            raise UserError(f"{self.name} has no difficulty {difficulty!r}; it has: {there}")

    @abc.abstractmethod
    def score(self, example: Example, answer_text: str) -> Verdict:
        """Score the text between the answer marks by rules alone; never raise, never run it.

        The text is what a model writes, such as `gold(example)`. It is not `example.answer`, which
        is JSON text: there an answer in words has quotation marks.
        """

    def score_all(self, pairs: Sequence[tuple[Example, str]]) -> list[Verdict]:
        """Score many answers; a task that scores in the jail does so in parallel."""
        return [self.score(example, text) for example, text in pairs]

    def forms(self, example: Example, answer_text: str) -> list[str]:
        """Return the other forms of an answer that count; see `answer_forms`."""
        return [] if self.marks_matter else answer_forms.forms(answer_text, example.answer)

    def count(self) -> int | None:
        """Return the number of questions of a seed at one difficulty; None means no limit."""
        return None

    def gold(self, example: Example) -> str | None:
        """Return a text that `score` finds correct; None where the example stores no answer."""
        if not example.answer:
            return None
        answer = json.loads(example.answer)
        return answer if isinstance(answer, str) else json.dumps(answer)


_Score = Callable[[Any, Example, str], Verdict]


def _accept_forms(score: _Score) -> _Score:
    @functools.wraps(score)
    def accepting(self: Task, example: Example, answer_text: str) -> Verdict:
        verdict = score(self, example, answer_text)
        if verdict.correct:
            return verdict
        others = (score(self, example, form) for form in self.forms(example, answer_text))
        return next((other for other in others if other.correct), verdict)

    return accepting


def example_rng(task: str, seed: int, difficulty: int, index: int) -> random.Random:
    """Return a question's generator. Hashing makes adjacent seeds and indices independent."""
    key = f"{task}\x1f{seed}\x1f{difficulty}\x1f{index}".encode()
    return random.Random(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))


def normalize_question(question: str) -> str:
    """Normalize a question for comparison: case and white space do not make a new question."""
    return " ".join(question.casefold().split())
