"""Demonstrations as token ids, with the mask of the tokens that the policy learns."""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from r1ci_jax.config import TurnLimits
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.text import chatml
from r1ci_jax.text.long_output import ObservationEncoder
from r1ci_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row before padding."""

    tokens_T: np.ndarray
    """The int32 ids of the prompt, the trajectory and the end of turn."""
    sampled_T: np.ndarray
    """The bool mask: True where the token is learned, because the policy chooses it."""


def encode(
    demonstration: Demonstration,
    tokenizer: Tokenizer,
    *,
    limits: TurnLimits | None = None,
    learn_observations: bool = False,
) -> Encoded:
    """Encode segment by segment, exactly as a rollout would have concatenated the ids.

    Interpreter output that is longer than `limits` allow is shortened, as in a rollout. It is
    context, unless `learn_observations` makes it a target like the policy's words.

    Raises:
        UserError: The tokenizer would render the conversation differently, or `limits` have no room
            for the text that marks shortened output.
    """
    observations = None if limits is None else ObservationEncoder(tokenizer, limits)
    assert demonstration.segments[-1].role == "assistant", (
        "a trajectory ends with the policy's words"
    )
    _require_same_rendering(demonstration, tokenizer)
    ids = chatml.prompt_ids(tokenizer, demonstration.prompt)
    sampled = [False] * len(ids)
    for segment in demonstration.segments:
        added = _segment_ids(segment, tokenizer, observations)
        ids += added
        is_learned = segment.sampled or (learn_observations and segment.role == "observation")
        sampled += [is_learned] * len(added)
    ids.append(tokenizer.eos_id)
    sampled.append(demonstration.segments[-1].sampled)
    return Encoded(tokens_T=np.array(ids, np.int32), sampled_T=np.array(sampled, np.bool_))


def encode_all(
    demonstrations: Iterable[Demonstration],
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    limits: TurnLimits | None = None,
    learn_observations: bool = False,
) -> list[Encoded]:
    """Encode all demonstrations; raise UserError for one longer than `sequence_length`."""
    rows = []
    for demonstration in demonstrations:
        row = encode(demonstration, tokenizer, limits=limits, learn_observations=learn_observations)
        if len(row.tokens_T) > sequence_length:
            raise UserError(
                f"the demonstration of {demonstration.example_id} has {len(row.tokens_T)} tokens, "
                f"more than sft.sequence_length = {sequence_length}; raise it or ask easier ones"
            )
        rows.append(row)
    return rows


def iterate_texts(demonstrations: Iterable[Demonstration]) -> list[str]:
    """Return the texts to train a tokenizer on: every segment, as it is encoded."""
    found = []
    for demonstration in demonstrations:
        found += [f"user\n{demonstration.prompt}", "assistant\n"]
        for segment in demonstration.segments:
            user = segment.role == "user"
            found += [f"user\n{segment.text}", "assistant\n"] if user else [segment.text]
    return found


def _require_same_rendering(demonstration: Demonstration, tokenizer: Tokenizer) -> None:
    """Compare the ids concatenated segment by segment with those of the whole text.

    Within a turn, a segment of another writer begins a new token (ADR 0004), and a turn mark that a
    text contains stays text: there the bytes must agree. Everywhere else the ids must agree.
    """
    ids = chatml.prompt_ids(tokenizer, demonstration.prompt)
    text = chatml.render_prompt(demonstration.prompt)
    for segment in demonstration.segments:
        ids += _segment_ids(segment, tokenizer, None)
        is_turn = segment.role == "user"
        text += chatml.render_user_message(segment.text) if is_turn else segment.text
    whole = tokenizer.encode_marked(text)
    writers = [segment.role for segment in demonstration.segments]
    has_borders = any("user" not in pair for pair in itertools.pairwise(writers))
    texts = [demonstration.prompt, *(segment.text for segment in demonstration.segments)]
    spells_marks = any(mark in each for mark in tokenizer.marks for each in texts)
    if has_borders or spells_marks:
        is_same = tokenizer.decode_bytes(ids) == tokenizer.decode_bytes(whole)
    else:
        is_same = ids == whole
    if not is_same:
        raise UserError(
            f"the tokenizer renders the demonstration of {demonstration.example_id} otherwise than "
            "its turns one by one, so that its mask would be wrong; use a tokenizer with Qwen2.5's "
            "ChatML tokens"
        )


def _segment_ids(
    segment: Segment, tokenizer: Tokenizer, observations: ObservationEncoder | None
) -> list[int]:
    match segment.role:
        case "user":
            return chatml.user_message_ids(tokenizer, segment.text)
        case "observation" if observations is not None:
            return observations.encode(segment.text)
        case _:
            return tokenizer.encode(segment.text)
