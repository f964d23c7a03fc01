"""ChatML, the message format of Qwen2.5, as token ids.

Messages are assembled from ids, never rendered to one string and tokenized again. Message marks are
added only here, so a question that spells them stays a question. Qwen's own template adds a default
system message whenever none is given, even before a later message that is rendered by itself. This
module never adds a message that the caller did not pass.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from r1ci_jax.text.tokenizer import MESSAGE_END, MESSAGE_START, Tokenizer

type Role = Literal["system", "user", "assistant"]


def prompt_ids(tokenizer: Tokenizer, question: str, *, system: str = "") -> list[int]:
    """Return the ids before the policy's first token; no system message if `system` is empty."""
    system_ids = _message_ids(tokenizer, "system", system) if system else []
    return [
        *system_ids,
        *_message_ids(tokenizer, "user", question),
        *_assistant_ids(tokenizer),
    ]


def user_message_ids(tokenizer: Tokenizer, text: str, *, is_closed: bool = False) -> list[int]:
    """Return the ids between the text of an assistant message and that of the next one.

    `is_closed` means that the policy closed its message with the end mark; no other is added.
    """
    return [
        *([] if is_closed else [tokenizer.eos_id]),
        *tokenizer.encode("\n"),
        *_message_ids(tokenizer, "user", text),
        *_assistant_ids(tokenizer),
    ]


class ChatMessage(NamedTuple):
    """A message of a conversation: its role, and its text in segments of one writer each."""

    role: Role
    segments: tuple[str, ...]


def conversation_ids(tokenizer: Tokenizer, messages: Iterable[ChatMessage]) -> list[int]:
    """Return the ids of a conversation, before the policy's answer to its last message.

    Each segment begins a new token, as the output of a script does in a trajectory.
    """
    ids: list[int] = []
    for role, segments in messages:
        if role == "assistant":
            ids += _assistant_ids(tokenizer)
            for segment in segments:
                ids += tokenizer.encode(segment)
            ids += [tokenizer.eos_id, *tokenizer.encode("\n")]
        else:
            ids += _message_ids(tokenizer, role, "".join(segments))
    return [*ids, *_assistant_ids(tokenizer)]


def render_prompt(question: str) -> str:
    """Return the text of `prompt_ids`."""
    return f"{MESSAGE_START}user\n{question}{MESSAGE_END}\n{MESSAGE_START}assistant\n"


def render_user_message(text: str) -> str:
    """Return the text of `user_message_ids`."""
    return f"{MESSAGE_END}\n{render_prompt(text)}"


def _message_ids(tokenizer: Tokenizer, role: str, content: str) -> list[int]:
    return [
        tokenizer.im_start_id,
        *tokenizer.encode(f"{role}\n{content}"),
        tokenizer.eos_id,
        *tokenizer.encode("\n"),
    ]


def _assistant_ids(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.im_start_id, *tokenizer.encode("assistant\n")]
