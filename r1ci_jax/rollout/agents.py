"""Agents: the ways of answering a question. An agent decides what follows each turn of the policy.

An agent holds no state, so one object serves every trajectory; all that it may use is in the
`ModelTurn`. The four here are those of the paper's Table 2.

CodeSteer (arXiv 2502.04350) has a guide. Here the policy is its own guide: it reads the guide's
prompt as a further user message, in the same conversation, and what it then writes decides how the
conversation goes on. The guide's words are sampled as all others are, but they are no answer, their
code is not run, and they do not train (`Trajectory.trained`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Final, Protocol, override

from r1ci_jax.errors import UserError, did_you_mean
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.runtime import user_modules
from r1ci_jax.text import boxed_answer, prompts, protocol

MAX_GUIDE_TURNS: Final = 5
"""Turns of the guide in a trajectory, as in CodeSteer's evaluation."""


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
    messages: tuple[str, ...] = ()
    """User messages and tool results that followed the question so far."""
    guide: str = ""
    """Prompt of the guide; empty where the instructions have none."""
    num_guide_turns: int = 0
    """Turns that the policy wrote as the guide so far, this one included."""
    is_guide: bool = False
    """The policy wrote this turn as the guide: `answer` is what stood between its marks."""
    guided_answer: str | None = None
    """The answer that the guide has read, if this is its turn and there is one."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskGuide:
    """Close the policy's message, and let the policy write the next one as the guide."""

    prompt: str
    """User message that the guide answers."""


Action = RunCode | UseTool | UserMessage | AskGuide | Finish


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


def _finish(answer: str | None) -> Finish:
    stop = StopReason.EOS if answer is None else StopReason.ANSWER
    return Finish(stop=stop, answer=answer)


class CodeAgent(Agent):
    """Text and code in any order, as the policy likes: the agent that is trained."""

    name = "code_agent"
    hint = prompts.HINTS["code_agent"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        return _finish(turn.answer) if turn.code is None else RunCode(code=turn.code)


class AllText(Agent):
    """Words only: a code block ends the trajectory."""

    name = "all_text"
    hint = prompts.HINTS["all_text"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        return _finish(turn.answer)


class AllCode(Agent):
    """One script, whose output is the answer."""

    name = "all_code"
    hint = prompts.HINTS["all_code"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        if turn.code is None:
            return _finish(turn.answer)
        return RunCode(code=turn.code, is_answer=True)


class CodeSteer(Agent):
    """A Code Agent with a guide, which reads each answer and sends it back or lets it stand.

    The guide writes at most `MAX_GUIDE_TURNS` times, also where the policy ended its message
    without an answer; the last answer counts. Where the instructions have no guide, one fixed
    sentence sends the first answer back to be checked with code, and the second counts.
    """

    name = "codesteer"
    hint = prompts.HINTS["codesteer"]

    @override
    def act(self, turn: ModelTurn) -> Action:
        if turn.is_guide:
            message = read_guidance(turn.text)
            return UserMessage(text=message) if message else _finish(turn.guided_answer)
        if turn.code is not None:
            return RunCode(code=turn.code)
        if turn.guide and turn.num_guide_turns < MAX_GUIDE_TURNS:
            return AskGuide(prompt=turn.guide)
        is_checked = prompts.CHECK_MESSAGE in turn.messages
        if not turn.guide and turn.answer is not None and not is_checked:
            return UserMessage(text=prompts.CHECK_MESSAGE)
        return _finish(turn.answer)


class AnswerRequest(Agent):
    """Another agent, for models that were not trained for our answer marks.

    Where the policy ends its message without them, an answer in LaTeX's box counts. If there is
    none, the policy is asked once, for many give it in words alone; without a `request` it is not.
    One that is to answer by a script's output is not asked.
    """

    def __init__(self, agent: Agent, request: str | None = prompts.ANSWER_REQUEST) -> None:
        self.agent = agent
        self.request = request
        self.name = agent.name
        self.hint = agent.hint

    @override
    def act(self, turn: ModelTurn) -> Action:
        if isinstance(self.agent, AllCode):
            return self.agent.act(turn)
        may_be_boxed = turn.answer is None and not turn.is_guide
        boxed = boxed_answer.last_boxed(turn.text) if may_be_boxed else None
        if boxed is not None and turn.code is None:
            turn = dataclasses.replace(turn, answer=boxed, num_answers=turn.num_answers + 1)
        action = self.agent.act(turn)
        if not isinstance(action, Finish) or action.answer is not None:
            return action
        if boxed is not None:  # before code that the agent does not run
            return _finish(boxed)
        if self.request is None or self.request in turn.messages:
            return action
        return UserMessage(text=self.request)


_ENDS: Final = (prompts.RETURN_ANSWER.casefold(), prompts.TERMINATE.casefold())


def read_guidance(text: str) -> str | None:
    """Return the user message that follows the guide's words; None if they end the trajectory.

    What counts stands between the last answer marks; without marks it is the whole text, as in
    CodeSteer. A guide that says nothing lets the answer stand.
    """
    guidance = (protocol.final_answer(text) or text).strip()
    word = guidance.rstrip(" .!").casefold()
    if not word or word.endswith(_ENDS):
        return None
    return prompts.CODE_REQUEST if word == prompts.ASK_FOR_CODE.casefold() else guidance


AGENTS: tuple[Agent, ...] = (AllText(), AllCode(), CodeAgent(), CodeSteer())
"""The four agents in the paper's order; prompts.AGENT_NAMES lists the same names."""


def get(place: str) -> Agent:
    """Return one of the four by its name, or a user's own by the `package.module:Class` of it.

    Raises:
        UserError: There is no such agent, or its class is none of an agent.
    """
    found = next((agent for agent in AGENTS if agent.name == place), None)
    if found is not None:
        return found
    if ":" not in place:
        hint = did_you_mean(place, prompts.AGENT_NAMES)
        known = ", ".join(prompts.AGENT_NAMES)
        raise UserError(
            f"there is no agent {place!r}; {hint}choose from {known}, or name one of your own as "
            "package.module:Class"
        )
    return _make(user_modules.load(place, what="the agent"), place)


def get_all(places: Iterable[str]) -> tuple[Agent, ...]:
    """Return the agents of these names and places, each place once.

    Raises:
        UserError: There is no such agent, or two of them have one name, by which results are told
            apart.
    """
    distinct = tuple(dict.fromkeys(places))
    found = tuple(get(place) for place in distinct)
    named: dict[str, str] = {}
    for agent, place in zip(found, distinct, strict=True):
        if named.setdefault(agent.name, place) != place:
            raise UserError(
                f"the agents {place} and {named[agent.name]} are both named {agent.name!r}; give "
                "each its own name"
            )
    return found


@functools.cache  # by the class: a module that is loaded anew has another one
def _make(kind: Callable[[], Agent], place: str) -> Agent:
    with user_modules.explain(place):
        agent = kind()
    name, hint = getattr(agent, "name", None), getattr(agent, "hint", None)
    is_named = isinstance(name, str) and name.isprintable() and name.strip() == name != ""
    if not is_named or not isinstance(hint, str) or not callable(getattr(agent, "act", None)):
        raise UserError(
            f"{place} is no agent: it needs a name, a hint and act(turn); make it a subclass of "
            "r1ci_jax.rollout.agents.Agent, as in CONTRIBUTING.md"
        )
    if name in prompts.AGENT_NAMES:
        raise UserError(f"{place} has the name {name!r} of another agent; give it one of its own")
    return agent
