"""Drives the slots: prompts in, pauses answered, observations back into the same cache row.

The schedule depends on the seed alone. The interpreter runs while the other rows decode, but what
it printed enters a fixed number of chunks after the pause, however fast it was, and a free slot
takes the next request in order. So the same seed gives the same trajectories bit for bit, on a busy
machine too, and an interrupted training run resumes exactly (docs/adr/0009).
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence

from r1ci_jax.core.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents, reward
from r1ci_jax.rollout.trajectory import StopReason, Trajectory, Turn
from r1ci_jax.sampling.engine import Emitted, Engine, Feed
from r1ci_jax.sandbox import ExecResult, Sandbox
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chat, prompts, protocol
from r1ci_jax.text.tokenizer import Tokenizer

OBSERVATION_LAG = 1
"""Chunks decoded by the other rows between a pause and its observation's entry."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One trajectory to be made."""

    example: Example
    agent: agents.Agent
    rollout: tuple[int, int]
    """(rollout id, member): two requests with the same pair draw the same random numbers."""
    temperature: float


@dataclasses.dataclass(kw_only=True)
class _Live:
    """A trajectory in the making, in one slot."""

    index: int
    request: Request
    slot: int
    budget: int
    """Tokens it may still sample."""
    tokens: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    turn_start: int = 0
    """Index of the first token that the policy chose since the prompt or the last observation."""
    turns: list[Turn] = dataclasses.field(default_factory=list)
    answers: int = 0
    running: agents.RunCode | agents.RunLast | None = None
    future: concurrent.futures.Future[ExecResult] | None = None
    due: int = 0
    """Chunk before which the observation enters."""

    def append_given(self, tokens: Sequence[int]) -> None:
        """Add tokens that the policy did not choose; what follows is its own."""
        self.tokens.extend(tokens)
        self.logprobs.extend([0.0] * len(tokens))
        self.sampled.extend([False] * len(tokens))
        self.turn_start = len(self.tokens)

    def append_sampled(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Add tokens that the policy chose."""
        self.tokens.extend(tokens)
        self.logprobs.extend(logprobs)
        self.sampled.extend([True] * len(tokens))
        self.budget -= len(tokens)


class Runner:
    """Makes trajectories with one engine, one sandbox and one tokenizer."""

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        tokenizer: Tokenizer,
        limits: TurnLimits,
        *,
        head: str = "",
        turn_penalty_after: int = 6,
    ) -> None:
        """`head` stands in front of every question; see text/prompts.py."""
        self.engine = engine
        self.sandbox = sandbox
        self.tokenizer = tokenizer
        self.limits = limits
        self.head = head
        self.turn_penalty_after = turn_penalty_after
        self.clip_ids = tokenizer.encode(protocol.CLIP_MARK)
        self.waited_seconds = 0.0
        """Time that all slots stood still for scripts, since the runner was made."""
        if limits.observation_tokens < len(self.clip_ids) + 2:
            raise UserError(
                f"limits.observation_tokens = {limits.observation_tokens} leaves no room beside "
                f"the {len(self.clip_ids)} tokens that mark shortened output; raise it"
            )

    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """Make all trajectories; the result is in the order of the requests.

        Args:
            requests: May outnumber the slots.
            on_done: Called with the number of finished trajectories after every chunk.

        Raises:
            UserError: A prompt does not fit into the cache; nothing has been sampled yet.
        """
        batch = _Batch(self, requests)
        try:
            while batch.advance():
                if on_done is not None:
                    on_done(len(batch.done))
        finally:
            batch.abandon()
        return [batch.done[index] for index in sorted(batch.done)]


class _Batch:
    """The trajectories of one `Runner.run` call."""

    def __init__(self, parts: Runner, requests: Iterable[Request]) -> None:
        self._parts = parts
        # Before anything is decoded, so that a prompt that is too long costs no work.
        self._queue = collections.deque(
            (index, request, self._prompt(request)) for index, request in enumerate(requests)
        )
        self._live: dict[int, _Live] = {}
        self._free = list(range(parts.engine.sampler.slots))
        self._feeds: list[Feed] = []
        """What enters the slots before the next chunk."""
        self._chunk = 0
        self.done: dict[int, Trajectory] = {}

    def advance(self) -> bool:
        """Decode one chunk and handle every pause in it; False when all is done."""
        if not self._queue and not self._live:
            return False
        self._admit()
        self._resume_due()
        self._parts.engine.feed(self._feeds)
        self._feeds.clear()
        for emitted in self._parts.engine.decode():
            self._take(self._live[emitted.slot], emitted)
        self._chunk += 1
        return True

    def abandon(self) -> None:
        """After an error or an interrupt the engine must serve the next caller."""
        if self._live:
            self._parts.engine.cancel(list(self._live))
        for row in self._live.values():
            if row.future is not None:
                row.future.cancel()

    def _prompt(self, request: Request) -> list[int]:
        """Tokens of the first user turn, with room for one token of the policy behind them."""
        question = prompts.user_turn(
            request.example.question, request.agent.name, head=self._parts.head
        )
        prompt = chat.prompt_ids(self._parts.tokenizer, question)
        capacity = self._parts.engine.sampler.cache_length
        if len(prompt) >= capacity:
            raise UserError(
                f"the prompt of question {request.example.id} has {len(prompt)} tokens, which does "
                f"not fit into the cache; raise sampler.cache_length = {capacity} or leave it out"
            )
        return prompt

    def _admit(self) -> None:
        """Put the next requests into the free slots, lowest slot first."""
        self._free.sort(reverse=True)
        while self._queue and self._free:
            index, request, prompt = self._queue.popleft()
            slot = self._free.pop()
            row = _Live(
                index=index, request=request, slot=slot, budget=self._parts.limits.new_tokens
            )
            row.append_given(prompt)
            self._live[slot] = row
            self._feeds.append(_feed(row, len(prompt)))

    def _resume_due(self) -> None:
        """Give rows whose time has come the output of their script, waiting for it if need be."""
        waiting = [row for _, row in sorted(self._live.items()) if row.future is not None]
        due = [row for row in waiting if row.due <= self._chunk]
        if not due and len(waiting) == len(self._live):
            due = waiting  # no row would decode in the meantime
        for row in due:
            assert row.future is not None and row.running is not None
            began = time.monotonic()
            result, running = row.future.result(), row.running
            self._parts.waited_seconds += time.monotonic() - began
            row.future = row.running = None
            row.turns.append(Turn(code=running.code, result=result))
            if result.status in SANDBOX_FAULTS:
                self._finish(row, StopReason.SANDBOX_FAULT, None)
            elif isinstance(running, agents.RunLast):
                answer = protocol.final_answer(result.stdout) or result.stdout.strip()
                self._finish(row, StopReason.ANSWER, answer)
            else:
                ids = self._parts.tokenizer.encode(protocol.observation(result))
                limit = self._parts.limits.observation_tokens
                self._continue(row, protocol.clip_observation_ids(ids, limit, self._parts.clip_ids))

    def _continue(self, row: _Live, ids: list[int]) -> None:
        """Append tokens that the policy did not choose, and let it go on behind them."""
        if len(row.tokens) + len(ids) >= self._parts.engine.sampler.cache_length:
            self._finish(row, StopReason.CONTEXT_FULL, None)
            return
        row.append_given(ids)
        # The token before the observation was pending: it enters the cache together with it.
        self._feeds.append(_feed(row, len(ids) + 1))

    def _take(self, row: _Live, emitted: Emitted) -> None:
        """Append what a slot sampled; when it paused, do what follows."""
        row.append_sampled(emitted.tokens, emitted.logprobs)
        if not emitted.paused:
            return
        match self._decide(row, protocol.Stop(emitted.stop)):
            case agents.Finish(stop=stop, answer=answer):
                self._finish(row, stop, answer)
            case agents.Say(text=text):
                self._continue(row, chat.user_turn_ids(self._parts.tokenizer, text))
            case running:
                row.running = running
                row.future = self._parts.sandbox.submit(running.code)
                row.due = self._chunk + 1 + OBSERVATION_LAG

    def _decide(self, row: _Live, stop: protocol.Stop) -> agents.Action:
        """What follows a pause: a limit ends the trajectory, else the agent says."""
        if stop is protocol.Stop.NONE and row.tokens[-1] != self._parts.tokenizer.eos_id:
            exhausted = StopReason.MAX_TOKENS if row.budget <= 0 else StopReason.CONTEXT_FULL
            return agents.Finish(stop=exhausted, answer=None)
        turn = self._parts.tokenizer.decode(row.tokens[row.turn_start :])
        code = protocol.last_code(turn) if stop is protocol.Stop.CODE else None
        answer = protocol.final_answer(turn) if stop is protocol.Stop.ANSWER else None
        if code is not None and len(row.turns) >= self._parts.limits.code_calls:
            return agents.Finish(stop=StopReason.MAX_CODE_CALLS, answer=None)
        row.answers += answer is not None
        action = row.request.agent.act(agents.Pause(code=code, answer=answer, answers=row.answers))
        if row.budget <= 0 and isinstance(action, agents.RunCode | agents.Say):
            return agents.Finish(stop=StopReason.MAX_TOKENS, answer=None)
        return action

    def _finish(self, row: _Live, stop: StopReason, answer: str | None) -> None:
        """Judge the trajectory and free its slot."""
        example, request = row.request.example, row.request
        correct = answer is not None and registry.get(example.task).score(example, answer).correct
        keeps_format = protocol.keeps_format(self._own_text(row))
        self.done[row.index] = Trajectory(
            example_id=example.id,
            task=example.task,
            question=example.question,
            agent=request.agent.name,
            rollout=request.rollout,
            tokens=tuple(row.tokens),
            sampled=tuple(row.sampled),
            logprobs=tuple(row.logprobs),
            turns=tuple(row.turns),
            stop=stop,
            answer=answer,
            correct=correct,
            reward=reward.shaped_reward(
                correct,
                keeps_format,
                len(row.turns) + 1,
                penalty_after=self._parts.turn_penalty_after,
            ),
        )
        del self._live[row.slot]
        self._free.append(row.slot)

    def _own_text(self, row: _Live) -> str:
        """What the policy wrote; an observation in between leaves a line break."""
        eos_id = self._parts.tokenizer.eos_id
        written = zip(row.tokens, row.sampled, strict=True)
        stretches = [
            [token for token, _ in members if token != eos_id]
            for sampled, members in itertools.groupby(written, key=lambda pair: pair[1])
            if sampled
        ]
        return "\n".join(self._parts.tokenizer.decode(ids) for ids in stretches)


def _feed(row: _Live, count: int) -> Feed:
    """Feed the last `count` tokens of a row."""
    return Feed(
        slot=row.slot,
        tokens=tuple(row.tokens[-count:]),
        position=len(row.tokens) - count,
        budget=row.budget,
        rollout=row.request.rollout,
        temperature=row.request.temperature,
    )
