"""One thread that drives the slots, and answers to anybody's prompts.

The engine has one caller, so a thread of its own owns it. Others hand it prompts, and receive the
events of each answer as they come. Between two chunks the thread takes in what is new and drops
what nobody waits for; if nothing is open, or all slots wait for scripts, it sleeps until something
arrives.
"""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Final

from r1ci_jax.config import SamplingParams
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.scheduler import RolloutScheduler
from r1ci_jax.rollout.trajectory import RolloutId, StopReason
from r1ci_jax.tasks.base import Example
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.tools.chat.view import Characters
from r1ci_jax.tools.serve.stop_strings import StopStringWatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """What an answer is sampled from. Equal prompts have equal answers, whatever else runs."""

    tokens: tuple[int, ...]
    sampling: SamplingParams
    rollout_id: RolloutId
    """Names the answer's random stream."""
    max_new_tokens: int
    """Tokens that may be sampled; the outputs of scripts do not count."""
    stop_strings: tuple[str, ...] = ()
    """The answer ends before the first of these that the policy writes."""


@dataclasses.dataclass(frozen=True)
class Words:
    """The policy wrote this text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Output:
    """The policy reads this text, the output of its last script."""

    text: str
    status: str
    """The script's `Status`."""


@dataclasses.dataclass(frozen=True)
class End:
    """The answer has ended; nothing follows."""

    stop: str
    """A `StopReason`, or `STOP_STRING`."""
    answer: str | None
    """Text between the last answer marks, if that is why it stopped."""
    num_sampled: int
    num_output: int
    """Tokens of all outputs."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """The service has ended, and the answer with it; nothing follows."""

    reason: str


type Event = Words | Output | End | Failure
type Listener = Callable[[Event], None]
"""Receives the events of one answer, in the service's thread."""


STOP_STRING: Final = "stop_string"
"""Why an answer ended: the policy wrote one of the request's stop strings."""


class Busy(Exception):
    """Too many answers wait for a slot."""


class Stopped(Exception):
    """The service has ended."""


class Ticket:
    """An answer that is open, until its last event."""

    def __init__(self, prompt: Prompt, listener: Listener, tokenizer: Tokenizer) -> None:
        self.prompt = prompt
        self.listener = listener
        self.episode = _new_episode(prompt)
        self.num_sampled = 0
        self._characters = Characters(tokenizer)
        self._watch = StopStringWatch(prompt.stop_strings)

    def read(self, ids: Sequence[int]) -> bool:
        """Pass on the text of tokens that was not yet; return True at a stop string."""
        texts, is_cut = [], False
        for token in ids:
            self.num_sampled += 1
            text, is_cut = self._watch.feed(self._characters.decode([token]))
            texts.append(text)
            if is_cut:
                break
        self._say("".join(texts))
        return is_cut

    def end_turn(self) -> bool:
        """Pass on what is held back; return True if that has a stop string."""
        text, is_cut = self._watch.feed(self._characters.flush())
        self._say(text if is_cut else text + self._watch.flush())
        return is_cut

    def _say(self, text: str) -> None:
        if text:
            self.listener(Words(text))


class AnswerService:
    """Answers prompts with one runner, from `start` to `stop`."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_open: int,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over the runner; nobody else may use its engine from `start` to `stop`.

        At most `max_open` answers are open. `on_failure` is called, in the service's thread, if it
        ends by an error, which is then `failure`.
        """
        self.runner = runner
        self.failure: Exception | None = None
        self.on_failure = on_failure
        self._max_open = max_open
        self._lock = threading.Lock()
        self._arrived: list[Ticket] = []
        self._dropped: list[Ticket] = []
        self._is_stopping = False
        self._wake: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done if something has arrived that the thread has not taken in."""
        self._open: dict[Episode, Ticket] = {}
        """The answers that the thread has taken in and not closed."""
        self._cut: list[Episode] = []
        """Episodes whose answer a stop string has closed while they were decoded."""
        self._num_open = 0
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    # --- Called by any thread ---

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, prompts: Sequence[tuple[Prompt, Listener]]) -> list[Ticket]:
        """Have these answered, all or none; they enter free slots in this order.

        Raises:
            Busy: There is no room for all of them.
            Stopped: The service has ended.
        """
        tickets = [Ticket(*each, self.runner.tokenizer) for each in prompts]
        with self._lock:
            if self._is_stopping:
                raise Stopped
            if self._num_open + len(tickets) > self._max_open:
                raise Busy
            self._num_open += len(tickets)
            self._arrived += tickets
            self._wake_up()
        return tickets

    def drop(self, tickets: Sequence[Ticket]) -> None:
        """Give up the answers that are still open; no event of them follows."""
        with self._lock:
            self._dropped += tickets
            self._wake_up()

    def stop(self) -> None:
        """End all open answers with a `Failure`; later prompts are turned away."""
        with self._lock:
            self._is_stopping = True
            self._wake_up()

    def join(self) -> None:
        """Wait until the thread has ended, after `stop`."""
        self._thread.join()

    @property
    def num_open(self) -> int:
        """Number of answers that are open."""
        with self._lock:
            return self._num_open

    def _wake_up(self) -> None:
        if not self._wake.done():
            self._wake.set_result(None)

    # --- The service's thread ---

    def _run(self) -> None:
        reason = "the server is shutting down"
        try:
            self._answer_until_stopped()
        except Exception as error:  # handed to whoever started the service
            self.failure = error
            reason = f"the server has failed: {error}"
        with self._lock:
            self._is_stopping = True
            left = {*self._open.values(), *self._arrived} - {*self._dropped}
            self._num_open = 0
        for ticket in left:
            ticket.listener(Failure(reason))
        if self.failure is not None:
            self.on_failure()

    def _answer_until_stopped(self) -> None:
        runner = self.runner
        scheduler = RolloutScheduler(
            runner.engine,
            runner.sandbox,
            runner.tokenizer,
            runner.limits,
            (),
            runner.score,
            self,
        )
        try:
            while self._take_in(scheduler):
                next(scheduler.chunks(), None)
        finally:
            scheduler.close()

    def _take_in(self, scheduler: RolloutScheduler) -> bool:
        """Start and drop what has arrived; wait for it if nothing is open. False: stop."""
        while True:
            while self._cut:
                scheduler.cancel(self._cut.pop())
            if not self._open:
                self._wake.result()
            with self._lock:
                arrived, self._arrived = self._arrived, []
                dropped, self._dropped = self._dropped, []
                self._open |= {ticket.episode: ticket for ticket in arrived}
                self._wake = scheduler.interrupt = concurrent.futures.Future()
                if self._is_stopping:
                    return False
            scheduler.add(ticket.episode for ticket in arrived)
            for ticket in dropped:
                if ticket.episode in self._open:
                    scheduler.cancel(ticket.episode)
                    self._close(ticket)
            if self._open:
                return True

    def _close(self, ticket: Ticket) -> None:
        del self._open[ticket.episode]
        with self._lock:
            self._num_open -= 1

    def _end(self, ticket: Ticket, stop: str, answer: str | None) -> None:
        """Close the answer and say so."""
        episode = ticket.episode
        num_output = len(episode.sampled) - len(ticket.prompt.tokens) - sum(episode.sampled)
        self._close(ticket)
        ticket.listener(End(stop, answer, ticket.num_sampled, num_output))

    def _cut_off(self, ticket: Ticket) -> None:
        """End the answer at a stop string; its episode leaves its slot before the next chunk."""
        self._cut.append(ticket.episode)
        self._end(ticket, STOP_STRING, None)

    # --- Events of the scheduler; those of an episode that was cut off are of no interest ---

    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        """Pass on the text that is complete."""
        ticket = self._open[episode]
        if ticket.read(ids):
            self._cut_off(ticket)

    def on_code(self, episode: Episode, code: str) -> None:
        """End the text of the turn."""
        ticket = self._open.get(episode)
        if ticket is not None and ticket.end_turn():
            self._cut_off(ticket)

    def on_observation(self, episode: Episode, text: str) -> None:
        """Pass on what a script printed, as the policy reads it."""
        status = episode.code_calls[-1].result.status.value
        self._open[episode].listener(Output(text, status))

    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        """Close the answer."""
        ticket = self._open.get(episode)
        if ticket is None:
            return
        if ticket.end_turn():
            self._cut_off(ticket)
        else:
            self._end(ticket, stop.value, answer)


def _new_episode(prompt: Prompt) -> Episode:
    request = Request(
        example=Example(id="serve", task="", question="", answer="", difficulty=0),
        agent=agents.CodeAgent(),
        rollout_id=prompt.rollout_id,
        sampling=prompt.sampling,
    )
    episode = Episode(request=request, max_new_tokens=prompt.max_new_tokens)
    episode.append_context(prompt.tokens)
    return episode
