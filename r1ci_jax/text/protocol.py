"""The byte protocol of the policy and the interpreter (paper section 3).

A code block opens at three backticks and an info string that begins with `python` or `py` (any
case, a version may follow: `python3`), up to the line feed; the fence may stand anywhere in the
text. The block closes at the first three backticks at the start of a line, after at most three
blanks; where the opening fence stands further right (indented by four columns, or after other text
such as a list mark), after any blanks. An indented block is dedented.

An answer is the innermost pair of marks outside code: it runs from the last `<<<` to the next
`>>>`. The placeholder of the instructions, `<<<answer>>>`, is not an answer. A code block that
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

from r1ci_jax import utf8
from r1ci_jax.sandbox.result import ExecResult, Status

FENCE = b"```"
CODE_OPEN = b"```python"
PLACEHOLDER = b"answer"
"""Stands between the answer marks where the instructions show them."""

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

_FAR = 4
"""Column from which on a fence stands too far right to be shallow, and any place after text."""
_BLANKS = b" \t\r\n"
_WORD = b"python"
_WORD_ENDS = b" \t\r{:,"
"""Bytes after the word `python` that begin the rest of the info string."""
_BACKTICKS, _INDENT, _SHORT_WORD, _FULL_WORD, _INFO, _OPENED = 3, 4, 6, 10, 11, 12
"""States of an opening fence: three backticks, blanks, `py`, `python` or a version of either, the
rest of the info string, the line feed. Between them are less backticks and less letters."""


def _step_opening(state: int, byte: int) -> int:
    """Match the opening fence; 0 means that nothing of it has been seen."""
    if byte == ord("`"):
        return min(state + 1, _BACKTICKS) if state <= _BACKTICKS else 1
    if state == _INFO and byte not in b"<>\n":
        return _INFO
    if state in (_SHORT_WORD, _FULL_WORD, _INFO) and byte == ord("\n"):
        return _OPENED
    if state in (_SHORT_WORD, _FULL_WORD) and byte in _WORD_ENDS:
        return _INFO
    if state in (_SHORT_WORD, _FULL_WORD) and byte in b"0123456789.":
        return _FULL_WORD
    if state in (_BACKTICKS, _INDENT) and byte in b" \t":
        return _INDENT
    if _BACKTICKS <= state < _FULL_WORD:
        matched = max(state, _INDENT) - _INDENT
        return _INDENT + matched + 1 if chr(byte).lower() == chr(_WORD[matched]) else 0
    return 0


def _step_column(column: int, byte: int) -> int:
    """Count the blanks that begin a line, up to `_FAR`, which it is after other text too."""
    if byte == ord("\n"):
        return 0
    return min(column + 1, _FAR) if byte == ord(" ") else _FAR


@dataclasses.dataclass(frozen=True)
class _Answer:
    """Inside an answer, the state counts the seen bytes of its marks and of the placeholder."""

    letters: int = -1
    """-1 is directly after the mark, `_OTHER` where the answer is not the placeholder."""
    opening: int = 0
    closing: int = 0


_OTHER = len(PLACEHOLDER) + 1


def _step_answer(state: _Answer, byte: int) -> _Answer | None:
    """Return the state after a byte; None when the mark that closes the answer is complete."""
    if byte == ord("<"):
        if state == _Answer():
            return state  # The last three of a longer run are the mark.
        return _Answer() if state.opening == 2 else _Answer(_OTHER, opening=state.opening + 1)
    if byte == ord(">"):
        return None if state.closing == 2 else _Answer(state.letters, closing=state.closing + 1)
    letters = max(state.letters, 0)
    if state.opening or state.closing:
        return _Answer(_OTHER)
    if byte in _BLANKS and letters in (0, len(PLACEHOLDER)):
        return _Answer(letters)
    return _Answer(letters + 1 if PLACEHOLDER[letters : letters + 1] == bytes([byte]) else _OTHER)


@dataclasses.dataclass(frozen=True)
class _Text:
    """Outside code, the state counts the seen bytes of the opening fence and the answer mark."""

    column: int = 0
    """Blanks that began the line, or `_FAR`; while a fence is being read, of its place."""
    fence: int = 0
    mark: int = 0
    answer: _Answer | None = None


@dataclasses.dataclass(frozen=True)
class _Code:
    """Inside code, the state counts the blanks and backticks that begin the line."""

    is_far: bool
    """True means that the closing fence may follow any blanks."""
    column: int = 0
    fence: int = 0


_State = _Text | _Code | Stop


def _step(state: _State, byte: int) -> _State:
    match state:
        case _Text():
            return _step_text(state, byte)
        case _Code():
            return _step_code(state, byte)
        case Stop():
            return state


def _step_text(state: _Text, byte: int) -> _State:
    fence = _step_opening(state.fence, byte)
    if fence == _OPENED:
        return _Code(is_far=state.column == _FAR)
    if not state.fence:
        column = _step_column(state.column, byte) if not fence else state.column // _FAR * _FAR
    else:
        column = state.column if fence > 1 else _step_column(_FAR, byte)
    if state.answer is None:
        mark = state.mark + 1 if byte == ord("<") else 0
        return _Text(column, fence, answer=_Answer()) if mark == 3 else _Text(column, fence, mark)
    answer = _step_answer(state.answer, byte)
    if answer is None and state.answer.letters != len(PLACEHOLDER):
        return Stop.ANSWER
    return _Text(column, fence, answer=answer)


def _step_code(state: _Code, byte: int) -> _State:
    if byte == ord("\n"):
        return _Code(state.is_far)
    if state.column == _FAR:
        return state
    if byte == ord("`"):
        is_closed = state.fence + 1 == len(FENCE)
        return Stop.CODE if is_closed else _Code(state.is_far, fence=state.fence + 1)
    if state.fence == 0 and state.is_far and byte in b" \t":
        return state
    is_blank = state.fence == 0 and byte == ord(" ")
    return _Code(state.is_far, column=state.column + 1 if is_blank else _FAR)


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

_OPENING = re.compile(r"```[ \t]*py(?:thon)?[0-9.]*(?:[ \t\r{:,][^`<>\n]*)?\n", re.I | re.A)
_CLOSING = re.compile(r"^ {0,3}```", re.MULTILINE)
_FAR_CLOSING = re.compile(r"^[ \t]*```", re.MULTILINE)
_SHALLOW = re.compile(r" {0,3}`*")
_ANSWER = re.compile(r"<<<(?!<)((?:(?!<<<).)*?)>>>", re.DOTALL)
_MARKS = re.compile(r"```|<{3,}|>{3,}")
_TAB = 4


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
        line = prose[-1][prose[-1].rfind("\n") + 1 :]
        closing_form = _CLOSING if _SHALLOW.fullmatch(line) else _FAR_CLOSING
        closing = closing_form.search(text, opening.end())
        if closing is None:
            return _Reading(prose=prose, codes=codes, is_open=True)
        codes.append(_dedent(text[opening.end() : closing.start()]))
        position = closing.end()
    return _Reading(prose=[*prose, text[position:]], codes=codes, is_open=False)


def _dedent(code: str) -> str:
    """Remove the indentation of the first statement from every line, as far as it has it.

    A script begins in column 0, so one whose first statement is indented was indented as a whole.
    Lines of a text inside quotes may be indented less.
    """
    lines = code.split("\n")
    bodies = (line.lstrip(" \t") for line in lines)
    statements = (n for n, body in enumerate(bodies) if body.strip() and not body.startswith("#"))
    first = next(statements, None)
    if first is None or lines[first][0] not in " \t":
        return code
    body = lines[first].lstrip(" \t")
    width = len(lines[first][: -len(body)].expandtabs(_TAB))
    return "\n".join(_without_indent(line, width) for line in lines)


def _without_indent(line: str, width: int) -> str:
    """Remove blanks up to a column; of a tab that crosses it, the rest remains as blanks."""
    column = 0
    for position, character in enumerate(line):
        if column >= width or character not in " \t":
            return " " * (column - width) + line[position:]
        column += _TAB - column % _TAB if character == "\t" else 1
    return " " * (column - width)


def _answers(prose: str) -> list[str]:
    """Return the answers in a piece of prose, without placeholders."""
    found: list[str] = _ANSWER.findall(prose)
    return [answer for answer in found if answer.strip(" \t\r\n") != PLACEHOLDER.decode()]


def last_code(text: str) -> str | None:
    """Return the code of the last closed block."""
    codes = _read(text).codes
    return codes[-1] if codes else None


def final_answer(text: str) -> str | None:
    """Return the stripped content of the last answer outside code."""
    answers = [answer for prose in _read(text).prose for answer in _answers(prose)]
    return answers[-1].strip() if answers else None


def is_void(turn_text: str) -> bool:
    """Check that one turn closed neither a code block nor an answer (SimpleTIR, arXiv 2509.02479).

    >>> is_void("I think it is <<<7"), is_void("<<<7>>>")
    (True, False)
    """
    return last_code(turn_text) is None and final_answer(turn_text) is None


def keeps_format(text: str) -> bool:
    """Check that a full response is well formed.

    Every code block is closed. There is exactly one answer, which follows the last block and is not
    empty. No fence and no answer mark is left over outside blocks and answer, and none is longer
    than three characters.
    """
    reading = _read(text)
    *before, last = reading.prose
    answers = _answers(last)
    if reading.is_open or len(answers) != 1 or not answers[0].strip():
        return False
    # The content of the answer may hold marks of its own, such as two of the three characters.
    first, _, rest = last.partition(f"<<<{answers[0]}>>>")
    marks = [found for part in (*before, f"{first}<<<>>>{rest}") for found in _MARKS.findall(part)]
    return marks == ["<<<", ">>>"]


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
_FIRST_LINES, _LAST_LINES = 8, 4
"""Lines of a message that are shown: the type is in the first, and quoted causes are at the end."""
_HEADER = re.compile(r"(?:[ |]*\+ Exception Group |[ |]*)Traceback \(most recent call last\):")
_GROUP_HEADER = re.compile(r" *\+ Exception Group Traceback \(most recent call last\):")
_GROUP_RULE = re.compile(r"[ |]*\+(?:-\+)?-+(?: (?:[0-9]+|\.\.\.) -+)?")
_GROUP_LINE = re.compile(r"[ |]*[|+] ?")
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
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
            return _failure(result.stderr) or "Exception"
        case Status.EXIT_NONZERO:
            lines = (_failure(result.stderr), f"SystemExit: {result.exit_code}")
            return "\n".join(line for line in lines if line)
        case Status.KILLED_SIGNAL:
            return f"Killed: the script was ended by signal {result.signal}."
        case status:
            return _NOTICES[status]


def _failure(stderr: str) -> str:
    """Return the type and the message of the last exception, without the frames above them.

    The message may have any form: several lines, indented ones, those of a group's members.
    """
    lines = [line for line in _printable(stderr).splitlines() if line.strip()]
    start = _last_traceback(lines)
    if start < len(lines) and _GROUP_HEADER.fullmatch(lines[start]):
        found = _group_messages(lines[start:])
    else:
        found = _without_frames(lines[start:])
    kept = found or lines[-1:]
    if len(kept) > _FIRST_LINES + _LAST_LINES:
        kept = [*kept[:_FIRST_LINES], "[...]", *kept[-_LAST_LINES:]]
    return "\n".join(line[:_LINE_CHARACTERS] for line in kept)


def _last_traceback(lines: list[str]) -> int:
    """Return the line where the traceback of the exception that ended the script begins.

    It is the first one, or the last that follows a sentence about another exception before it: a
    message may quote tracebacks too. A syntax error has a place and no traceback.
    """
    headers = [n for n, line in enumerate(lines) if _HEADER.fullmatch(line)]
    chained = [n for n in headers if n and lines[n - 1].strip(" |") in _CHAINED]
    places = [n for n, line in enumerate(lines) if line.startswith('  File "')]
    return next(iter(chained[-1:] or headers[:1] or places[-1:]), 0)


def _without_frames(lines: list[str]) -> list[str]:
    """Return the lines from the first that is neither the header nor indented."""
    begins = (n for n, x in enumerate(lines) if x[0] not in " \t" and not _HEADER.fullmatch(x))
    return lines[next(begins, len(lines)) :]


def _group_messages(lines: list[str]) -> list[str]:
    """Return the messages of an exception group and of its members, in their order."""
    parts: list[list[str]] = [[]]
    for line in lines:
        content = _GROUP_LINE.sub("", line)
        if _GROUP_RULE.fullmatch(line) or _HEADER.fullmatch(line):
            parts.append([])
        elif content.strip():
            parts[-1].append(content)
    return [line for part in parts for line in _without_frames(part)]


def _printable(text: str) -> str:
    r"""Spell out control characters and lone surrogates (`\x1b`); keep line feeds and tabs."""
    return _UNPRINTABLE.sub(
        lambda match: match[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n")
    )


def clip_observation_ids(
    ids: list[int],
    limit: int,
    marker_ids: list[int],
    decode_bytes: Callable[[list[int]], bytes] | None = None,
) -> list[int]:
    """Return at most `limit` ids: all of them, or the head, the marker and the tail.

    With `decode_bytes`, tokens of a character that the cut would split are left out too.
    """
    if len(ids) <= limit:
        return ids
    kept = limit - len(marker_ids)
    assert kept >= 2, f"a limit of {limit} tokens leaves no room for more than the marker"
    head, tail = ids[: (kept + 1) // 2], ids[-(kept // 2) :]
    if decode_bytes is not None:
        while utf8.drop_cut_end(data := decode_bytes(head)) != data:
            head = head[:-1]
        while utf8.drop_cut_start(data := decode_bytes(tail)) != data:
            tail = tail[1:]
    return head + marker_ids + tail
