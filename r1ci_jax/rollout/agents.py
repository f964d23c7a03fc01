"""Ways of answering a question: what happens when the policy pauses.

An agent sees one pause and says what follows. It holds no state, so one object serves every
trajectory; all it may use is in the `Pause`. The four are those of the paper's Table 2.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, override

from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text import prompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTurn:
    """The policy stopped sampling."""

    code: str | None
    """The code block that was just closed, if that is why it stopped."""
    answer: str | None
    """The answer that was just closed, if that is why."""
    num_answers: int
    """Answers closed so far, this one included."""
    text: str
    """All that the policy wrote since the prompt or the last observation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunCode:
    """Run the block and show its output to the policy."""

    code: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunAndAnswer:
    """Run the block; what it prints is the answer, and the trajectory ends."""

    code: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserMessage:
    """Close the policy's turn and open another user turn."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """End the trajectory."""

    stop: StopReason
    answer: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class UseTool:
    """Call a tool of one's own beside the decoding; the policy reads its text and goes on.

    An exception of the call ends the batch. A tool whose text does not depend on the question and
    the code alone makes a run that cannot be replayed.
    """

    call: Callable[[], str]


Action = RunCode | RunAndAnswer | UseTool | UserMessage | Finish


class Agent(Protocol):
    """One way of answering.

    The policy reads the question with the agent's hint; whenever it pauses (it closed a code block
    or an answer, or ended its turn), `act` says what follows. CONTRIBUTING.md shows one more.
    """

    name: str
    hint: str = ""
    """What stands behind every question."""

    def act(self, pause: ModelTurn) -> Action:
        """What follows a pause that no limit caused."""
        ...


def _finish(pause: ModelTurn) -> Finish:
    stop = StopReason.EOS if pause.answer is None else StopReason.ANSWER
    return Finish(stop=stop, answer=pause.answer)


class CodeAgent(Agent):
    """Text and code in any order, as the policy likes: what is trained."""

    name = "code_agent"
    hint = prompts.HINTS["code_agent"]

    @override
    def act(self, pause: ModelTurn) -> Action:
        return _finish(pause) if pause.code is None else RunCode(code=pause.code)


class AllText(Agent):
    """Words only: a code block ends the attempt."""

    name = "all_text"
    hint = prompts.HINTS["all_text"]

    @override
    def act(self, pause: ModelTurn) -> Action:
        return _finish(pause)


class AllCode(Agent):
    """One script, whose output is the answer."""

    name = "all_code"
    hint = prompts.HINTS["all_code"]

    @override
    def act(self, pause: ModelTurn) -> Action:
        return _finish(pause) if pause.code is None else RunAndAnswer(code=pause.code)


class CodeSteer(Agent):
    """A guide sends the first answer back to be checked with code; the second one counts."""

    name = "codesteer"
    hint = prompts.HINTS["codesteer"]

    @override
    def act(self, pause: ModelTurn) -> Action:
        if pause.code is not None:
            return RunCode(code=pause.code)
        if pause.answer is not None and pause.num_answers == 1:
            return UserMessage(text=prompts.CHECK_MESSAGE)
        return _finish(pause)


AGENTS: tuple[Agent, ...] = (AllText(), AllCode(), CodeAgent(), CodeSteer())
"""In the paper's order."""
