"""A demonstration: one worked trajectory as text, split where the writer changes."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, Self

from r1ci_jax.text import prompts

Role = Literal["assistant", "observation", "user"]
Agent = prompts.AgentName
AGENTS = prompts.AGENT_NAMES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a trajectory by one writer. Segments are encoded one by one."""

    text: str
    role: Role
    """A `user` segment holds the bare message; chatml.user_message_ids adds the marks around it."""
    sampled: bool
    """True: the policy must learn to write it."""

    def __post_init__(self) -> None:
        assert self.role == "assistant" or not self.sampled, "only the policy's own text trains"

    @classmethod
    def learned(cls, text: str) -> Self:
        """Make a segment that the policy learns to write."""
        return cls(text=text, role="assistant", sampled=True)

    @classmethod
    def masked(cls, text: str) -> Self:
        """Make a segment with a mistake: the trajectory contains it, and the loss masks it."""
        return cls(text=text, role="assistant", sampled=False)

    @classmethod
    def observed(cls, text: str) -> Self:
        """Make a segment of interpreter output, as rendered by protocol.observation."""
        return cls(text=text, role="observation", sampled=False)

    @classmethod
    def from_user(cls, text: str) -> Self:
        """Make a later user turn."""
        return cls(text=text, role="user", sampled=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One trajectory for supervised fine-tuning."""

    example_id: str
    task: str
    agent: Agent
    kind: str
    """One of code, repair, check, direct, wrong; steered_wrong, steered_right (by the first
    answer); of scripted teachers also those in docs/demonstrations.md."""
    prompt: str
    """The first user turn."""
    segments: tuple[Segment, ...]
    correct: bool


def guidance_turn(message: str) -> str:
    """Return what a guide writes that sends an answer back with this message."""
    return f"<<<{message}>>>"


def send_back(
    message: str, instructions: Mapping[str, str], *, guidance: str = ""
) -> list[Segment]:
    """Make the segments that send an answer back, as the policy of these instructions reads them.

    Where the instructions have a guide, its turn stands before the message: `guidance`, or else the
    message between marks. It does not train.
    """
    guide = instructions.get(prompts.GUIDE)
    if guide is None:
        return [Segment.from_user(message)]
    return [
        Segment.from_user(guide),
        Segment.masked(guidance or guidance_turn(message)),
        Segment.from_user(message),
    ]
