"""The state of a trajectory in progress."""

import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import (
    CodeCall,
    RolloutId,
    StopReason,
    Trajectory,
    without_guide,
)
from r1ci_jax.sampling.engine import SlotInput
from r1ci_jax.sandbox import ExecResult
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import protocol
from r1ci_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One trajectory to sample."""

    example: Example
    agent: agents.Agent
    rollout_id: RolloutId
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)


class Mark(NamedTuple):
    """The state of an episode before a turn, or a part of one, of the policy."""

    num_tokens: int
    turn_start: int
    num_code_calls: int
    num_tool_calls: int
    num_messages: int
    num_answers: int


@dataclasses.dataclass(kw_only=True, eq=False)
class Episode:
    """A trajectory in progress: its exact tokens, what it may still do, and what it waits for."""

    request: Request
    max_new_tokens: int | None = None
    """Tokens that the policy may sample in this episode; None: as many as the limits say."""
    tokens: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    turn_start: int = 0
    """Index of the first token of the policy's current turn."""
    code_calls: list[CodeCall] = dataclasses.field(default_factory=list)
    num_tool_calls: int = 0
    """Calls of the agent's own tools."""
    messages: list[str] = dataclasses.field(default_factory=list)
    """User messages and tool results that were inserted, without the output of scripts."""
    num_answers: int = 0
    guide_starts: list[int] = dataclasses.field(default_factory=list)
    """Index of the first token of each turn of the guide."""
    num_earlier_guide_turns: int = 0
    """Turns of the guide in answers to earlier messages of a conversation."""

    slot: int = -1
    num_prefix_tokens: int = 0
    """The first tokens, this many, are those of other episodes too: the agent's instructions."""
    age: int = 0
    """Number of the episodes that entered a slot before it."""
    num_cached_tokens: int = 0
    """Number of first tokens that the pages of `slot` hold already; the episode then continues
    in that slot. 0: it enters any slot."""
    began: float = dataclasses.field(default_factory=time.monotonic)
    """Time at which it entered its slot."""
    seconds_before: float = 0.0
    """Wall time that it took in earlier steps."""

    pending_action: agents.RunCode | agents.UseTool | None = None
    """The tool call whose result the episode waits for."""
    pending_result: (
        concurrent.futures.Future[ExecResult] | concurrent.futures.Future[str] | None
    ) = None
    """The future result of the tool call; None when another host runs the tool."""
    pending_since: float = 0.0
    """Time at which the tool was started."""

    first_step: int = 0
    """Training step in which the group began."""
    num_stale_tokens: int = 0
    """Number of first tokens that are older than the weights of the current step."""
    clock: int = 0
    """Decode steps that it has taken in this training step, those counted that a tool stands for:
    the time by which partial_rollouts.py decides."""
    marks: list["Mark"] = dataclasses.field(default_factory=list["Mark"])
    """Its states at the start of this training step and after each later observation."""
    is_done: bool = False
    pending_score: concurrent.futures.Future[Trajectory] | None = None
    """The future score of an episode that is done."""
    trajectory: Trajectory | None = None
    """The scored trajectory, once the episode is done and its score is known."""

    @property
    def group_id(self) -> int:
        """Number of the group that the episode belongs to."""
        return self.request.rollout_id.group_id

    @property
    def seconds(self) -> float:
        """Wall time since the episode entered its first slot."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def num_guide_turns(self) -> int:
        """Number of the guide's turns in the current answer, one that is under way included."""
        return len(self.guide_starts) - self.num_earlier_guide_turns

    @property
    def is_guide(self) -> bool:
        """True if the policy's current turn is the guide's."""
        return self.turn_start in self.guide_starts[-1:]

    def append_context(self, tokens: Sequence[int], *, for_guide: bool = False) -> None:
        """Append tokens that the policy did not choose; the policy's next turn follows them.

        `for_guide`: the policy writes that turn as the guide.
        """
        self.tokens.extend(tokens)
        self.logprobs.extend([0.0] * len(tokens))
        self.sampled.extend([False] * len(tokens))
        self.turn_start = len(self.tokens)
        if for_guide:
            self.guide_starts.append(self.turn_start)
        self._mark()

    def append_completion(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Append tokens that the policy chose."""
        self.tokens.extend(tokens)
        self.logprobs.extend(logprobs)
        self.sampled.extend([True] * len(tokens))

    def start_step(self) -> None:
        """Note that a training step begins: `rewind` goes back to here at most."""
        self.clock = 0
        self.marks.clear()
        self._mark()

    def rewind(self, num_tokens: int) -> None:
        """Go back to the first `num_tokens` tokens; the last one may be any of this step."""
        mark = next(each for each in reversed(self.marks) if each.num_tokens <= num_tokens)
        for values in (self.tokens, self.sampled, self.logprobs):
            del values[num_tokens:]
        del self.code_calls[mark.num_code_calls :]
        self.turn_start = mark.turn_start
        self.guide_starts = [each for each in self.guide_starts if each <= mark.turn_start]
        self.num_tool_calls = mark.num_tool_calls
        del self.messages[mark.num_messages :]
        self.num_answers = mark.num_answers
        self.is_done, self.trajectory = False, None

    def _mark(self) -> None:
        """Note the state to which `rewind` may go back."""
        self.marks.append(
            Mark(
                num_tokens=len(self.tokens),
                turn_start=self.turn_start,
                num_code_calls=len(self.code_calls),
                num_tool_calls=self.num_tool_calls,
                num_messages=len(self.messages),
                num_answers=self.num_answers,
            )
        )

    def continue_with(self, tokens: Sequence[int]) -> None:
        """Append a user message to a finished or stopped answer, to which another answer follows.

        The cache row holds everything before the last sampled token for certain: that token was
        pending, and chunks that nobody read may have overwritten what follows it.
        """
        if any(self.sampled):
            self.num_cached_tokens = len(self.sampled) - 1 - self.sampled[::-1].index(True)
        self.append_context(tokens)
        self.messages.clear()
        self.num_answers = 0
        self.num_earlier_guide_turns = len(self.guide_starts)
        self.is_done = False
        self.trajectory = None

    def num_tokens_left(self, limits: TurnLimits) -> int:
        """Number of tokens that the policy may still sample in the episode."""
        most = limits.max_new_tokens if self.max_new_tokens is None else self.max_new_tokens
        return most - sum(self.sampled)

    def num_turn_tokens_left(self, limits: TurnLimits) -> int:
        """Number of tokens that the policy may still sample in its current turn."""
        if limits.max_turn_tokens is None:
            return self.num_tokens_left(limits)
        taken = len(self.tokens) - self.turn_start
        return min(self.num_tokens_left(limits), limits.max_turn_tokens - taken)

    def budget_stop_reason(self, limits: TurnLimits) -> StopReason:
        """The limit that stopped the slot when the policy did not end its turn."""
        if self.num_tokens_left(limits) <= 0:
            return StopReason.MAX_TOKENS
        if self.num_turn_tokens_left(limits) <= 0:
            return StopReason.MAX_TURN_TOKENS
        return StopReason.CONTEXT_FULL

    def slot_input(self, count: int, limits: TurnLimits) -> SlotInput:
        """The engine's input that puts the last `count` tokens into the episode's slot."""
        position = len(self.tokens) - count
        return SlotInput(
            slot=self.slot,
            tokens=tuple(self.tokens[-count:]),
            position=position,
            num_prefix_tokens=0 if position else self.num_prefix_tokens,
            budget=self.num_turn_tokens_left(limits),
            num_turn_tokens=len(self.tokens) - self.turn_start,
            rollout_id=self.request.rollout_id,
            sampling=self.request.sampling,
        )

    def last_answer(self, tokenizer: Tokenizer) -> str | None:
        """The answer in the policy's last turn; that of the guide is none, so it is skipped."""
        end = self.turn_start if self.is_guide else len(self.tokens)
        while end and not self.sampled[end - 1]:
            end -= 1
        begin = end
        while begin and self.sampled[begin - 1]:
            begin -= 1
        return protocol.final_answer(tokenizer.decode(self.tokens[begin:end]))

    def turn_texts(self, tokenizer: Tokenizer) -> list[str]:
        """The text of each turn of the policy, not as the guide, without stop tokens."""
        pairs = zip(self.tokens, without_guide(self.sampled, self.guide_starts), strict=True)
        turns: Sequence[list[int]] = [
            [token for token, _ in members if token not in tokenizer.stop_token_ids]
            for sampled, members in itertools.groupby(pairs, key=lambda pair: pair[1])
            if sampled
        ]
        return [tokenizer.decode(ids) for ids in turns]
