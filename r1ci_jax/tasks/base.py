"""The contract of a task: it generates questions and scores answers by rules."""

import abc
import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One question."""

    id: str
    """Unique across all tasks: task, difficulty, seed and index."""
    task: str
    question: str
    answer: str
    """A correct answer as JSON text; empty where only a verifier decides."""
    difficulty: int
    metadata: str = "{}"
    """What the scorer needs beside the answer, as a JSON object."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The score of an answer."""

    correct: bool
    reason: str
    """Why, in one short line; also for correct answers."""


class Task(abc.ABC):
    """One kind of question. Stateless: everything a method needs comes through its arguments."""

    name: str
    suite: str
    """symbench | bbh | reasoning_gym | toy"""
    split: str
    """train | test: whether questions of this task are ever trained on."""
    kind: str
    """execution | planning | reasoning"""
    answer_format: str
    """The accepted form of an answer, in words."""
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5)
    many_answers: bool = False
    """True where a question has right answers that differ from the stored one."""

    @abc.abstractmethod
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        """The question number `index`: the same in every process, for ever."""

    @abc.abstractmethod
    def score(self, example: Example, answer_text: str) -> Verdict:
        """Judge the text between the answer marks by rules alone; never raises, never runs it."""

    def score_all(self, pairs: Sequence[tuple[Example, str]]) -> list[Verdict]:
        """Judge many answers; a task whose answers are judged in the jail does so side by side."""
        return [self.score(example, text) for example, text in pairs]

    def count(self) -> int | None:
        """How many questions a seed gives at one difficulty; None: as many as one likes."""
        return None

    def gold(self, example: Example) -> str | None:
        """A text that scores correct, or None where the example stores no answer."""
        if not example.answer:
            return None
        answer = json.loads(example.answer)
        return answer if isinstance(answer, str) else json.dumps(answer)


def example_rng(task: str, seed: int, difficulty: int, index: int) -> random.Random:
    """Random numbers of one question. Hashing keeps neighbouring seeds and indices unrelated."""
    key = f"{task}\x1f{seed}\x1f{difficulty}\x1f{index}".encode()
    return random.Random(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))


def normalize_question(question: str) -> str:
    """The form in which questions are compared: case and white space do not make a new question."""
    return " ".join(question.casefold().split())
