"""Views of a running conversation: text for a person, or JSON lines for a program.

The model's text and the output of scripts may try to control the terminal. Only line feeds and tabs
reach it unchanged; any other control character is escaped.
"""

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any, Protocol, TextIO, override

from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.scheduler import Observer
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.runtime.terminal import escape_control
from r1ci_jax.text.tokenizer import Tokenizer

INTERRUPTED = "interrupted"
"""The reason of a stop that the user requested."""

_CODE_OPENS = re.compile(r"```python[ \t]*\n\Z")
_TAIL = 64
"""Characters remembered to recognize a mark that arrives in parts."""
_CODE, _ANSWER, _FADED, _PLAIN = "\x1b[36m", "\x1b[1;32m", "\x1b[2m", "\x1b[0m"


class View(Observer, Protocol):
    """An observer that also receives events outside the episode."""

    def interrupted(self) -> None:
        """Show that the user stopped the answer."""
        ...

    def problem(self, text: str) -> None:
        """Show that a message could not be answered."""
        ...


class Characters:
    """A decoder of token ids that withholds a character until all its bytes have arrived."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text that is now complete, without stop tokens."""
        text_ids = [token for token in ids if token not in self._tokenizer.stop_token_ids]
        return self._decoder.decode(self._tokenizer.decode_bytes(text_ids))

    def flush(self) -> str:
        """Return incomplete characters as U+FFFD; the next turn starts with an empty state."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class JsonView(View):
    """One JSON object per line: token, code, observation, answer, stop, error."""

    def __init__(self, stream: TextIO, tokenizer: Tokenizer) -> None:
        self._stream = stream
        self._characters = Characters(tokenizer)
        self._runs_script = False

    @override
    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        self._token(self._characters.decode(ids))

    @override
    def on_code(self, episode: Episode, code: str) -> None:
        self._token(self._characters.flush())
        self._write("code", code=code)
        self._runs_script = True

    @override
    def on_observation(self, episode: Episode, text: str) -> None:
        # Another tool than the interpreter has no status.
        facts = {"status": episode.code_calls[-1].result.status.value} if self._runs_script else {}
        self._write("observation", text=text, **facts)
        self._runs_script = False

    @override
    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        self._runs_script = False
        self._token(self._characters.flush())
        if answer is not None:
            self._write("answer", answer=answer)
        self._write("stop", reason=stop.value)

    @override
    def interrupted(self) -> None:
        self._runs_script = False
        self._token(self._characters.flush())
        self._write("stop", reason=INTERRUPTED)

    @override
    def problem(self, text: str) -> None:
        self._write("error", message=text)

    def _token(self, text: str) -> None:
        if text:
            self._write("token", text=text)

    def _write(self, event: str, **facts: Any) -> None:
        # The output is ASCII only, so nothing in it can control a terminal.
        print(json.dumps({"event": event, **facts}), file=self._stream, flush=True)


class TextView(View):
    """The answer as it is sampled, with scripts and answers in color on a terminal."""

    def __init__(self, stream: TextIO, tokenizer: Tokenizer, *, use_color: bool) -> None:
        self._stream = stream
        self._characters = Characters(tokenizer)
        self._use_color = use_color
        self._tail = ""
        self._style = _PLAIN

    @override
    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        self._show(self._characters.decode(ids))

    @override
    def on_code(self, episode: Episode, code: str) -> None:
        self._end_turn()

    @override
    def on_observation(self, episode: Episode, text: str) -> None:
        self._end_turn()
        lines = "".join(f"│ {escape_control(line)}\n" for line in text.strip("\n").split("\n"))
        self._styled(_FADED, lines)

    @override
    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        self._end_turn()
        if answer is not None:
            self._styled(_ANSWER, f"answer: {escape_control(answer)}\n")
        elif stop is not StopReason.EOS:
            self._styled(_FADED, f"[stopped: {stop.value}]\n")

    @override
    def interrupted(self) -> None:
        self._end_turn()
        self._styled(_FADED, f"[stopped: {INTERRUPTED}]\n")

    @override
    def problem(self, text: str) -> None:
        self._styled(_FADED, f"{escape_control(text)}\n")

    def _show(self, text: str) -> None:
        """Print the policy's text, and detect where scripts and answers begin and end."""
        shown = []
        for character in text:
            self._tail = (self._tail + character)[-_TAIL:]
            shown.append(escape_control(character))
            style = self._style
            if style == _PLAIN and self._tail.endswith("<<<"):
                style = _ANSWER
            elif style == _ANSWER and self._tail.endswith(">>>"):
                style = _PLAIN
            elif style != _CODE and _CODE_OPENS.search(self._tail):
                style = _CODE
            if style != self._style:
                self._style = style
                shown += [_PLAIN, style] if self._use_color else []
        self._print("".join(shown))

    def _end_turn(self) -> None:
        """End the line of the policy's turn."""
        self._show(self._characters.flush())
        self._style = _PLAIN
        newline = "" if self._tail.endswith("\n") or not self._tail else "\n"
        self._tail = ""
        self._print((_PLAIN if self._use_color else "") + newline)

    def _styled(self, style: str, text: str) -> None:
        self._print(f"{style}{text}{_PLAIN}" if self._use_color else text)

    def _print(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)
