"""What the endpoint sends: completions, chunks and token counts, as OpenAI's client reads them.

`content` is what the policy wrote. What it read of its scripts stands in `r1ci`, which OpenAI's
protocol does not have and its client passes on; docs/serving.md describes both.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.tools.serve.answer_service import STOP_STRING, End, Output, Words
from r1ci_jax.tools.serve.chat_request import EXTENSION, Outputs

DONE: Final = b"data: [DONE]\n\n"
_STOPPED_BY_ITSELF: Final = (StopReason.EOS.value, StopReason.ANSWER.value, STOP_STRING)


class Completion:
    """The constant part of a completion and of its chunks."""

    def __init__(self, model: str, outputs: Outputs, num_prompt_tokens: int) -> None:
        self._outputs: Outputs = outputs
        self._num_prompt_tokens = num_prompt_tokens
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, answers: Sequence["ChoiceText"]) -> dict[str, Any]:
        """Return the completion; all answers have ended."""
        choices = [
            {
                "index": index,
                "message": answer.message(self._outputs),
                "logprobs": None,
                "finish_reason": finish_reason(answer.end),
            }
            for index, answer in enumerate(answers)
        ]
        ends = [answer.end for answer in answers]
        object_name = {"object": "chat.completion"}
        return {**self._head, **object_name, "choices": choices, "usage": self.usage(ends)}

    def first_chunk(self, index: int) -> dict[str, Any]:
        """Return the chunk that opens a choice."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def chunk(self, index: int, event: Words | Output | End) -> dict[str, Any]:
        """Return the chunk of an event."""
        match event:
            case Words(text=text):
                return self._chunk(index, {"content": text})
            case Output():
                shown = {"content": event.text} if self._outputs == "inline" else {}
                return self._chunk(index, {**shown, EXTENSION: output_part(event)})
            case End():
                delta = {EXTENSION: {"type": "end", "stop": event.stop, "answer": event.answer}}
                return self._chunk(index, delta, finish_reason(event))

    def usage_chunk(self, ends: Sequence[End]) -> dict[str, Any]:
        """Return the chunk behind all choices that has the token counts."""
        return {**self._chunk(0, {}), "choices": [], "usage": self.usage(ends)}

    def usage(self, ends: Sequence[End]) -> dict[str, Any]:
        """Count tokens: the prompt's once, the sampled ones and those of outputs of all choices."""
        sampled = sum(end.num_sampled for end in ends)
        return {
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": sampled,
            "total_tokens": self._num_prompt_tokens + sampled,
            EXTENSION: {"output_tokens": sum(end.num_output for end in ends)},
        }

    def _chunk(
        self, index: int, delta: Mapping[str, Any], reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


class ChoiceText:
    """The text of one answer, as its events come."""

    def __init__(self) -> None:
        self._parts: list[dict[str, str]] = []
        self._end: End | None = None

    def add(self, event: Words | Output | End) -> None:
        """Append an event."""
        match event:
            case Words(text=text):
                if self._parts and self._parts[-1]["type"] == "text":
                    self._parts[-1]["text"] += text
                else:
                    self._parts.append({"type": "text", "text": text})
            case Output():
                self._parts.append(output_part(event))
            case End():
                self._end = event

    @property
    def end(self) -> End:
        """The last event."""
        assert self._end is not None, "the answer has not ended"
        return self._end

    def message(self, outputs: Outputs) -> dict[str, Any]:
        """Return the assistant's message."""
        shown = ("text", "output") if outputs == "inline" else ("text",)
        return {
            "role": "assistant",
            "content": "".join(each["text"] for each in self._parts if each["type"] in shown),
            "refusal": None,
            EXTENSION: {
                "parts": self._parts,
                "stop": self.end.stop,
                "answer": self.end.answer,
            },
        }


def output_part(output: Output) -> dict[str, str]:
    """Return the part of an answer that the policy read of a script."""
    return {"type": "output", "text": output.text, "status": output.status}


def finish_reason(end: End) -> str:
    """Return OpenAI's reason: `stop` where the policy or a stop string ended it, else a limit."""
    return "stop" if end.stop in _STOPPED_BY_ITSELF else "length"


def event_line(value: Mapping[str, Any]) -> bytes:
    """Return a server-sent event; its JSON is ASCII, so no text can end it early."""
    return b"data: " + json.dumps(value).encode("ascii") + b"\n\n"
