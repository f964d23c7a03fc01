"""The byte protocol of the policy and the interpreter (paper section 3).

A code block opens at three backticks, `python`, any blanks or tabs and a line feed, anywhere in the
text; it closes at the first three backticks at the start of a line (directly after the opening
line feed too). An answer runs from `<<<` to the next `>>>` outside code; a code block that
opens before the answer is closed takes precedence, and the unfinished answer is void.

The grammar is implemented twice on purpose. `stop_machine` is the byte automaton that ends
sampling, so it reads every byte in order; the regular expressions read a finished text. The tests
check that they agree. Pass only the policy's own text to the text functions: a script's output
could spell an answer. `last_code` and `final_answer` are exact on the text of one turn, which is
the text sampled since the prompt or since the last observation.
"""

import collections
import dataclasses
import enum
import re
from collections.abc import Callable

import numpy as np

from r1ci_jax.sandbox.result import ExecResult, Status

FENCE = b"```"
CODE_OPEN = b"```python"
ANSWER_OPEN = b"<<<"
ANSWER_CLOSE = b">>>"

OBSERVATION_PREFIX = "Code Execution Results:"
CLIP_MARK = "\n[... output shortened ...]\n"
"""Replaces the middle that `clip_observation_ids` removes."""


class Stop(enum.IntEnum):
    """Reason to end sampling."""

    NONE = 0
    CODE = 1
    """A code block has just been closed."""
    ANSWER = 2
    """An answer has just been closed."""


@dataclasses.dataclass(frozen=True)
class ByteMachine:
    """Deterministic automaton over bytes; it stays in a stop state on every byte."""

    next_state_AX: np.ndarray
    """The state after a byte is int16 [states, 256]."""
    stop_A: np.ndarray
    """The stops are int8 [states], each a `Stop`."""
    start: int


# --- The automaton: small matchers, composed ---

_Step = Callable[[int, int], int]


def _matcher(pattern: bytes) -> _Step:
    """Return a step function; its state is the number of first bytes of `pattern` just seen."""

    def step(matched: int, byte: int) -> int:
        seen = pattern[:matched] + bytes([byte])
        return next(
            n for n in range(len(seen), -1, -1) if pattern.startswith(seen[len(seen) - n :])
        )

    return step


_OPENED = len(CODE_OPEN) + 1
_match_code_open = _matcher(CODE_OPEN + b"\n")
_match_answer_open = _matcher(ANSWER_OPEN)
_match_answer_close = _matcher(ANSWER_CLOSE)
_match_code_close = _matcher(b"\n" + FENCE)


def _step_code_open(matched: int, byte: int) -> int:
    """Match the opening fence, with blanks and tabs allowed before its line feed."""
    if matched == len(CODE_OPEN) and byte in b" \t":
        return matched
    return _match_code_open(matched, byte)


@dataclasses.dataclass(frozen=True)
class _Text:
    """Outside code, the state counts the seen bytes of the opening fence and the answer mark."""

    fence: int = 0
    mark: int = 0
    in_answer: bool = False


@dataclasses.dataclass(frozen=True)
class _Code:
    """Inside code, the state counts the seen bytes of the closing fence, with its line feed."""

    fence: int = 1


_State = _Text | _Code | Stop


def _step(state: _State, byte: int) -> _State:
    match state:
        case _Text(fence, mark, in_answer):
            fence = _step_code_open(fence, byte)
            if fence == _OPENED:
                return _Code()
            mark = (_match_answer_close if in_answer else _match_answer_open)(mark, byte)
            if mark < 3:
                return _Text(fence, mark, in_answer)
            return Stop.ANSWER if in_answer else _Text(fence, 0, in_answer=True)
        case _Code(fence):
            fence = _match_code_close(fence, byte)
            return Stop.CODE if fence == 1 + len(FENCE) else _Code(fence)
        case Stop():
            return state


def stop_machine() -> ByteMachine:
    """Return the automaton that ends sampling at a closed code block or a closed answer."""
    start = _Text()
    number: dict[_State, int] = {start: 0}
    rows: list[list[int]] = []
    queue: collections.deque[_State] = collections.deque([start])
    while queue:
        state = queue.popleft()
        row = []
        for byte in range(256):
            successor = _step(state, byte)
            if successor not in number:
                number[successor] = len(number)
                queue.append(successor)
            row.append(number[successor])
        rows.append(row)
    stops = [state if isinstance(state, Stop) else Stop.NONE for state in number]
    return ByteMachine(
        next_state_AX=np.array(rows, np.int16), stop_A=np.array(stops, np.int8), start=0
    )


def run(machine: ByteMachine, data: bytes, state: int | None = None) -> int:
    """Return the state after `data`, from `state` or from the start."""
    state = machine.start if state is None else state
    for byte in data:
        state = int(machine.next_state_AX[state, byte])
    return state


# --- Finished text ---

_OPENING = re.compile(r"```python[ \t]*\n")
_CLOSING = re.compile(r"^```", re.MULTILINE)
_ANSWER = re.compile(r"<<<(.*?)>>>", re.DOTALL)
_MARK = re.compile(r"```|<<<|>>>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reading:
    """Parsed text; every part is found in one pass, so no text is slow to read."""

    prose: list[str]
    """Texts before, between and after the blocks."""
    codes: list[str]
    """Closed blocks."""
    is_open: bool
    """True means that the text ends inside a block, whose content is in neither list."""


def _read(text: str) -> _Reading:
    prose: list[str] = []
    codes: list[str] = []
    position = 0
    while opening := _OPENING.search(text, position):
        prose.append(text[position : opening.start()])
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return _Reading(prose=prose, codes=codes, is_open=True)
        codes.append(text[opening.end() : closing.start()])
        position = closing.end()
    return _Reading(prose=[*prose, text[position:]], codes=codes, is_open=False)


def _answers(prose: str) -> tuple[list[str], list[str]]:
    """Return the answers in a piece of prose, and the text around them."""
    # No search may start after the last closing mark: each of many `<<<` would run to the end.
    end = prose.rfind(">>>") + 3
    parts = _ANSWER.split(prose[:end])
    return parts[1::2], [*parts[::2], prose[end:]]


def last_code(text: str) -> str | None:
    """Return the code of the last closed block."""
    codes = _read(text).codes
    return codes[-1] if codes else None


def final_answer(text: str) -> str | None:
    """Return the stripped content of the last `<<<…>>>` outside code."""
    answers = [answer for prose in _read(text).prose for answer in _answers(prose)[0]]
    return answers[-1].strip() if answers else None


def keeps_format(text: str) -> bool:
    """Check that a full response is well formed.

    Every code block is closed. There is exactly one answer, which follows the last block and is not
    empty. No fence and no answer mark is left over outside blocks and answer.
    """
    reading = _read(text)
    *before, last = reading.prose
    answers, leftovers = _answers(last)
    return (
        not reading.is_open
        and len(answers) == 1
        and answers[0].strip() != ""
        and not any(_MARK.search(stretch) for stretch in [*before, *leftovers])
    )


# --- Text that the policy reads back ---

_NOTICES = {
    Status.TIMEOUT_CPU: "TimeoutExpired: the script used up its CPU time and was stopped.",
    Status.TIMEOUT_WALL: "TimeoutExpired: the script ran for too long and was stopped.",
    Status.OOM: "MemoryError: the script needed more memory than allowed and was stopped.",
    Status.OUTPUT_LIMIT: "OutputLimit: the script wrote more than allowed and was stopped.",
    Status.SECCOMP: "PermissionError: the script asked the system for something forbidden.",
    Status.SETUP_ERROR: "SandboxError: the interpreter could not start.",
    Status.INFRA_ERROR: "SandboxError: the interpreter failed.",
}
_TRACEBACK_LINES = 3
_LINE_CHARACTERS = 300
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def observation(result: ExecResult) -> str:
    """Return the text appended after a code block.

    The text does not depend on measured times, so a seed replays the same trajectory. Its length is
    limited in tokens by `clip_observation_ids`.
    """
    printed = _printable(result.stdout).rstrip()
    parts = [part for part in (printed, _complaint(result)) if part]
    return f"\n{OBSERVATION_PREFIX}\n" + ("\n".join(parts) or "(no output)") + "\n"


def tool_text(text: str) -> str:
    """Return the text appended after the use of a tool that is not the interpreter."""
    return f"\n{_printable(text).rstrip() or '(no output)'}\n"


def _complaint(result: ExecResult) -> str:
    """Return a short description of the failure; it is empty when there is none."""
    match result.status:
        case Status.OK:
            return ""
        case Status.EXCEPTION:
            return _traceback_tail(result.stderr) or "Exception"
        case Status.EXIT_NONZERO:
            lines = (_traceback_tail(result.stderr), f"SystemExit: {result.exit_code}")
            return "\n".join(line for line in lines if line)
        case Status.KILLED_SIGNAL:
            return f"Killed: the script was ended by signal {result.signal}."
        case status:
            return _NOTICES[status]


def _traceback_tail(stderr: str) -> str:
    """Return the message at the end of a traceback, without the indented frames above it."""
    lines = [line for line in _printable(stderr).splitlines() if line.strip()]
    frames = [number for number, line in enumerate(lines) if line[0] in " \t"]
    tail = lines[frames[-1] + 1 :] if frames else lines
    kept = (tail or lines[-1:])[-_TRACEBACK_LINES:]
    return "\n".join(line[:_LINE_CHARACTERS] for line in kept)


def _printable(text: str) -> str:
    r"""Spell out control characters and lone surrogates (`\x1b`); keep line feeds and tabs."""
    return _UNPRINTABLE.sub(
        lambda match: match[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n")
    )


def clip_observation_ids(ids: list[int], limit: int, marker_ids: list[int]) -> list[int]:
    """Return at most `limit` ids: all of them, or the head, the marker and the tail."""
    if len(ids) <= limit:
        return ids
    kept = limit - len(marker_ids)
    assert kept >= 2, f"a limit of {limit} tokens leaves no room for more than the marker"
    head, tail = (kept + 1) // 2, kept // 2
    return ids[:head] + marker_ids + ids[-tail:]
