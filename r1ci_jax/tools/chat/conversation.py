"""A conversation in one slot of the sampler, with the interpreter in the loop.

Each message is put behind what the slot's cache row holds already: nothing is tokenised or computed
twice, however often the two take turns, and also after an answer was stopped in its middle.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from r1ci_jax.config import SamplerConfig, SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2, decoder_weights
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.runner import Observer, RolloutScheduler, Runner
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml, protocol
from r1ci_jax.text.tokenizer import Tokenizer

CHUNK_STEPS = 4
"""Tokens between two looks by the host: few, so that they appear as they come."""
PATIENCE = 0.05
"""Seconds between two looks whether a running script is still wanted."""
_BUCKETS = (16, 64, 256)


def make_runner(
    model: Qwen2,
    tokenizer: Tokenizer,
    sandbox: Sandbox,
    limits: TurnLimits,
    *,
    context: int,
    seed: int,
) -> Runner:
    """One slot of `context` tokens, compiled."""
    sampler = SamplerConfig(
        slots=1,
        cache_length=context,
        chunk_steps=CHUNK_STEPS,
        prefill_buckets=tuple(size for size in _BUCKETS if size <= context) or (context,),
        prefill_rows=1,
        dtype="bfloat16" if model.embed[...].dtype == jnp.bfloat16 else "float32",
    )
    table = stop_automaton.token_table(protocol.stop_machine(), tokenizer.token_bytes())
    engine = Engine(model.config, sampler, table, eos_id=tokenizer.eos_id, seed=seed)
    made = Runner(engine, sandbox, tokenizer, limits)
    made.load(decoder_weights(model, model.config))
    made.warm_up()
    return made


class Conversation:
    """Messages and answers, one after the other."""

    def __init__(
        self,
        runner: Runner,
        sampling: SamplingParams,
        observer: Observer,
        *,
        instructions: str = "",
    ) -> None:
        """`runner` has one slot; its limits hold for each answer. `head` opens conversations."""
        self._runner = runner
        self._limits = runner.limits
        self._sampling = sampling
        self._observer = observer
        self._head = instructions
        self._system = ""
        self._number = 0
        self._row: Episode | None = None

    def reset(self, system: str | None = None) -> None:
        """Forget what was said; `system` opens this and all later conversations."""
        if system is not None:
            self._system = system
        self._number += 1
        self._row = None

    def ask(self, message: str, is_stopped: Callable[[], bool]) -> bool:
        """Answer a message; False if `is_stopped` ended the answer.

        Raises:
            UserError: the message does not fit behind what was said; it is not part of it then.
        """
        row = self._with(message)
        spent = self._limits
        # Limits count from the beginning of a trajectory, here from that of the answer.
        self._runner.limits = dataclasses.replace(
            spent,
            max_new_tokens=sum(row.sampled) + spent.max_new_tokens,
            max_code_calls=len(row.code_calls) + spent.max_code_calls,
        )
        self._row = row
        chunks = RolloutScheduler(self._runner, [row], self._observer).chunks()
        try:
            while not is_stopped():
                script: concurrent.futures.Future[Any] | None = (
                    row.pending_tool and row.pending_tool.future
                )
                if script is not None and not script.done():
                    concurrent.futures.wait([script], PATIENCE)
                elif next(chunks, None) is None:
                    return True
            return False
        finally:
            chunks.close()
            row.pending_tool = None

    def _with(self, message: str) -> Episode:
        """The conversation, with the message at its end."""
        tokenizer, row = self._runner.tokenizer, self._row
        if row is None:
            row = Episode(index=0, request=self._request(message))
            ids = chatml.prompt_ids(tokenizer, self._head + message, system=self._system)
        else:
            ids = self._runner.encode_user_message(row, message)
        room = self._runner.engine.sampler.cache_length
        if len(row.tokens) + len(ids) >= room:
            raise UserError(
                f"the message has {len(ids)} tokens and the conversation {len(row.tokens)}, which "
                f"is more than the {room} that it can hold; /reset, or a larger --context"
            )
        # What stands before the last sampled token is in the cache for certain.
        if any(row.sampled):
            row.num_cached_tokens = len(row.sampled) - 1 - row.sampled[::-1].index(True)
        row.append_context(ids)
        row.is_done = False
        row.num_answers = row.num_messages = 0
        return row

    def _request(self, message: str) -> Request:
        example = Example(id="chat", task="", question=message, answer="", difficulty=0)
        return Request(
            example=example,
            agent=agents.CodeAgent(),
            rollout_id=(self._number, 0),
            sampling=self._sampling,
        )
