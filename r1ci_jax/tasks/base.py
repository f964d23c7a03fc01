"""The contract of a task: it generates questions and scores answers by rules."""

import abc
import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A question with its answer."""

    id: str
    """An id that is unique across all tasks: task, difficulty, seed and index."""
    task: str
    question: str
    answer: str
    """A correct answer as JSON text; empty where only a verifier decides."""
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
    """One kind of question. It is stateless: methods use nothing but their arguments."""

    name: str
    suite: str
    """One of symbench, bbh, reasoning_gym, toy."""
    split: str
    """`train` if questions of this task may be trained on, else `test`."""
    kind: str
    """One of execution, planning, reasoning."""
    answer_format: str
    """The accepted form of an answer, in words."""
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5)
    many_answers: bool = False
    """True where a question has right answers that differ from the stored one."""

    @abc.abstractmethod
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        """Generate question number `index`: it is the same in every process and version."""

    @abc.abstractmethod
    def score(self, example: Example, answer_text: str) -> Verdict:
        """Score the text between the answer marks by rules alone; never raise, never run it."""

    def score_all(self, pairs: Sequence[tuple[Example, str]]) -> list[Verdict]:
        """Score many answers; a task that scores in the jail does so in parallel."""
        return [self.score(example, text) for example, text in pairs]

    def count(self) -> int | None:
        """Return the number of questions of a seed at one difficulty; None means no limit."""
        return None

    def gold(self, example: Example) -> str | None:
        """Return a text that scores correct, or None where the example stores no answer."""
        if not example.answer:
            return None
        answer = json.loads(example.answer)
        return answer if isinstance(answer, str) else json.dumps(answer)


def example_rng(task: str, seed: int, difficulty: int, index: int) -> random.Random:
    """Return a question's generator. Hashing makes adjacent seeds and indices independent."""
    key = f"{task}\x1f{seed}\x1f{difficulty}\x1f{index}".encode()
    return random.Random(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))


def normalize_question(question: str) -> str:
    """Normalize a question for comparison: case and white space do not make a new question."""
    return " ".join(question.casefold().split())
