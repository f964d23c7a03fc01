"""Long output: what the policy reads of an observation that has too many tokens.

Rollouts, the encoding of demonstrations and the chat share this one rule, so a demonstration is
read as the same tokens that a rollout would have appended.
"""

from typing import Final

from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.text import protocol
from r1ci_jax.text.tokenizer import Tokenizer

NOTICE: Final = "(the output is too long to be shown)"
"""Stands in place of long output under limits.observation_rule = "replace"."""

_HEADER: Final = f"\n{protocol.OBSERVATION_PREFIX}\n"


class ObservationEncoder:
    """Encodes observations in at most `limits.max_observation_tokens` tokens."""

    def __init__(self, tokenizer: Tokenizer, limits: TurnLimits) -> None:
        """Take the rule and the limit of `limits`.

        Raises:
            UserError: The limit has no room for the text that marks shortened output.
        """
        self._tokenizer = tokenizer
        self._limit, self._rule = limits.max_observation_tokens, limits.observation_rule
        self._clip_ids = tokenizer.encode(protocol.CLIP_MARK)
        mark = protocol.CLIP_MARK if self._rule == "clip" else _notice(_HEADER)
        num_marking = len(tokenizer.encode(mark))
        if self._limit < num_marking + (2 if self._rule == "clip" else 0):
            raise UserError(
                f"limits.max_observation_tokens = {self._limit} is too small for "
                f"the {num_marking} tokens that mark shortened output; raise it"
            )

    def encode(self, text: str) -> list[int]:
        """Return the ids of an observation or a tool's text, shortened if there are too many."""
        ids = self._tokenizer.encode(text)
        if len(ids) <= self._limit:
            return ids
        if self._rule == "clip":
            decode = self._tokenizer.decode_bytes
            return protocol.clip_observation_ids(ids, self._limit, self._clip_ids, decode)
        return self._tokenizer.encode(_notice(text))


def _notice(text: str) -> str:
    """Return what replaces a text: a script's output keeps the line that announces it."""
    header = _HEADER if text.startswith(_HEADER) else "\n"
    return f"{header}{NOTICE}\n"
