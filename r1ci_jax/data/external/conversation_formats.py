"""Conversations in the forms that others keep them in, read into one.

    openai          {"messages": [{"role", "content", "tool_calls"}]}
    sharegpt        {"conversations": [{"from", "value"}], "system"}
    llama-factory   {"instruction", "input", "output", "history"}, or either of the above

A script stands in a code fence, in a tool call, or between `<tool_call>` tags. What a record holds
is the text of strangers: it is read here and run nowhere but in the jail.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader

Format = Literal["auto", "openai", "sharegpt", "llama-factory"]
FORMATS: Final[tuple[Format, ...]] = ("auto", "openai", "sharegpt", "llama-factory")
MAX_RECORD_BYTES: Final = 4 << 20
MAX_MESSAGE_CHARACTERS: Final = 100_000

Speaker = Literal["system", "user", "assistant", "script", "output"]
_SPEAKERS: Final[Mapping[str, Speaker]] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "script"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "output"),
}
_INTERPRETER: Final = re.compile(r"python|code|interpreter|exec|jupyter", re.I)
_CODE_ARGUMENTS: Final = ("code", "script", "source", "python", "program", "input", "query")
_IDS: Final = ("example_id", "id", "question_id")


class FormError(ValueError):
    """A record has none of the known forms."""


class LongTextError(ValueError):
    """A message is longer than any that is read."""


class OtherToolError(ValueError):
    """A record calls a tool that is not an interpreter of Python."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a conversation by one speaker; a `script` is a tool call's bare code."""

    speaker: Speaker
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversation:
    """One conversation: the first message of the user, and the parts that follow it."""

    ids: tuple[str, ...]
    """What the record names itself, which may be the id of an example."""
    question: str
    parts: tuple[Part, ...]


def read_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each record of a file: JSON lines, or one JSON list.

    A line that is no JSON, or longer than `MAX_RECORD_BYTES`, is yielded as None.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip()
            file.seek(0)
            if head.startswith(b"[") and (records := _whole(file.read())) is not None:
                yield from enumerate(records, start=1)
                return
            file.seek(0)
            number = 0
            while line := file.readline(MAX_RECORD_BYTES):
                number += 1
                is_whole = line.endswith(b"\n") or len(line) < MAX_RECORD_BYTES
                while not is_whole and not line.endswith(b"\n"):
                    line = file.readline(MAX_RECORD_BYTES) or b"\n"
                if line.strip() or not is_whole:
                    yield number, _parse(line) if is_whole else None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; name a JSON file") from error


def parse(record: Any, form: Format = "auto") -> Conversation:
    """Read one record.

    Raises:
        FormError: It does not have the form.
        LongTextError: A message is too long.
        OtherToolError: It calls another tool than an interpreter.
    """
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise FormError("no JSON object")
    found = _form(record)
    if form in ("openai", "sharegpt") and found != form:
        raise FormError(f"not {form}")
    match found:
        case "openai":
            parts = [part for each in _list(record["messages"]) for part in _message(each)]
        case "sharegpt":
            parts = [part for each in _list(record["conversations"]) for part in _said(each)]
        case _:
            parts = list(_alpaca(record))
    parts = [part for part in parts if part.speaker != "system"]
    if len(parts) < 2 or parts[0].speaker != "user":
        raise FormError("no user's message with an answer")
    ids = tuple(record[name] for name in _IDS if isinstance(record.get(name), str))
    return Conversation(ids=ids, question=parts[0].text, parts=tuple(parts[1:]))


def _whole(data: bytes) -> list[Any] | None:
    """Return the records of a file that is one list; None if its lines are lists."""
    value = _parse(data)
    if not isinstance(value, list):
        return None
    is_conversation = all(isinstance(each, dict) and {"role", "from"} & {*each} for each in value)
    return [value] if value and is_conversation else value


def _parse(line: bytes) -> Any:
    try:
        return json_reader.parse(line, "a record")
    except json_reader.JsonError:
        return None


def _form(record: Mapping[str, Any]) -> Format:
    if "messages" in record:
        return "openai"
    if "conversations" in record:
        return "sharegpt"
    if "instruction" in record and "output" in record:
        return "llama-factory"
    raise FormError("neither messages nor conversations nor instruction and output")


# --- OpenAI ---


def _message(raw: Any) -> Iterator[Part]:
    message = _object(raw)
    if "role" not in message and "from" in message:
        yield from _said(message)  # LLaMA-Factory renames columns at will.
        return
    speaker = _speaker(message.get("role"))
    text = _content(message.get("content"))
    if text or speaker != "assistant":
        yield from _tagged(speaker, text)
    calls = _list(message.get("tool_calls") or [])
    if legacy := message.get("function_call"):
        calls = [*calls, {"function": legacy}]
    for call in calls:
        function = _object(_object(call).get("function", call))
        yield Part(speaker="script", text=_code(function.get("name"), function.get("arguments")))


def _content(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts of one."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _lines(content)
    texts = [_object(part).get("text") for part in _list(content)]
    if not all(isinstance(text, str) for text in texts):
        raise FormError("content that is no text")
    return _lines("".join(map(str, texts)))


# --- ShareGPT ---


def _said(raw: Any) -> Iterator[Part]:
    said = _object(raw)
    speaker = _speaker(said.get("from", said.get("role")))
    text = _content(said.get("value", said.get("content")))
    if speaker != "script":
        yield from _tagged(speaker, text)
        return
    for call in _calls(text):
        yield Part(speaker="script", text=_code(call.get("name"), call.get("arguments")))


def _calls(text: str) -> list[Mapping[str, Any]]:
    """Return the calls of a `function_call` message: an object, or a list of them."""
    try:
        value = json_reader.parse(text, "a call")
    except json_reader.JsonError:
        raise FormError("a call that is no JSON") from None
    calls = [_object(each) for each in (value if isinstance(value, list) else [value])]
    if not calls:
        raise FormError("a call of nothing")
    return calls


# --- LLaMA-Factory's form of Alpaca ---


def _alpaca(record: Mapping[str, Any]) -> Iterator[Part]:
    for pair in _list(record.get("history") or []):
        if len(_list(pair)) != 2:
            raise FormError("a history of something else than pairs")
        yield Part(speaker="user", text=_content(pair[0]))
        yield from _tagged("assistant", _content(pair[1]))
    texts = [_content(record.get(name)) for name in ("instruction", "input")]
    yield Part(speaker="user", text="\n".join(text for text in texts if text))
    yield from _tagged("assistant", _content(record["output"]))


# --- Common to all ---


def _tagged(speaker: Speaker, text: str) -> Iterator[Part]:
    """Yield a message as parts: calls and outputs between tags are parts of their own."""
    if speaker == "user":
        outside, outputs = _between(text, "<tool_response>", "</tool_response>")
        if outputs and not "".join(outside).strip():
            yield from (Part(speaker="output", text=output.strip("\n")) for output in outputs)
            return
    if speaker != "assistant":
        yield Part(speaker=speaker, text=text)
        return
    outside, inside = _between(text, "<tool_call>", "</tool_call>")
    for words, script in itertools.zip_longest(outside, inside):
        if words.strip():
            yield Part(speaker="assistant", text=words)
        if script is not None:
            call = _calls(script)[0]
            yield Part(speaker="script", text=_code(call.get("name"), call.get("arguments")))


def _between(text: str, opening: str, closing: str) -> tuple[list[str], list[str]]:
    """Return what stands outside and what stands inside the tags, in one pass."""
    outside, inside = [""], list[str]()
    while text:
        before, mark, rest = text.partition(opening)
        within, end, after = rest.partition(closing)
        if not mark or not end:
            outside[-1] += text
            break
        outside[-1] += before
        inside.append(within)
        outside.append("")
        text = after
    return outside, inside


def _code(name: Any, arguments: Any) -> str:
    """Return the script of a call: an argument, or the arguments as they are."""
    if not isinstance(name, str) or not _INTERPRETER.search(name):
        raise OtherToolError(str(name))
    if isinstance(arguments, str):
        try:
            parsed = json_reader.parse(arguments, "arguments")
        except json_reader.JsonError:
            return _lines(arguments)  # the code itself, as some interpreters take it
        arguments = parsed if isinstance(parsed, dict | str) else json.dumps(parsed)
    if isinstance(arguments, str):
        return _lines(arguments)
    given = arguments if isinstance(arguments, dict) else {}
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    named = next((texts[key] for key in _CODE_ARGUMENTS if key in texts), None)
    if named is None and len(texts) == 1:
        (named,) = texts.values()
    if named is None:
        raise FormError("a call without code")
    return _lines(named)


def _speaker(role: Any) -> Speaker:
    if not isinstance(role, str) or role.lower() not in _SPEAKERS:
        raise FormError(f"an unknown role {role!r}")
    return _SPEAKERS[role.lower()]


def _lines(text: str) -> str:
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise LongTextError
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FormError("no JSON object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FormError("no list")
    return value
