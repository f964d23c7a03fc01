"""Agents: the ways of answering a question. An agent decides what follows each turn of the policy.

An agent holds no state, so one object serves every trajectory; all that it may use is in the
`ModelTurn`. The four here are those of the paper's Table 2.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, override

from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text import prompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTurn:
    """One uninterrupted generation by the policy, and why it stopped."""

    code: str | None
    """The code block that was just closed, if that is why it stopped."""
    answer: str | None
    """The answer that was just closed, if that is why it stopped."""
    num_answers: int
    """Answers closed so far, this one included."""
    text: str
    """All that the policy wrote since the prompt or the last observation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunCode:
    """Run the block and show its output to the policy."""

    code: str
    is_answer: bool = False
    """True: what the block prints is the answer, and the trajectory ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UseTool:
    """Call another tool than the interpreter while other slots decode; the policy reads its text.

    An exception of the call ends all trajectories of the `run`. A tool whose text does not depend
    on the question and the code alone makes a run that cannot be replayed.
    """

    call: Callable[[], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserMessage:
    """Close the policy's message, and insert a user message that it answers."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """End the trajectory."""

    stop: StopReason
    answer: str | None


Action = RunCode | UseTool | UserMessage | Finish


class Agent(Protocol):
    """One way of answering.

    The policy reads the question with the agent's hint. Whenever it stops (it closed a code block
    or an answer, or ended its message), `act` decides what follows. CONTRIBUTING.md shows one more.
    """

    name: str
    hint: str = ""
    """Text that is appended to every question."""

    def act(self, turn: ModelTurn) -> Action:
        """Decide what follows a turn that no limit ended."""
        ...


def _finish(turn: ModelTurn) -> Finish:
    stop = StopReason.EOS if turn.answer is None else StopReason.ANSWER
    return Finish(stop=stop, answer=turn.answer)


class CodeAgent(Agent):
    """Text and code in any order, as the policy likes: the agent that is trained."""

    name = "code_agent"
    hint = prompts.HINTS["code_agent"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        return _finish(turn) if turn.code is None else RunCode(code=turn.code)


class AllText(Agent):
    """Words only: a code block ends the trajectory."""

    name = "all_text"
    hint = prompts.HINTS["all_text"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        return _finish(turn)


class AllCode(Agent):
    """One script, whose output is the answer."""

    name = "all_code"
    hint = prompts.HINTS["all_code"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        return _finish(turn) if turn.code is None else RunCode(code=turn.code, is_answer=True)


class CodeSteer(Agent):
    """A guide sends the first answer back to be checked with code; the second answer counts."""

    name = "codesteer"
    hint = prompts.HINTS["codesteer"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        if turn.code is not None:
            return RunCode(code=turn.code)
        if turn.answer is not None and turn.num_answers == 1:
            return UserMessage(text=prompts.CHECK_MESSAGE)
        return _finish(turn)


AGENTS: tuple[Agent, ...] = (AllText(), AllCode(), CodeAgent(), CodeSteer())
"""The four agents in the paper's order; prompts.AGENT_NAMES lists the same names."""


def get(name: str) -> Agent:
    """Return the agent of that name."""
    return next(agent for agent in AGENTS if agent.name == name)
