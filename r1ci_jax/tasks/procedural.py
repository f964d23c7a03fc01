"""Base class of tasks with their own generator: a puzzle becomes an example."""

import abc
import dataclasses
import json
import random
from typing import Any, override

from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A generated question."""

    question: str
    answer: Any
    """A right answer of JSON types; None where only the scorer decides and no answer is known."""
    metadata: dict[str, Any]
    """The data that the scorer needs, of JSON types."""


class ProceduralTask(base.Task):
    """A task whose questions are generated from a seed."""

    @abc.abstractmethod
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        """Make one puzzle."""

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        self.require_difficulty(difficulty)
        puzzle = self.make_puzzle(base.example_rng(self.name, seed, difficulty, index), difficulty)
        return Example(
            id=f"{self.name}/d{difficulty}/s{seed}/{index}",
            task=self.name,
            question=puzzle.question,
            answer="" if puzzle.answer is None else json.dumps(puzzle.answer),
            difficulty=difficulty,
            metadata=json.dumps(puzzle.metadata, sort_keys=True),
        )
