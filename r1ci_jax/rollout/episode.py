"""A trajectory in the making: its exact tokens, what it may still do, and what it waits for."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.sampling.engine import SlotInput
from r1ci_jax.sandbox import ExecResult
from r1ci_jax.tasks.base import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One trajectory to be made."""

    example: Example
    agent: agents.Agent
    rollout_id: tuple[int, int]
    """(rollout id, member): two requests with the same pair draw the same random numbers."""
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PendingTool:
    """What a paused trajectory waits for."""

    action: agents.RunCode | agents.RunAndAnswer | agents.UseTool
    future: concurrent.futures.Future[ExecResult] | concurrent.futures.Future[str] | None
    """None: another host sees to it."""
    resume_chunk: int
    """Chunk before which the observation enters."""


@dataclasses.dataclass(kw_only=True)
class Episode:
    """A trajectory that is being made."""

    index: int
    """Its place in the result."""
    request: Request
    tokens: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    turn_start: int = 0
    """Index of the first token that the policy chose since the prompt or the last observation."""
    code_calls: list[CodeCall] = dataclasses.field(default_factory=list)
    num_messages: int = 0
    """User turns and tool results that were put in besides scripts' output."""
    num_answers: int = 0
    slot: int = -1
    num_cached_tokens: int = 0
    """So many of its first tokens stand in the cache row of `slot`, where it then goes on; 0: it
    enters any slot."""
    num_stale_tokens: int = 0
    """So many of its first tokens were there before the weights of this step."""
    pending_tool: PendingTool | None = None
    is_done: bool = False
    began: float = dataclasses.field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    """Time it took before it was carried over to this run."""

    def append_context(self, tokens: Sequence[int]) -> None:
        """Add tokens that the policy did not choose; what follows is its own."""
        self.tokens.extend(tokens)
        self.logprobs.extend([0.0] * len(tokens))
        self.sampled.extend([False] * len(tokens))
        self.turn_start = len(self.tokens)

    def append_completion(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Add tokens that the policy chose."""
        self.tokens.extend(tokens)
        self.logprobs.extend(logprobs)
        self.sampled.extend([True] * len(tokens))

    @property
    def seconds(self) -> float:
        """Wall time since it entered its first slot."""
        return self.seconds_before + time.monotonic() - self.began

    def num_tokens_left(self, limits: TurnLimits) -> int:
        """Tokens it may still sample in all."""
        return limits.max_new_tokens - sum(self.sampled)

    def num_turn_tokens_left(self, limits: TurnLimits) -> int:
        """Tokens it may still sample before its next pause."""
        if limits.max_turn_tokens is None:
            return self.num_tokens_left(limits)
        taken = len(self.tokens) - self.turn_start
        return min(self.num_tokens_left(limits), limits.max_turn_tokens - taken)

    def budget_stop_reason(self, limits: TurnLimits) -> StopReason:
        """Why its slot stopped though the policy did not end its turn."""
        if self.num_tokens_left(limits) <= 0:
            return StopReason.MAX_TOKENS
        if self.num_turn_tokens_left(limits) <= 0:
            return StopReason.MAX_TURN_TOKENS
        return StopReason.CONTEXT_FULL

    def slot_input(self, count: int, limits: TurnLimits) -> SlotInput:
        """Feed the last `count` tokens."""
        return SlotInput(
            slot=self.slot,
            tokens=tuple(self.tokens[-count:]),
            position=len(self.tokens) - count,
            budget=self.num_turn_tokens_left(limits),
            max_turn_tokens=len(self.tokens) - self.turn_start,
            rollout_id=self.request.rollout_id,
            sampling=self.request.sampling,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartialRollout:
    """A trajectory of a group that was not complete when its step ended."""

    first_step: int
    """Step in which its group began."""
    episode: Episode
    trajectory: Trajectory | None
    """What came of it, if it has ended."""

    @property
    def group_id(self) -> int:
        """The group's rollout id."""
        return self.episode.request.rollout_id[0]
