"""A teacher behind an endpoint: it answers the questions, with our interpreter in the loop."""

import dataclasses
from collections.abc import Sequence
from typing import cast, override

from r1ci_jax.data.demonstration_source import DemonstrationSource, Report
from r1ci_jax.data.demonstrations import Agent, Demonstration
from r1ci_jax.data.external import daemon_map, scripts, selection, written_answers
from r1ci_jax.data.external.endpoint_client import (
    Answer,
    EndpointClient,
    EndpointFailedError,
    Message,
    StoppedError,
)
from r1ci_jax.data.external.request_ledger import BudgetSpentError
from r1ci_jax.data.external.selection import Made, Rejection, Selection, Turn
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import first_stop, prompts, protocol
from r1ci_jax.text.protocol import Stop


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointTeacher(DemonstrationSource):
    """Asks an endpoint for trajectories, and keeps the correct ones.

    The endpoint always gets `prompts.INSTRUCTIONS`.
    """

    client: EndpointClient
    sandbox: Interpreter
    max_scripts: int = 8
    """The largest number of scripts of a trajectory (limits.max_code_calls)."""

    @override
    def teach(
        self, examples: Sequence[Example], collected: Selection, *, report: Report | None = None
    ) -> Made:
        """Ask for trajectories to all examples; a stopped run continues where it was.

        The result is in the order of the examples, and depends on the answers alone. When the
        budget is spent, `Made.stopped` says so, and what has been made so far is returned.

        Raises:
            UserError: The endpoint answers nothing, or no jail can be built.
        """
        config = self.client.config
        is_spent = False
        numbered = list(enumerate(examples))
        try:
            answered = daemon_map.map_in_threads(
                lambda item: self._answer(*item), numbered, threads=config.concurrency
            )
            for done, (offers, is_cut) in enumerate(answered, start=1):
                is_spent |= is_cut
                for offered in offers:
                    collected.offer(offered)
                if report is not None:
                    report(done, len(examples))
        finally:
            self.client.stop()
        return collected.made(stopped=self._spent() if is_spent else "")

    def _spent(self) -> str:
        ledger = self.client.ledger
        return (
            f"the endpoint's budget is spent: {ledger.prompt_tokens} tokens of prompts and "
            f"{ledger.answer_tokens} of answers, {ledger.cost:.2f} in money; raise it and run the "
            "same command again, which pays for no answer twice"
        )

    def _answer(
        self, number: int, example: Example
    ) -> tuple[list[Demonstration | Rejection], bool]:
        """Ask until a trajectory is correct; returns all offers, and True if the money ended."""
        config = self.client.config
        agent = cast(Agent, config.agents[number % len(config.agents)])
        offers: list[Demonstration | Rejection] = []
        for sample in range(config.samples_per_question):
            try:
                offered = self._sample(example, agent, sample)
            except BudgetSpentError:
                return offers, True
            except StoppedError:
                return offers, False
            except EndpointFailedError:
                offered = Rejection.ENDPOINT_FAILED
            offers.append(offered)
            if isinstance(offered, Demonstration):
                break
        return offers, False

    def _sample(self, example: Example, agent: Agent, sample: int) -> Demonstration | Rejection:
        """Sample one trajectory: the endpoint writes and our sandbox runs, up to an answer."""
        temperatures = self.client.config.temperatures or (None,)
        temperature = temperatures[sample % len(temperatures)]
        asked = prompts.render_question(example.question, agent, instructions=prompts.INSTRUCTIONS)
        messages: list[Message] = [{"role": "user", "content": asked}]
        turns: list[Turn] = []
        while True:
            answer = self.client.complete(messages, temperature=temperature, sample=sample)
            turn, reason = self._turn(answer, agent, turns)
            if turn is None:
                return reason or Rejection.NO_ANSWER
            turns.append(turn)
            reply = self._reply(turn)
            if not reply or (agent == "all_code" and turn.result is not None):
                break
            messages += [
                {"role": "assistant", "content": turn.text},
                {"role": "user", "content": reply},
            ]
        made = selection.demonstration(example, turns, agent=agent, instructions=self.instructions)
        if isinstance(made, Demonstration) and scripts.unsteady([made], self.sandbox):
            return Rejection.UNSTEADY
        return made

    def _turn(
        self, answer: Answer, agent: Agent, before: Sequence[Turn]
    ) -> tuple[Turn | None, Rejection | None]:
        """Cut an answer where sampling would have stopped, and run its script."""
        text, stop, _ = first_stop.split_turn(answer.text)
        num_scripts = sum(turn.result is not None for turn in before)
        if stop is Stop.CODE:
            if agent == "all_text":
                return None, Rejection.UNFINISHED_TURN
            if num_scripts == self.max_scripts:
                return None, Rejection.MANY_SCRIPTS
            result = scripts.run(protocol.last_code(text) or "", self.sandbox)
            return Turn(text=text, result=result), None
        if stop is Stop.NONE:
            if answer.finish_reason == "length":
                return None, Rejection.CUT_OFF
            if answer.finish_reason == "content_filter" or not answer.text.strip():
                return None, Rejection.DECLINED
            marked = written_answers.with_marks(answer.text)
            if marked is None:
                return None, Rejection.NO_ANSWER
            text = marked
        is_first = not any(turn.reply for turn in before)
        reply = prompts.CHECK_MESSAGE if agent == "codesteer" and is_first else ""
        return Turn(text=text, reply=reply), None

    def _reply(self, turn: Turn) -> str:
        """Return what the endpoint reads after a turn; empty if the trajectory ends."""
        if turn.result is None:
            return turn.reply
        shown = protocol.observation(turn.result).strip("\n")
        most = self.client.config.max_observation_characters
        if len(shown) <= most:
            return shown
        return shown[: most - most // 2] + protocol.CLIP_MARK + shown[len(shown) - most // 2 :]
