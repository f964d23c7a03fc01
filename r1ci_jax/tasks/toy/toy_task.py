"""Base class of the toy tasks: a generated puzzle and the code that solves it."""

import abc
import dataclasses
import random

from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.procedural import ProceduralTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSolution:
    """A solution of one example that the scripted teacher can show."""

    code: str
    """Code that prints the answer, exactly as stored, and nothing else."""
    faulty_code: str
    """The same code with an error that makes Python raise."""
    check: str
    """Code that prints a result from which the answer can be confirmed."""
    wrong_answer: str
    """A plausible answer that is wrong."""


class ToyTask(ProceduralTask):
    """A task small enough for a model of a million weights: short questions, one phrasing."""

    suite = "toy"
    split = "train"
    kind = "execution"

    @abc.abstractmethod
    def reference_solution(self, example: Example, rng: random.Random) -> ReferenceSolution:
        """Solve this example by the teacher's rules."""


def misspell(code: str, rng: random.Random, *names: str) -> str:
    """Misspell one of the names in the code (two letters swapped), so that Python raises."""
    name = rng.choice(names)
    assert name in code
    spots = [i for i in range(len(name) - 1) if name[i] != name[i + 1]]
    spot = rng.choice(spots)
    slip = name[:spot] + name[spot + 1] + name[spot] + name[spot + 2 :]
    return code.replace(name, slip, 1)
