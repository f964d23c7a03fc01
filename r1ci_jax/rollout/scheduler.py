"""The rollout scheduler: it moves episodes through the slots and runs their tools meanwhile.

While the device decodes a chunk, the host reads the one before it, lets the agents decide and
starts scripts; so neither waits for the other, and what follows from a stop in one chunk enters
before the next chunk but one. Nobody waits for another's script: an episode whose script runs stays
in its slot, the others decode on, and whatever is ready before a chunk enters with it. So the order
of events depends on time, and the tokens do not: each is a function of the weights, the tokens
before it and the episode's own random numbers (docs/adr/0017).

When the cache has too few pages for the next chunk, the youngest of the decoding episodes gives up
its own. It waits in front of all that have not entered yet, and is then computed again from its
tokens. The oldest one never gives up anything to others, so all of them end (docs/adr/0018).
"""

import collections
import concurrent.futures
import heapq
import itertools
import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from typing import Any, Protocol

from r1ci_jax.config import TurnLimits
from r1ci_jax.rollout import agents, host_ownership, partial_rollouts
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.runtime import hosts, preemption
from r1ci_jax.sampling.engine import Engine, SlotOutput
from r1ci_jax.sandbox import ExecResult, Sandbox
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from r1ci_jax.text import chatml, long_output, protocol
from r1ci_jax.text.tokenizer import Tokenizer

TOOL_THREADS = 8
SCORER_THREADS = 4

type Score = Callable[[Episode, StopReason, str | None, bool], Trajectory]
"""Scores an episode, given why it stopped, its answer, and whether this host owns it."""


class Observer(Protocol):
    """Receives every event of the episodes as soon as the host knows it."""

    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        """The policy sampled these tokens."""
        ...

    def on_code(self, episode: Episode, code: str) -> None:
        """A script was handed to the interpreter."""
        ...

    def on_observation(self, episode: Episode, text: str) -> None:
        """The policy reads this text; if a script printed it, it is the last code call's."""
        ...

    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        """The episode ended."""
        ...


class RolloutScheduler:
    """Runs episodes on the slots of one engine until all are done, or `close` is called.

    The engine samples, the sandbox runs code, `score` turns an ended episode into a trajectory.
    """

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        tokenizer: Tokenizer,
        limits: TurnLimits,
        episodes: Iterable[Episode],
        score: Score,
        observer: Observer | None = None,
        *,
        guide: str = "",
    ) -> None:
        """`episodes` enter free slots in this order; each is taken when there is a slot for it.

        `guide` is the prompt of CodeSteer's guide; empty: there is none.
        """
        self.waited_seconds = 0.0
        """Time that all slots stood still for tools."""
        self.slot_waited_seconds = 0.0
        """Time that a slot stood still for tools, the mean over slots."""
        self._engine = engine
        self._sandbox = sandbox
        self._tokenizer = tokenizer
        self._limits = limits
        self._score = score
        self._observer = observer
        self._guide = guide
        self._tool_steps = partial_rollouts.tool_steps(engine.sampler)
        self._observations = long_output.ObservationEncoder(tokenizer, limits)
        self._queue = iter(episodes)
        self._next_episode = next(self._queue, None)
        """The first episode that has not been in a slot yet."""
        self._added: collections.deque[Episode] = collections.deque()
        """Episodes that `add` put behind all others."""
        self._evicted: list[tuple[int, Episode]] = []
        """Heap of the episodes that gave up their slot, by age."""
        self._ages = itertools.count()
        self.num_evicted = 0
        """How often an episode gave up its slot."""
        self.interrupt: concurrent.futures.Future[Any] | None = None
        """If it is done, no chunk waits for a tool, though all slots do."""
        self._episodes: dict[int, Episode] = {}
        """The episode in each slot."""
        self._free = list(range(engine.sampler.slots))
        self._dispatched: list[dict[int, Episode]] = []
        """The episode in each slot, for each chunk that is dispatched and not read."""
        self._num_done = 0
        self._tools = concurrent.futures.ThreadPoolExecutor(TOOL_THREADS, "tool")
        # Some tasks score an answer in the jail, which may take seconds: decoding does not wait.
        self._scorers = concurrent.futures.ThreadPoolExecutor(SCORER_THREADS, "scorer")

    def chunks(self) -> Generator[int]:
        """Decode chunk by chunk until all episodes are done; yields how many are."""
        while self._next_episode or self._evicted or self._episodes:
            preemption.raise_if_preempted()
            self._step()
            yield self._num_done

    def add(self, episodes: Iterable[Episode]) -> None:
        """Let further episodes enter after all others; `chunks` goes on until they are done."""
        self._added.extend(episodes)
        if self._next_episode is None:
            self._advance()

    @property
    def num_unwanted_slots(self) -> int:
        """Number of free slots that no episode waits for."""
        return 0 if self._peek() is not None else len(self._free)

    def cancel(self, episode: Episode) -> None:
        """Drop an episode, wherever it is: its slot is free for the next one, nothing is scored."""
        if episode.is_done:
            return
        episode.is_done = True
        self._evicted = [each for each in self._evicted if each[1] is not episode]
        heapq.heapify(self._evicted)
        if self._next_episode is episode:
            self._advance()
        elif episode in self._added:
            self._added.remove(episode)
        elif self._episodes.get(episode.slot) is episode:
            self._engine.cancel([episode.slot])
            self._cancel_tool(episode)
            self._free_slot(episode)

    def can_collect_scores(self, episodes: Collection[Episode]) -> bool:
        """Return True if all of them have ended, and no wait for a score would hold up others.

        On several hosts the end alone decides, which all of them see at the same chunk.
        """
        if not all(episode.is_done for episode in episodes):
            return False
        if hosts.count() > 1 or not (self._next_episode or self._evicted or self._episodes):
            return True
        scores = [episode.pending_score for episode in episodes]
        return all(score is None or score.done() for score in scores)

    def close(self) -> None:
        """End whatever runs: nothing goes on after it, and the engine can serve others."""
        self._engine.abandon()
        self._dispatched.clear()
        for episode in self._episodes.values():
            self._cancel_tool(episode)
        self._tools.shutdown(wait=False, cancel_futures=True)
        self._scorers.shutdown()

    def finish_tools(self, episodes: Collection[Episode]) -> None:
        """Wait for the tools of these episodes, and let the policy read the results.

        They can then be continued by another scheduler. What chunks sampled that were not read is
        dropped: it will be sampled again.
        """
        for episode in (*self._episodes.values(), *(each for _, each in self._evicted)):
            episode.seconds_before = episode.seconds
        waiting = [episode for episode in self._waiting() if episode in episodes]
        began = time.monotonic()
        host_ownership.wait_for_all([each.pending_result for each in waiting])
        self.waited_seconds += time.monotonic() - began
        self._read_results(waiting)
        assert not any(each.pending_action for each in waiting), "a host misses a result"

    def collect_scores(self, episodes: Iterable[Episode]) -> None:
        """Wait for the scores of those that ended, and store their trajectories in them."""
        ended = [(each, each.pending_score) for each in episodes if each.pending_score is not None]
        scored = [(self._is_local(episode), score.result()) for episode, score in ended]
        trajectories = host_ownership.gather_scores(scored)
        for (episode, _), trajectory in zip(ended, trajectories, strict=True):
            episode.trajectory, episode.pending_score = trajectory, None

    def _step(self) -> None:
        """Dispatch one chunk, then handle every stop in the one before it."""
        self._read_results(self._waiting())
        self._grow()
        self._fill_free_slots()
        self._wait_if_idle()
        self._engine.flush()
        self._engine.dispatch()
        self._dispatched.append(dict(self._episodes))
        if len(self._dispatched) > 1:
            episodes = self._dispatched.pop(0)
            for output in self._engine.collect():
                if (episode := episodes.get(output.slot)) is not None:
                    self._consume(episode, output)
            self._expire()

    # --- Slots and memory ---

    def _fill_free_slots(self) -> None:
        """Put the next episodes into free slots, lowest slot first, while there is memory."""
        self._free.sort(reverse=True)
        while self._free and (episode := self._peek()) is not None:
            # The lowest slot of each part of the mesh stands for all that share its memory.
            lowest = {self._engine.shard_of(slot): slot for slot in self._free}
            slots = [episode.slot] if episode.num_cached_tokens else sorted(lowest.values())
            slot = next((slot for slot in slots if self._enters(episode, slot)), None)
            if slot is None:
                return
            self._free.remove(slot)
            self._episodes[slot] = episode
            self._pop()

    def _peek(self) -> Episode | None:
        """Return the episode that enters next: of those that gave up their slot, the oldest."""
        return self._evicted[0][1] if self._evicted else self._next_episode

    def _pop(self) -> None:
        """Remove the episode that `_peek` returned from those that wait for a slot."""
        if self._evicted:
            heapq.heappop(self._evicted)
        elif self._next_episode is not None:
            self._next_episode.age = next(self._ages)
            self._next_episode.began = time.monotonic()
            self._advance()

    def _advance(self) -> None:
        """Take the next of the episodes that have not been in a slot yet."""
        self._next_episode = next(self._queue, None)
        if self._next_episode is None and self._added:
            self._next_episode = self._added.popleft()

    def _enters(self, episode: Episode, slot: int) -> bool:
        """Stage the episode for a free slot, unless others would soon have to make room for it."""
        episode.slot = slot
        count = len(episode.tokens) - episode.num_cached_tokens
        # One page for each that will need one soon.
        spare = self._engine.num_growing(slot)
        return self._engine.stage(episode.slot_input(count, self._limits), spare=spare)

    def _resume(self, episode: Episode, count: int) -> None:
        """Let the episode's slot read the last `count` tokens and decode on."""
        while not self._engine.stage(episode.slot_input(count, self._limits)):
            if not self._evict_youngest(episode):
                return

    def _grow(self) -> None:
        """See to it that all decoding slots have memory for the next chunk."""
        while (slot := self._engine.grow()) is not None:
            self._evict_youngest(self._episodes[slot])

    def _evict_youngest(self, needy: Episode) -> bool:
        """Evict the youngest decoding episode in whose memory `needy` lies.

        Returns False if that is `needy` itself.
        """
        engine = self._engine
        shard = engine.shard_of(needy.slot)
        others = [
            episode
            for slot, episode in self._episodes.items()
            if engine.shard_of(slot) == shard and engine.is_decoding(slot)
        ]
        youngest = max([needy, *others], key=lambda episode: episode.age)
        self._engine.evict(youngest.slot)
        del self._episodes[youngest.slot]
        self._free.append(youngest.slot)
        for episodes in self._dispatched:  # what it samples meanwhile, it will sample again
            episodes.pop(youngest.slot, None)
        youngest.num_cached_tokens = 0
        heapq.heappush(self._evicted, (youngest.age, youngest))
        self.num_evicted += 1
        return youngest is not needy

    # --- Tools ---

    def _wait_if_idle(self) -> None:
        """If all episodes in slots wait for tools, wait for the first result."""
        waiting = self._waiting()
        if not waiting or len(waiting) < len(self._episodes):
            return
        began, limit = time.monotonic(), self._limits.max_wall_seconds
        left = None if limit is None else limit - max(each.seconds for each in waiting)
        futures = [each.pending_result for each in waiting]
        host_ownership.wait_for_any([*futures, self.interrupt], left)
        self.waited_seconds += time.monotonic() - began
        self._read_results(waiting)

    def _waiting(self) -> list[Episode]:
        """Return the episodes that wait for a tool, by slot."""
        in_slots = [episode for _, episode in sorted(self._episodes.items())]
        return [episode for episode in in_slots if episode.pending_action is not None]

    def _read_results(self, waiting: Sequence[Episode]) -> None:
        """Resume those of the episodes whose tools are done."""
        results = host_ownership.gather_finished(
            {episode.slot: episode.pending_result for episode in waiting}
        )
        for episode in waiting:
            if episode.slot in results:
                self._read_result(episode, results[episode.slot])

    def _read_result(self, episode: Episode, result: host_ownership.ToolResult) -> None:
        """Let the policy read the result of its tool, or end the episode with it."""
        action = episode.pending_action
        self._end_wait(episode)
        if isinstance(result, str):
            episode.messages.append(result)
            episode.num_tool_calls += 1
            self._observe(episode, protocol.tool_text(result))
            return
        assert isinstance(action, agents.RunCode)
        episode.code_calls.append(CodeCall(code=action.code, result=result))
        if result.status in SANDBOX_FAULTS:
            self._finish(episode, StopReason.SANDBOX_FAULT, None)
        elif action.is_answer:
            answer = protocol.final_answer(result.stdout) or result.stdout.strip()
            self._finish(episode, StopReason.ANSWER, answer)
        else:
            self._observe(episode, protocol.observation(result))

    def _observe(self, episode: Episode, text: str) -> None:
        """Let the policy read the output of a script or a tool, and continue."""
        ids = self._observations.encode(text)
        if self._observer is not None:
            self._observer.on_observation(episode, self._tokenizer.decode(ids))
        self._continue(episode, ids)

    def _send(self, episode: Episode, action: agents.UserMessage | agents.AskGuide) -> None:
        """Insert a user message, and let the policy answer it."""
        for_guide = isinstance(action, agents.AskGuide)
        text = action.prompt if isinstance(action, agents.AskGuide) else action.text
        episode.messages.append(text)
        episode.clock += self._tool_steps
        is_closed = episode.tokens[-1] == self._tokenizer.eos_id
        ids = chatml.user_message_ids(self._tokenizer, text, is_closed=is_closed)
        self._continue(episode, ids, for_guide=for_guide)

    def _continue(self, episode: Episode, ids: list[int], *, for_guide: bool = False) -> None:
        """Append context tokens, and let the policy continue after them."""
        if len(episode.tokens) + len(ids) >= self._engine.sampler.cache_length:
            answer = self._standing_answer(episode, for_guide=for_guide)
            self._finish(episode, StopReason.CONTEXT_FULL, answer)
            return
        episode.append_context(ids, for_guide=for_guide)
        # The token before the observation was pending: it enters the cache together with it.
        self._resume(episode, len(ids) + 1)

    # --- The policy's turns ---

    def _consume(self, episode: Episode, output: SlotOutput) -> None:
        """Append what a slot sampled; when it stopped, start what follows."""
        if episode.is_done:  # ended while this chunk was decoded
            return
        episode.append_completion(output.tokens, output.logprobs)
        episode.clock += len(output.tokens)
        if self._observer is not None:
            self._observer.on_tokens(episode, output.tokens)
        if not output.is_paused:
            return
        match self._next_action(episode, protocol.Stop(output.stop)):
            case agents.Finish(stop=stop, answer=answer):
                self._finish(episode, stop, answer)
            case agents.UserMessage() | agents.AskGuide() as message:
                self._send(episode, message)
            case action:
                episode.pending_action = action
                episode.pending_since = time.monotonic()
                episode.clock += self._tool_steps
                episode.pending_result = self._start_tool(episode, action)

    def _start_tool(
        self, episode: Episode, action: agents.RunCode | agents.UseTool
    ) -> concurrent.futures.Future[ExecResult] | concurrent.futures.Future[str] | None:
        if not self._is_local(episode):
            return None
        if isinstance(action, agents.UseTool):
            return self._tools.submit(action.call)
        if self._observer is not None:
            self._observer.on_code(episode, action.code)
        return self._sandbox.submit(action.code)

    def _next_action(self, episode: Episode, stop: protocol.Stop) -> agents.Action:
        """Decide what follows a stop: a limit ends the episode, else its agent decides."""
        limits = self._limits
        if stop is protocol.Stop.NONE and episode.tokens[-1] not in self._tokenizer.stop_token_ids:
            answer = self._standing_answer(episode)
            return agents.Finish(stop=episode.budget_stop_reason(limits), answer=answer)
        turn = self._model_turn(episode, stop)
        if turn.code is not None and len(episode.code_calls) >= limits.max_code_calls:
            return agents.Finish(stop=StopReason.MAX_CODE_CALLS, answer=None)
        episode.num_answers = turn.num_answers
        action = episode.request.agent.act(turn)
        match action:
            case agents.Finish() | agents.RunCode(is_answer=True):
                return action
        answer = self._standing_answer(episode, for_guide=isinstance(action, agents.AskGuide))
        num_turns = len(episode.code_calls) + len(episode.messages) + 1
        if limits.max_turns is not None and num_turns >= limits.max_turns:
            return agents.Finish(stop=StopReason.MAX_TURNS, answer=answer)
        if episode.num_tokens_left(limits) <= 0:
            return agents.Finish(stop=StopReason.MAX_TOKENS, answer=answer)
        return action

    def _model_turn(self, episode: Episode, stop: protocol.Stop) -> agents.ModelTurn:
        """Read the turn that has just ended; a script in the guide's words is not run."""
        is_guide = episode.is_guide
        ids = episode.tokens[episode.turn_start :]
        if ids[-1] in self._tokenizer.stop_token_ids:
            ids = ids[:-1]
        text = self._tokenizer.decode(ids)
        is_code = stop is protocol.Stop.CODE and not is_guide
        answer = protocol.final_answer(text) if stop is protocol.Stop.ANSWER else None
        return agents.ModelTurn(
            code=protocol.last_code(text) if is_code else None,
            answer=answer,
            num_answers=episode.num_answers + (answer is not None and not is_guide),
            text=text,
            messages=tuple(episode.messages),
            guide=self._guide,
            num_guide_turns=episode.num_guide_turns,
            is_guide=is_guide,
            guided_answer=episode.last_answer(self._tokenizer) if is_guide else None,
        )

    def _standing_answer(self, episode: Episode, *, for_guide: bool = False) -> str | None:
        """Return the answer that the guide reads or is to read (`for_guide`).

        It stands when a limit ends the trajectory before the guide has spoken.
        """
        is_read = for_guide or episode.is_guide
        return episode.last_answer(self._tokenizer) if is_read else None

    # --- Ends ---

    def _expire(self) -> None:
        """End the episodes that have taken too long."""
        limit = self._limits.max_wall_seconds
        if limit is None:
            return
        late = [episode for episode in self._episodes.values() if episode.seconds > limit]
        if not late:
            return
        self._engine.cancel([episode.slot for episode in late])
        for episode in late:
            self._cancel_tool(episode)
            self._finish(episode, StopReason.WALL_TIME, self._standing_answer(episode))

    def _finish(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        """Have the episode scored, and free its slot."""
        is_local = self._is_local(episode)
        episode.pending_score = self._scorers.submit(self._score, episode, stop, answer, is_local)
        self._num_done += 1
        if self._observer is not None:
            self._observer.on_stop(episode, stop, answer)
        episode.is_done = True
        self._free_slot(episode)

    def _free_slot(self, episode: Episode) -> None:
        """Let others have the slot of an episode that has ended."""
        del self._episodes[episode.slot]
        self._free.append(episode.slot)
        self._engine.retire([episode.slot])

    def _is_local(self, episode: Episode) -> bool:
        """True if this host runs the episode's tools and scores its answer."""
        return host_ownership.is_local(episode.slot, self._engine.sampler.slots)

    def _cancel_tool(self, episode: Episode) -> None:
        """Cancel the tool that the episode waits for, if it waits for one."""
        if episode.pending_result is not None:
            episode.pending_result.cancel()
        if episode.pending_action is not None:
            self._end_wait(episode)

    def _end_wait(self, episode: Episode) -> None:
        """Note that the episode waits no longer."""
        episode.pending_action = episode.pending_result = None
        seconds = time.monotonic() - episode.pending_since
        self.slot_waited_seconds += seconds / self._engine.sampler.slots
