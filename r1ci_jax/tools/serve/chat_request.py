"""The body of a request for a chat completion, read and checked; nothing in it is ignored.

A field that this endpoint cannot honour is an error that names it, unless its value asks for what
happens anyway (`presence_penalty` 0).
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn

from r1ci_jax.config import SamplingParams
from r1ci_jax.ranges import LARGEST_INT32
from r1ci_jax.text.chatml import ChatMessage

EXTENSION: Final = "r1ci"
"""Key of what OpenAI's protocol has no place for."""
MAX_CHOICES: Final = 128
MAX_STOP_STRINGS: Final = 4

type Outputs = Literal["separate", "inline"]
"""Place of the outputs of scripts: apart from the content, or in it, as the policy reads them."""

_NEUTRAL: Final[Mapping[str, Sequence[Any]]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "store": (False,),
}
"""Fields that are not honoured, with the values that change nothing."""
_MESSAGE_ROLES: Final = ("system", "developer", "user", "assistant")
_EMPTY_MESSAGE_FIELDS: Final = (
    *("refusal", "annotations", "audio", "function_call", "tool_calls", "reasoning_content"),
)
"""Fields of an assistant's message that clients send back empty."""


class RequestError(Exception):
    """A request that cannot be answered, as OpenAI's protocol describes it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request for a chat completion."""

    model: str
    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams
    max_tokens: int | None = None
    seed: int | None = None
    num_choices: int = 1
    stop_strings: tuple[str, ...] = ()
    is_stream: bool = False
    includes_usage: bool = False
    outputs: Outputs = "separate"


def parse(body: bytes, sampling: SamplingParams, outputs: Outputs) -> ChatRequest:
    """Read a body; where it says nothing, `sampling` and `outputs` apply.

    Raises:
        RequestError: It is no such request, or asks for what cannot be done.
    """
    fields = _Fields(_parse_object(body))
    tokens = {
        name: fields.integer(name, 1, LARGEST_INT32)
        for name in ("max_completion_tokens", "max_tokens")
    }
    given = {value for value in tokens.values() if value is not None}
    if len(given) > 1:
        _fail("max_tokens and max_completion_tokens differ; send one of them", "max_tokens")
    is_stream = fields.boolean("stream")
    request = ChatRequest(
        model=fields.model(),
        messages=_parse_messages(fields.take("messages")),
        sampling=dataclasses.replace(sampling, **fields.sampling()),
        max_tokens=given.pop() if given else None,
        seed=fields.integer("seed", -(1 << 63), (1 << 63) - 1),
        num_choices=fields.integer("n", 1, MAX_CHOICES) or 1,
        stop_strings=_parse_stop(fields.take("stop")),
        is_stream=is_stream,
        includes_usage=_parse_stream_options(fields.take("stream_options"), is_stream),
        outputs=_parse_extension(fields.take(EXTENSION), outputs),
    )
    fields.require_all_read()
    return request


class _Fields:
    """The fields of a body that were not read yet; null stands for a field that is not there."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in body.items() if value is not None}

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def model(self) -> str:
        value = self.take("model")
        if not isinstance(value, str):
            _fail("model must name a model; GET /v1/models lists them", "model")
        return value

    def boolean(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool | None):
            _fail(f"{name} must be true or false, not {_shown(value)}", name)
        return bool(value)

    def integer(self, name: str, low: int, high: int | None = None) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            _fail(f"{name} must be an integer of at least {low}, not {_shown(value)}", name)
        if high is not None and value > high:
            _fail(f"{name} must be at most {high}, not {_shown(value)}", name)
        return value

    def number(self, name: str, high: float, is_allowed: Callable[[float], bool]) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value > high:
            _fail(f"{name} must be a number of at most {high:g}, not {_shown(value)}", name)
        # In this order: a huge negative integer is no float.
        if not is_allowed(value) or not math.isfinite(value):
            _fail(f"{name} cannot be {_shown(value)}", name)
        return float(value)

    def sampling(self) -> dict[str, Any]:
        """Take what changes the distribution of a token."""
        found = {
            "temperature": self.number("temperature", 2, lambda value: value >= 0),
            "top_p": self.number("top_p", 1, lambda value: value > 0),
            "min_p": self.number("min_p", 1, lambda value: value >= 0),
            "top_k": self.integer("top_k", 0, LARGEST_INT32),
            "repetition_penalty": self.number("repetition_penalty", 2, lambda value: value >= 0.01),
        }
        return {name: value for name, value in found.items() if value is not None}

    def require_all_read(self) -> None:
        for name, value in self._left.items():
            if name not in _NEUTRAL:
                name = name[:60]
                _fail(
                    f"{name} is not a field that this endpoint honours; leave it out",
                    name,
                    "unsupported_parameter",
                )
            if value not in _NEUTRAL[name]:
                _fail(
                    f"{name} is not supported, so it cannot be {_shown(value)}; leave it out",
                    name,
                    "unsupported_parameter",
                )


def _parse_object(body: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(body, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _parse_messages(value: Any) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list) or not value:
        _fail("messages must be a list of at least one message", "messages")
    messages = tuple(_parse_message(each, f"messages[{n}]") for n, each in enumerate(value))
    for number, message in enumerate(messages):
        if message.role == "system" and number:
            _fail("a system message can only be the first one", f"messages[{number}].role")
    if messages[-1].role != "user":
        _fail("the last message must be the user's", f"messages[{len(messages) - 1}].role")
    return messages


def _parse_message(value: Any, place: str) -> ChatMessage:
    if not isinstance(value, dict):
        _fail(f"{place} must be an object", place)
    left = {name: each for name, each in value.items() if each is not None}
    role, content, extension = (left.pop(name, None) for name in ("role", "content", EXTENSION))
    if role not in _MESSAGE_ROLES:
        known = ", ".join(_MESSAGE_ROLES)
        _fail(f"{place}.role must be one of {known}, not {_shown(role)}", f"{place}.role")
    if role == "assistant":
        left = {k: v for k, v in left.items() if v != [] or k not in _EMPTY_MESSAGE_FIELDS}
    if left:
        name = next(iter(left))[:60]
        _fail(f"{place}.{name} is not supported; leave it out", f"{place}.{name}")
    if extension is not None:
        if role != "assistant":
            _fail(f"{place}.{EXTENSION} belongs to assistant messages", f"{place}.{EXTENSION}")
        return ChatMessage("assistant", _parse_parts(extension, content, f"{place}.{EXTENSION}"))
    text = _parse_content(content, f"{place}.content")
    match role:
        case "assistant":
            return ChatMessage("assistant", (text,))
        case "user":
            return ChatMessage("user", (text,))
    return ChatMessage("system", (text,))


def _parse_content(value: Any, place: str) -> str:
    """Read a text, or a list of texts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        _fail(f"{place} must be a text, not {_shown(value)}", place)
    texts = []
    for number, part in enumerate(value):
        if not isinstance(part, dict) or set(part) != {"type", "text"} or part["type"] != "text":
            _fail(
                f"{place}[{number}] must be {{'type': 'text', 'text': ...}}; nothing else is read",
                f"{place}[{number}]",
            )
        texts.append(_require_text(part["text"], f"{place}[{number}].text"))
    return "".join(texts)


def _parse_parts(value: Any, content: Any, place: str) -> tuple[str, ...]:
    """Read the parts of an earlier answer: the policy's words and the outputs between them."""
    parts = value.get("parts") if isinstance(value, dict) else None
    if not isinstance(parts, list):
        _fail(f"{place}.parts must be a list, as it was answered", f"{place}.parts")
    texts, words = [], []
    for number, part in enumerate(parts):
        where = f"{place}.parts[{number}]"
        if not isinstance(part, dict) or part.get("type") not in ("text", "output"):
            _fail(f"{where} must have the type text or output", where)
        texts.append(_require_text(part.get("text"), f"{where}.text"))
        words += texts[-1:] if part["type"] == "text" else []
    if content not in (None, "".join(texts), "".join(words)):
        _fail(f"{place}.parts and the content differ; leave one of them out", place)
    return tuple(texts)


def _require_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        _fail(f"{place} must be a text, not {_shown(value)}", place)
    return value


def _parse_stop(value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else [] if value is None else value
    if (
        not isinstance(strings, list)
        or len(strings) > MAX_STOP_STRINGS
        or not all(isinstance(string, str) and string for string in strings)
    ):
        _fail(f"stop must be a text, or a list of at most {MAX_STOP_STRINGS} texts", "stop")
    return tuple(strings)


def _parse_stream_options(value: Any, is_stream: bool) -> bool:
    if value is None:
        return False
    if not is_stream:
        _fail("stream_options needs stream = true", "stream_options")
    if not isinstance(value, dict) or set(value) - {"include_usage"}:
        _fail("stream_options has include_usage and nothing else", "stream_options")
    return _Fields(value).boolean("include_usage")


def _parse_extension(value: Any, outputs: Outputs) -> Outputs:
    if value is None:
        return outputs
    if not isinstance(value, dict) or set(value) - {"outputs"}:
        _fail(f"{EXTENSION} has the field outputs and nothing else", EXTENSION)
    match value.get("outputs", outputs):
        case "separate":
            return "separate"
        case "inline":
            return "inline"
        case other:
            _fail(
                f"{EXTENSION}.outputs must be separate or inline, not {_shown(other)}",
                f"{EXTENSION}.outputs",
            )


def _shown(value: Any) -> str:
    """Return the beginning of a value as JSON: it may be long, and is a stranger's."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _fail(message: str, param: str, code: str | None = None) -> NoReturn:
    raise RequestError(message, param=param, code=code)
