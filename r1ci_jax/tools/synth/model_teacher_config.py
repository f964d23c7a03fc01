"""Settings of a model as the teacher; they are read without JAX."""

import dataclasses
from typing import Annotated, cast

from r1ci_jax.config import SamplingParams
from r1ci_jax.data.demonstrations import AGENTS, Agent
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import Checked, Count, Entries, Positive, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTeacherConfig(Checked, section="teacher"):
    """How a model is sampled."""

    samples_per_question: Count = 8
    """Trajectories to a question at most."""
    keep_per_question: Count = 1
    """Correct, distinct trajectories that are kept of a question."""
    temperatures: Annotated[tuple[Positive, ...], Entries()] = (0.6, 0.8, 1.0, 1.2)
    """Temperature of the i-th trajectory to a question, in a cycle."""
    top_p: Annotated[float, Range(above=0, at_most=1)] = 1.0
    """Nucleus filter."""
    agents: Annotated[tuple[str, ...], Entries(order="distinct")] = ("code_agent",)
    """Ways of answering, by question in a cycle."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted({*self.agents} - {*AGENTS}):
            raise UserError(f"teacher.agents has {unknown[0]!r}; choose from {', '.join(AGENTS)}")

    def agent(self, number: int) -> Agent:
        """Return the way in which a question is answered."""
        return cast(Agent, self.agents[number % len(self.agents)])

    def sampling(self, sample: int) -> SamplingParams:
        """Return the distribution of the trajectory of this number."""
        temperature = self.temperatures[sample % len(self.temperatures)]
        return SamplingParams(temperature=temperature, top_p=self.top_p)
