"""Demonstrations as token ids, with the mask of what the policy must learn."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.text import chat, protocol
from r1ci_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row, not yet padded."""

    tokens_T: np.ndarray
    """int32 ids: prompt, trajectory, end of turn."""
    sampled_T: np.ndarray
    """bool: the policy chooses this token, so it is learnt."""


def encode(
    demonstration: Demonstration, tokenizer: Tokenizer, *, observation_tokens: int | None = None
) -> Encoded:
    """Encode segment by segment, exactly as a rollout would have put the ids together.

    Interpreter output longer than `observation_tokens` loses its middle, also as in a rollout.
    """
    assert demonstration.segments[-1].role == "assistant", (
        "a trajectory ends with the policy's words"
    )
    ids = chat.prompt_ids(tokenizer, demonstration.prompt)
    sampled = [False] * len(ids)
    for segment in demonstration.segments:
        added = _segment_ids(segment, tokenizer, observation_tokens)
        ids += added
        sampled += [segment.sampled] * len(added)
    ids.append(tokenizer.eos_id)
    sampled.append(demonstration.segments[-1].sampled)
    return Encoded(tokens_T=np.array(ids, np.int32), sampled_T=np.array(sampled, np.bool_))


def encode_all(
    demonstrations: Iterable[Demonstration],
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    observation_tokens: int | None = None,
) -> list[Encoded]:
    """Encode all; one that is longer than `sequence_length` is the user's to mend."""
    rows = []
    for demonstration in demonstrations:
        row = encode(demonstration, tokenizer, observation_tokens=observation_tokens)
        if len(row.tokens_T) > sequence_length:
            raise UserError(
                f"the demonstration of {demonstration.example_id} has {len(row.tokens_T)} tokens, "
                f"more than sft.sequence_length = {sequence_length}; raise it or ask easier ones"
            )
        rows.append(row)
    return rows


def texts(demonstrations: Iterable[Demonstration]) -> list[str]:
    """What a tokenizer of the run should be trained on: every stretch, as it is encoded."""
    found = []
    for demonstration in demonstrations:
        found += [f"user\n{demonstration.prompt}", "assistant\n"]
        for segment in demonstration.segments:
            user = segment.role == "user"
            found += [f"user\n{segment.text}", "assistant\n"] if user else [segment.text]
    return found


def _segment_ids(
    segment: Segment, tokenizer: Tokenizer, observation_tokens: int | None
) -> list[int]:
    match segment.role:
        case "user":
            return chat.user_turn_ids(tokenizer, segment.text)
        case "observation" if observation_tokens is not None:
            marker = tokenizer.encode(protocol.CLIP_MARK)
            ids = tokenizer.encode(segment.text)
            return protocol.clip_observation_ids(ids, observation_tokens, marker)
        case _:
            return tokenizer.encode(segment.text)
