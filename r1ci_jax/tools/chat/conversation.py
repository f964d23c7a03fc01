"""A conversation in one slot of the sampler, with the interpreter in the loop.

Each message is appended to the content of the slot's cache row. So no token is computed twice,
whatever the number of messages, even after an answer was stopped midway.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.scheduler import Observer, RolloutScheduler
from r1ci_jax.rollout.trajectory import RolloutId
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml

POLL_SECONDS = 0.05
"""Seconds between two checks, while a script runs, whether the answer was stopped."""
_CODE_AGENT = agents.CodeAgent()


class Conversation:
    """An episode of alternating messages and answers."""

    def __init__(
        self,
        runner: Runner,
        sampling: SamplingParams,
        observer: Observer,
        *,
        instructions: str = "",
        guide: str = "",
        agent: agents.Agent = _CODE_AGENT,
    ) -> None:
        """Start a conversation in `runner`, which has one slot; its limits apply to each answer.

        `instructions` precede the first message of every conversation; the hint of the agent
        follows each message; `guide` is the prompt of CodeSteer's guide.
        """
        self._runner = runner
        self._sampling = sampling
        self._observer = observer
        self._instructions = instructions
        self._guide = guide
        self._agent = agent
        self._system = ""
        self._number = 0
        self._episode: Episode | None = None

    def reset(self, system: str | None = None) -> None:
        """Start a new conversation; `system` is the system message of this and all later ones."""
        if system is not None:
            self._system = system
        self._number += 1
        self._episode = None

    def ask(self, message: str, is_stopped: Callable[[], bool]) -> bool:
        """Answer a message; return False if `is_stopped` ended the answer.

        Raises:
            UserError: The message does not fit after the others; it is not added then.
        """
        episode = self._episode = self._append(message)
        runner = self._runner
        scheduler = RolloutScheduler(
            runner.engine,
            runner.sandbox,
            runner.tokenizer,
            _limits_of_next_answer(episode, runner.limits),
            [episode],
            runner.score,
            self._observer,
            guide=self._guide,
        )
        with contextlib.closing(scheduler):
            chunks = scheduler.chunks()
            while not is_stopped():
                script: concurrent.futures.Future[Any] | None = episode.pending_result
                if script is not None and not script.done():
                    concurrent.futures.wait([script], POLL_SECONDS)
                elif next(chunks, None) is None:
                    return True
            return False

    def _append(self, message: str) -> Episode:
        """Return the conversation's episode, with the message at its end."""
        tokenizer, episode = self._runner.tokenizer, self._episode
        message += self._agent.hint
        if episode is None:
            episode = Episode(request=self._request(message))
            ids = chatml.prompt_ids(tokenizer, self._instructions + message, system=self._system)
        else:
            is_closed = episode.tokens[-1] == tokenizer.eos_id
            ids = chatml.user_message_ids(tokenizer, message, is_closed=is_closed)
        capacity = self._runner.sampler.cache_length
        if len(episode.tokens) + len(ids) >= capacity:
            raise UserError(
                f"the message has {len(ids)} tokens and the conversation {len(episode.tokens)}, "
                f"which is more than the {capacity} that it can hold; /reset, or a larger --context"
            )
        episode.continue_with(ids)
        return episode

    def _request(self, message: str) -> Request:
        example = Example(id="chat", task="", question=message, answer="", difficulty=0)
        return Request(
            example=example,
            agent=self._agent,
            rollout_id=RolloutId(self._number, 0),
            sampling=self._sampling,
        )


def _limits_of_next_answer(episode: Episode, limits: TurnLimits) -> TurnLimits:
    """Return limits for the next answer; an episode's limits count from its start."""
    num_calls = len(episode.code_calls) + episode.num_tool_calls
    return dataclasses.replace(
        limits,
        max_new_tokens=sum(episode.sampled) + limits.max_new_tokens,
        max_code_calls=len(episode.code_calls) + limits.max_code_calls,
        max_turns=None if limits.max_turns is None else num_calls + limits.max_turns,
    )
