"""Drives the slots: prompts in, pauses answered, observations back into the same cache row.

While the device decodes a chunk, the host reads the one before it, asks the agents what follows,
and starts scripts; so neither waits for the other, and what a pause in one chunk leads to enters
before the next but one. The schedule depends on the seed alone: an observation enters a fixed
number of chunks after its pause, however fast it was, and a free slot takes the next request in
order. So the same seed gives the same trajectories bit for bit, on a busy machine too, and an
interrupted training run resumes exactly (docs/adr/0009).
"""

import collections
import concurrent.futures
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Protocol

from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.model import qwen2
from r1ci_jax.rollout import agents, host_ownership, reward
from r1ci_jax.rollout.episode import Episode, PendingTool, Request
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.runtime import hosts, preemption
from r1ci_jax.sampling.engine import Engine, SlotInput, SlotOutput
from r1ci_jax.sandbox import ExecResult, Sandbox
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from r1ci_jax.tasks import registry
from r1ci_jax.text import chatml, protocol
from r1ci_jax.text.tokenizer import Tokenizer

__all__ = ["Observer", "Request", "RolloutScheduler", "Runner"]

TOOL_THREADS = 8
SCORER_THREADS = 4


class Observer(Protocol):
    """Is told what happens to the trajectories of a batch as soon as the host knows it."""

    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        """The policy sampled these."""
        ...

    def on_code(self, episode: Episode, code: str) -> None:
        """A script was handed to the interpreter."""
        ...

    def on_observation(self, episode: Episode, text: str) -> None:
        """The policy reads this; the script it comes from, if one, is the last of `row.code_calls`."""
        ...

    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        """The trajectory ended."""
        ...


class Runner:
    """Makes trajectories with one engine, one sandbox and one tokenizer."""

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        tokenizer: Tokenizer,
        limits: TurnLimits,
        *,
        instructions: str = "",
        turn_penalty_after: int = 6,
    ) -> None:
        """`head` stands in front of every question; see text/prompts.py."""
        self.engine = engine
        self.sampler = engine.sampler
        self.sandbox = sandbox
        self.tokenizer = tokenizer
        self.limits = limits
        self.instructions = instructions
        self.turn_penalty_after = turn_penalty_after
        self.clip_ids = tokenizer.encode(protocol.CLIP_MARK)
        self.waited_seconds = 0.0
        """Time that all slots stood still for scripts, since the runner was made."""
        if limits.max_observation_tokens < len(self.clip_ids) + 2:
            raise UserError(
                f"limits.max_observation_tokens = {limits.max_observation_tokens} leaves no room beside "
                f"the {len(self.clip_ids)} tokens that mark shortened output; raise it"
            )
        if limits.max_wall_seconds is not None and hosts.count() > 1:
            raise UserError(
                "limits.wall_seconds ends trajectories by the clock, and every host has its own: "
                "leave it out on several hosts"
            )

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on."""
        self.engine.load(weights)

    def unload(self) -> None:
        """Leave the weights' memory to something else until the next `load`."""
        self.engine.unload()

    def warm_up(self) -> None:
        """Compile all that will be used."""
        self.engine.warm_up()

    def run(
        self,
        requests: Iterable[Request],
        *,
        on_done: Callable[[int], None] | None = None,
        observer: Observer | None = None,
    ) -> list[Trajectory]:
        """Make all trajectories; the result is in the order of the requests.

        Args:
            requests: May outnumber the slots.
            on_done: Called with the number of finished trajectories after every chunk.
            observer: Is told what happens to each.

        Raises:
            UserError: A prompt does not fit into the cache; nothing has been sampled yet.
        """
        rows = [self.new_episode(index, request) for index, request in enumerate(requests)]
        batch = RolloutScheduler(self, rows, observer)
        for finished in batch.chunks():
            if on_done is not None:
                on_done(finished)
        done = batch.trajectories()
        return [done[index] for index in sorted(done)]

    def new_episode(self, index: int, request: Request) -> Episode:
        """A trajectory that is its prompt, with room for one token of the policy behind it."""
        question = self.instructions + request.example.question + request.agent.hint
        prompt = chatml.prompt_ids(self.tokenizer, question)
        capacity = self.engine.sampler.cache_length
        if len(prompt) >= capacity:
            raise UserError(
                f"the prompt of question {request.example.id} has {len(prompt)} tokens, which does "
                f"not fit into the cache; raise sampler.cache_length = {capacity} or leave it out"
            )
        row = Episode(index=index, request=request)
        row.append_context(prompt)
        return row

    def encode_user_message(self, episode: Episode, text: str) -> list[int]:
        """What closes the policy's turn, if it has not done so itself, and opens its next one."""
        ids = chatml.user_message_ids(self.tokenizer, text)
        return ids[1:] if episode.tokens[-1] == self.tokenizer.eos_id else ids

    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        """What came of a row; an answer to a question of no task is not judged.

        A row that is not this host's own counts as not correct, until its host's verdict is known.
        """
        example, request = episode.request.example, episode.request
        correct = (
            is_local
            and answer is not None
            and example.task != ""
            and registry.get(example.task).score(example, answer).correct
        )
        return Trajectory(
            example_id=example.id,
            task=example.task,
            question=example.question,
            agent=request.agent.name,
            rollout_id=request.rollout_id,
            tokens=tuple(episode.tokens),
            sampled=tuple(episode.sampled),
            logprobs=tuple(episode.logprobs),
            code_calls=tuple(episode.code_calls),
            stop=stop,
            answer=answer,
            correct=correct,
            reward=reward.shaped_reward(
                correct,
                protocol.keeps_format(self._completion_text(episode)),
                len(episode.code_calls) + 1,
                penalty_after=self.turn_penalty_after,
            ),
            num_stale_tokens=episode.num_stale_tokens,
        )

    def _completion_text(self, episode: Episode) -> str:
        """What the policy wrote; an observation in between leaves a line break."""
        written = zip(episode.tokens, episode.sampled, strict=True)
        stretches: Sequence[list[int]] = [
            [token for token, _ in members if token != self.tokenizer.eos_id]
            for sampled, members in itertools.groupby(written, key=lambda pair: pair[1])
            if sampled
        ]
        return "\n".join(self.tokenizer.decode(ids) for ids in stretches)


class RolloutScheduler:
    """Trajectories that share the slots until all are done, or the caller stops."""

    def __init__(
        self, parts: Runner, rows: Iterable[Episode], observer: Observer | None = None
    ) -> None:
        self._parts = parts
        self._observer = observer
        self._queue = collections.deque(rows)
        self._episodes: dict[int, Episode] = {}
        self._free = list(range(parts.engine.sampler.slots))
        self._feeds: list[SlotInput] = []
        """What enters the slots before the next chunk."""
        self._chunk = 0
        self._owners: collections.deque[dict[int, Episode]] = collections.deque()
        """Who was in which slot, for each chunk that is dispatched and not read."""
        self._tools = concurrent.futures.ThreadPoolExecutor(TOOL_THREADS, "tool")
        # Some tasks judge an answer in the jail, which may take seconds: decoding does not wait.
        self._scorers = concurrent.futures.ThreadPoolExecutor(SCORER_THREADS, "judge")
        self.ended: dict[int, tuple[bool, concurrent.futures.Future[Trajectory]]] = {}
        """By index: whether this host judges it, and the future of the verdict."""

    def chunks(self) -> Generator[int]:
        """Go on chunk by chunk until all is done; yields how many trajectories are.

        Whatever ends the loop (the last trajectory, an error, an interrupt, SIGTERM, a caller
        who stops asking), nothing goes on behind it, and the engine can serve the next batch.
        """
        try:
            while self._queue or self._episodes:
                preemption.raise_if_preempted()
                self._step()
                yield len(self.ended)
        finally:
            self._abandon()

    def trajectories(self) -> dict[int, Trajectory]:
        """What has ended, by index, judged."""
        judged = [(is_own, verdict.result()) for is_own, verdict in self.ended.values()]
        return dict(zip(self.ended, host_ownership.gather_scores(judged), strict=True))

    def flush_pending_tools(self) -> None:
        """Let the rows that have begun read what they wait for, so that each can go on elsewhere.

        What the chunks under way would have added is not waited for: it would be sampled again.
        """
        for row in self._episodes.values():
            row.seconds_before = row.seconds
        self._read_results(self._pending_tools())

    def _step(self) -> None:
        """Dispatch one chunk, then handle every pause in the one before it."""
        engine = self._parts.engine
        self._fill_free_slots()
        self._resume_due()
        engine.feed(self._feeds)
        self._feeds.clear()
        engine.dispatch()
        self._owners.append(dict(self._episodes))
        if len(self._owners) > 1:
            owners = self._owners.popleft()
            for emitted in engine.collect():
                self._consume(owners[emitted.slot], emitted)
            self._expire()
        self._chunk += 1

    def _abandon(self) -> None:
        self._parts.engine.abandon()
        self._owners.clear()
        for row in self._episodes.values():
            _cancel(row)
        self._tools.shutdown(wait=False, cancel_futures=True)
        self._scorers.shutdown()

    def _fill_free_slots(self) -> None:
        """Put the next requests into the free slots, lowest slot first."""
        self._free.sort(reverse=True)
        while self._queue and self._free:
            row = self._queue.popleft()
            if row.num_cached_tokens:
                self._free.remove(row.slot)
            else:
                row.slot = self._free.pop()
            row.began = time.monotonic()
            self._episodes[row.slot] = row
            self._feeds.append(
                row.slot_input(len(row.tokens) - row.num_cached_tokens, self._parts.limits)
            )

    def _resume_due(self) -> None:
        """Give rows whose time has come the output of their script, waiting for it if need be."""
        waiting = self._pending_tools()
        nobody_decodes = len(waiting) == len(self._episodes)
        limit = self._parts.limits.max_wall_seconds
        if limit is None:
            due = [(row, what) for row, what in waiting if what.resume_chunk <= self._chunk]
            if not due and nobody_decodes:
                due = waiting
        else:
            # Time counts, so nobody waits for another's script: whoever is ready goes on.
            if nobody_decodes and waiting:
                left = max(0.0, limit - max(row.seconds for row, _ in waiting))
                futures: list[concurrent.futures.Future[Any]] = [
                    what.future for _, what in waiting if what.future is not None
                ]
                concurrent.futures.wait(futures, left, concurrent.futures.FIRST_COMPLETED)
            due = [(row, what) for row, what in waiting if what.future and what.future.done()]
        self._read_results(due)

    def _pending_tools(self) -> list[tuple[Episode, PendingTool]]:
        """Rows that wait for a script or a tool, by slot."""
        live = sorted(self._episodes.items())
        return [(row, row.pending_tool) for _, row in live if row.pending_tool is not None]

    def _read_results(self, due: Sequence[tuple[Episode, PendingTool]]) -> None:
        """Let these rows go on with what came out for them, waiting for it if need be."""
        began = time.monotonic()
        outcomes = host_ownership.gather_tool_results({row.slot: what.future for row, what in due})
        self._parts.waited_seconds += time.monotonic() - began
        for row, what in due:
            self._read_result(row, what.action, outcomes[row.slot])

    def _read_result(
        self,
        episode: Episode,
        action: agents.RunCode | agents.RunAndAnswer | agents.UseTool,
        result: host_ownership.ToolResult,
    ) -> None:
        """Let the policy read what came out, or end the trajectory with it."""
        episode.pending_tool = None
        if isinstance(result, str):
            episode.num_messages += 1
            self._observe(episode, protocol.tool_text(result))
            return
        assert isinstance(action, agents.RunCode | agents.RunAndAnswer)
        episode.code_calls.append(CodeCall(code=action.code, result=result))
        if result.status in SANDBOX_FAULTS:
            self._finish(episode, StopReason.SANDBOX_FAULT, None)
        elif isinstance(action, agents.RunAndAnswer):
            answer = protocol.final_answer(result.stdout) or result.stdout.strip()
            self._finish(episode, StopReason.ANSWER, answer)
        else:
            self._observe(episode, protocol.observation(result))

    def _observe(self, episode: Episode, text: str) -> None:
        """Let the policy read what a script or a tool said, and go on."""
        ids = self._parts.tokenizer.encode(text)
        limit = self._parts.limits.max_observation_tokens
        ids = protocol.clip_observation_ids(ids, limit, self._parts.clip_ids)
        if self._observer is not None:
            self._observer.on_observation(episode, self._parts.tokenizer.decode(ids))
        self._continue(episode, ids)

    def _continue(self, episode: Episode, ids: list[int]) -> None:
        """Append tokens that the policy did not choose, and let it go on behind them."""
        if len(episode.tokens) + len(ids) >= self._parts.engine.sampler.cache_length:
            self._finish(episode, StopReason.CONTEXT_FULL, None)
            return
        episode.append_context(ids)
        # The token before the observation was pending: it enters the cache together with it.
        self._feeds.append(episode.slot_input(len(ids) + 1, self._parts.limits))

    def _consume(self, episode: Episode, emitted: SlotOutput) -> None:
        """Append what a slot sampled; when it paused, do what follows."""
        if episode.is_done:  # ended while this chunk was under way
            return
        episode.append_completion(emitted.tokens, emitted.logprobs)
        if self._observer is not None:
            self._observer.on_tokens(episode, emitted.tokens)
        if not emitted.is_paused:
            return
        match self._next_action(episode, protocol.Stop(emitted.stop)):
            case agents.Finish(stop=stop, answer=answer):
                self._finish(episode, stop, answer)
            case agents.UserMessage(text=text):
                episode.num_messages += 1
                self._continue(episode, self._parts.encode_user_message(episode, text))
            case action:
                future = self._start(episode, action)
                lag = self._parts.engine.sampler.observation_lag
                episode.pending_tool = PendingTool(
                    action=action, future=future, resume_chunk=self._chunk + lag
                )

    def _start(
        self, episode: Episode, action: agents.RunCode | agents.RunAndAnswer | agents.UseTool
    ) -> concurrent.futures.Future[ExecResult] | concurrent.futures.Future[str] | None:
        if not self._is_local(episode):
            return None
        if isinstance(action, agents.UseTool):
            return self._tools.submit(action.call)
        if self._observer is not None:
            self._observer.on_code(episode, action.code)
        return self._parts.sandbox.submit(action.code)

    def _next_action(self, episode: Episode, stop: protocol.Stop) -> agents.Action:
        """What follows a pause: a limit ends the trajectory, else the agent says."""
        limits = self._parts.limits
        if stop is protocol.Stop.NONE and episode.tokens[-1] != self._parts.tokenizer.eos_id:
            return agents.Finish(stop=episode.budget_stop_reason(limits), answer=None)
        turn = self._parts.tokenizer.decode(episode.tokens[episode.turn_start :])
        code = protocol.last_code(turn) if stop is protocol.Stop.CODE else None
        answer = protocol.final_answer(turn) if stop is protocol.Stop.ANSWER else None
        if code is not None and len(episode.code_calls) >= limits.max_code_calls:
            return agents.Finish(stop=StopReason.MAX_CODE_CALLS, answer=None)
        episode.num_answers += answer is not None
        pause = agents.ModelTurn(
            code=code, answer=answer, num_answers=episode.num_answers, text=turn
        )
        action = episode.request.agent.act(pause)
        if isinstance(action, agents.Finish | agents.RunAndAnswer):
            return action
        if (
            limits.max_turns is not None
            and len(episode.code_calls) + episode.num_messages + 2 > limits.max_turns
        ):
            return agents.Finish(stop=StopReason.MAX_TURNS, answer=None)
        if episode.num_tokens_left(limits) <= 0:
            return agents.Finish(stop=StopReason.MAX_TOKENS, answer=None)
        return action

    def _expire(self) -> None:
        """End the trajectories that have taken too long."""
        limit = self._parts.limits.max_wall_seconds
        if limit is None:
            return
        late = [row for row in self._episodes.values() if row.seconds > limit]
        self._parts.engine.cancel([row.slot for row in late])
        for row in late:
            _cancel(row)
            self._finish(row, StopReason.WALL_TIME, None)

    def _finish(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        """Have the trajectory judged and free its slot."""
        is_own = self._is_local(episode)
        verdict = self._scorers.submit(self._parts.score, episode, stop, answer, is_own)
        self.ended[episode.index] = is_own, verdict
        if self._observer is not None:
            self._observer.on_stop(episode, stop, answer)
        episode.is_done = True
        del self._episodes[episode.slot]
        self._free.append(episode.slot)

    def _is_local(self, episode: Episode) -> bool:
        """Whether this host runs the row's scripts and judges its answer."""
        return host_ownership.is_local(episode.slot, self._parts.engine.sampler.slots)


def _cancel(episode: Episode) -> None:
    """What it waits for is not needed any more."""
    if episode.pending_tool is not None and episode.pending_tool.future is not None:
        episode.pending_tool.future.cancel()
