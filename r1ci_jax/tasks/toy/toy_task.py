"""What the toy tasks share: a drawn puzzle and its code, which a scripted teacher can show."""

import abc
import dataclasses
import json
import random
from typing import Any, override

from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Puzzle:
    """One drawn question."""

    question: str
    answer: int | str
    """Exactly what `Worked.code` prints, without the line end."""
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSolution:
    """How a teacher solves one example."""

    code: str
    """Prints the answer and nothing else."""
    faulty_code: str
    """The same with a slip that makes Python raise."""
    check: str
    """Prints something from which the answer can be confirmed."""
    wrong_answer: str
    """A plausible answer that is wrong."""


class ToyTask(base.Task):
    """A task small enough for a model of a million weights: short questions, one phrasing."""

    suite = "toy"
    split = "train"
    kind = "execution"

    @abc.abstractmethod
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        """Make one puzzle."""

    @abc.abstractmethod
    def reference_solution(self, example: Example, rng: random.Random) -> ReferenceSolution:
        """The teacher's rules for this example."""

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        assert difficulty in self.difficulties, f"{self.name} has no difficulty {difficulty}"
        puzzle = self.make_puzzle(base.example_rng(self.name, seed, difficulty, index), difficulty)
        return Example(
            id=f"{self.name}/d{difficulty}/s{seed}/{index}",
            task=self.name,
            question=puzzle.question,
            answer=json.dumps(puzzle.answer),
            difficulty=difficulty,
            metadata=json.dumps(puzzle.metadata, sort_keys=True),
        )


def misspell(code: str, rng: random.Random, *names: str) -> str:
    """The code with one of the names misspelt (two letters swapped), so that Python raises."""
    name = rng.choice(names)
    assert name in code
    spots = [i for i in range(len(name) - 1) if name[i] != name[i + 1]]
    spot = rng.choice(spots)
    slip = name[:spot] + name[spot + 1] + name[spot] + name[spot + 2 :]
    return code.replace(name, slip, 1)
