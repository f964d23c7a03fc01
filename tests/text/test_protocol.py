"""The grammar: hand-written cases, and the automaton against the text functions."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.text import protocol
from r1ci_jax.text.protocol import Stop
from tests.load import at_most

MACHINE = protocol.stop_machine()

# text, where sampling stops (None: it does not), why, last code, final answer
CASES = [
    ("", None, Stop.NONE, None, None),
    ("<<<42>>>", 8, Stop.ANSWER, None, "42"),
    ("It is <<< 4\n2 >>>.", 17, Stop.ANSWER, None, "4\n2"),
    ("<<<>>>", 6, Stop.ANSWER, None, ""),
    # The innermost pair of marks counts.
    ("<<<<a>>>>", 8, Stop.ANSWER, None, "a"),
    ("<<<<<<a>>>", 10, Stop.ANSWER, None, "a"),
    ("<<<a<<<b>>>", 11, Stop.ANSWER, None, "b"),
    ("<<<a<<<>>>", 10, Stop.ANSWER, None, ""),
    ("1 <<< 2, so <<<4>>>", 19, Stop.ANSWER, None, "4"),
    ("cat <<<EOF. <<<42>>>", 20, Stop.ANSWER, None, "42"),
    ("<<< <<b>>>", 10, Stop.ANSWER, None, "<<b"),
    ("<<< <b>>>>", 9, Stop.ANSWER, None, "<b"),
    ("<< <a>>>", None, Stop.NONE, None, None),
    ("<<<a>>", None, Stop.NONE, None, None),
    ("<<<a>> >>>", 10, Stop.ANSWER, None, "a>>"),
    ("<<<a>><>>>", 10, Stop.ANSWER, None, "a>><"),
    # The placeholder of the instructions is no answer.
    ("I end with <<<answer>>>. It is <<<4>>>", 38, Stop.ANSWER, None, "4"),
    ("<<< answer\n>>>", None, Stop.NONE, None, None),
    ("<<<<answer>>>>", None, Stop.NONE, None, None),
    ("<<<answer<<<answer>>>", None, Stop.NONE, None, None),
    ("<<<answers>>>", 13, Stop.ANSWER, None, "answers"),
    ("<<<an answer>>>", 15, Stop.ANSWER, None, "an answer"),
    ("<<<answer>>>>>>", None, Stop.NONE, None, None),
    ("<<<answer> >>>", 14, Stop.ANSWER, None, "answer>"),
    ("<<<answer>>>```python\nx\n```", 27, Stop.CODE, "x\n", None),
    # Code.
    ("```python\nprint(1)\n```", 22, Stop.CODE, "print(1)\n", None),
    ("```python \t\nx\n```", 17, Stop.CODE, "x\n", None),
    ("see:```python\nx\n```", 19, Stop.CODE, "x\n", None),
    ("```python\n```", 13, Stop.CODE, "", None),
    ("````python\nx\n````", 16, Stop.CODE, "x\n", None),
    ("``````python\nx\n```", 18, Stop.CODE, "x\n", None),
    ("`````pyth```python\nx\n```", 24, Stop.CODE, "x\n", None),
    ("```python\nx\r\n```", 16, Stop.CODE, "x\r\n", None),
    # Other spellings of the info string.
    ("```python\r\nx\r\n```", 17, Stop.CODE, "x\r\n", None),
    ("```py\nx\n```", 11, Stop.CODE, "x\n", None),
    ("```Python\nx\n```", 15, Stop.CODE, "x\n", None),
    ("```PYTHON3\nx\n```", 16, Stop.CODE, "x\n", None),
    ("```python3.12\nx\n```", 19, Stop.CODE, "x\n", None),
    ("```py3\nx\n```", 12, Stop.CODE, "x\n", None),
    ("``` python\nx\n```", 16, Stop.CODE, "x\n", None),
    ('```python title="a.py"\nx\n```', 28, Stop.CODE, "x\n", None),
    ("```python{1,3}\nx\n```", 20, Stop.CODE, "x\n", None),
    ("```python:a.py\nx\n```", 20, Stop.CODE, "x\n", None),
    # Not openings: another language, inline code, no line feed.
    ("```pycon\nx\n```", None, Stop.NONE, None, None),
    ("```python-repl\nx\n```", None, Stop.NONE, None, None),
    ("```pyth\nx\n```", None, Stop.NONE, None, None),
    ("```json\nx\n```", None, Stop.NONE, None, None),
    ("```\nx\n```", None, Stop.NONE, None, None),
    ("```python x```\ny\n```", None, Stop.NONE, None, None),
    ("~~~python\nx\n~~~", None, Stop.NONE, None, None),
    ("```python", None, Stop.NONE, None, None),
    # Not closings: in mid-line, two backticks, indented by more than the opening allows.
    ("```python\nx = '```'\n", None, Stop.NONE, None, None),
    ("```python\nx = '''\n```", 21, Stop.CODE, "x = '''\n", None),
    ("```python\nx\n``", None, Stop.NONE, None, None),
    ("```python\nx\n`` `\n\n```", 21, Stop.CODE, "x\n`` `\n\n", None),
    ("```python\nx\n    ```\n", None, Stop.NONE, None, None),
    ("```python\nx\n\t```\n", None, Stop.NONE, None, None),
    ("   ```python\n   x\n       ```\n", None, Stop.NONE, None, None),
    # A closing fence may be indented, and the code is dedented.
    ("```python\nx\n   ```", 18, Stop.CODE, "x\n", None),
    ("1. a\n   ```python\n   x\n   ```", 29, Stop.CODE, "x\n", None),
    ("  ```python\n  if x:\n      y\n  ```", 33, Stop.CODE, "if x:\n    y\n", None),
    ("   ```python\n   x\n```", 21, Stop.CODE, "x\n", None),
    ("      ```python\n      x\n      ```", 33, Stop.CODE, "x\n", None),
    ("\t```python\n\tx\n\t```", 18, Stop.CODE, "x\n", None),
    ("    ```python\nx\n    ```", 23, Stop.CODE, "x\n", None),
    ("10. ```python\n    x\n    ```", 27, Stop.CODE, "x\n", None),
    ("- ```python\n\n  # a\n  x\n\n  ```", 29, Stop.CODE, "\n# a\nx\n\n", None),
    ("  ```python\n  s = '''\na\n  '''\n  ```", 35, Stop.CODE, "s = '''\na\n'''\n", None),
    ("```python\n  # a\nif x:\n  y\n```", 29, Stop.CODE, "  # a\nif x:\n  y\n", None),
    (" ```python\n x\n\ty\n ```", 21, Stop.CODE, "x\n   y\n", None),
    # Answers and code.
    ("```python\nprint('<<<1>>>')\n", None, Stop.NONE, None, None),
    ("```python\nprint('<<<1>>>')\n```", 30, Stop.CODE, "print('<<<1>>>')\n", None),
    ("<<<```python\nx>>>\n```", 21, Stop.CODE, "x>>>\n", None),
    ("<<<a\n```python\nx\n```\n>>>", 20, Stop.CODE, "x\n", None),
    ("<<<a```python>>>\nx\n```", 16, Stop.ANSWER, None, "a```python"),
    ("<<<a```python >>>\nx\n```", 17, Stop.ANSWER, None, "a```python"),
    ("<<<a>>>```python\nx\n```", 7, Stop.ANSWER, "x\n", "a"),
    ("```python<<<a>>>", 16, Stop.ANSWER, None, "a"),
    ("```python <<<a>>>\nx\n```", 17, Stop.ANSWER, None, "a"),
    ("<<```python<<<a>>>", 18, Stop.ANSWER, None, "a"),
]


def _first_stop(data: bytes) -> tuple[int | None, Stop]:
    state = MACHINE.start
    for end, byte in enumerate(data, start=1):
        state = protocol.run(MACHINE, bytes([byte]), state)
        if MACHINE.stop_A[state]:
            return end, Stop(MACHINE.stop_A[state])
    return None, Stop.NONE


@pytest.mark.parametrize(("text", "end", "stop", "code", "answer"), CASES)
def test_hand_written_cases(
    text: str, end: int | None, stop: Stop, code: str | None, answer: str | None
) -> None:
    assert _first_stop(text.encode()) == (end, stop)
    assert protocol.last_code(text) == code
    assert protocol.final_answer(text) == answer


def test_machine_is_small_and_its_stops_are_absorbing() -> None:
    states = len(MACHINE.stop_A)
    assert MACHINE.next_state_AX.shape == (states, 256)
    assert MACHINE.next_state_AX.dtype == np.int16
    assert states < 128  # the table over tokens holds a number per state and token
    assert set(MACHINE.next_state_AX.flat) | {MACHINE.start} == set(range(states))
    stops = np.flatnonzero(MACHINE.stop_A)
    assert sorted(MACHINE.stop_A[stops]) == [Stop.CODE, Stop.ANSWER]
    assert (MACHINE.next_state_AX[stops] == stops[:, None]).all()
    closed = protocol.run(MACHINE, b"```python\nx\n```")
    assert protocol.run(MACHINE, b"\n<<<1>>>", closed) == closed


_bits = st.sampled_from(
    (
        *("`", "``", "```", "python", "```python\n", "```python", "\n", "\n```", " ", "\t", "\r\n"),
        *("<", "<<<", ">", ">>>", "<<<1>>>", "x", "é", "p", "```p", "y", "3", ".", "{", ":", "P"),
        *(
            "   ",
            "    ",
            "\n   ```",
            "1. ",
            "```json\n",
            "```Python3 a=1\n",
            "~~~python\n",
            "\n~~~",
        ),
        *("answer", "<<<answer", "ans", "wer", "<<<answer>>>"),
    )
)


@given(bits=st.lists(_bits, max_size=14))
@settings(max_examples=1500, deadline=None)
def test_text_functions_agree_with_the_machine_at_its_first_stop(bits: list[str]) -> None:
    text = "".join(bits)
    end, stop = _first_stop(text.encode("latin-1"))
    turn = text if end is None else text[:end]
    assert (protocol.last_code(turn) is not None) == (stop == Stop.CODE)
    assert (protocol.final_answer(turn) is not None) == (stop == Stop.ANSWER)
    if end is not None:
        assert protocol.last_code(text[: end - 1]) is None
        assert protocol.final_answer(text[: end - 1]) is None


def test_the_last_block_and_the_last_answer_count() -> None:
    text = "<<<0>>>\n```python\na\n```\n<<<1>>> then\n```python\nb\n```\n<<<2>>> or <<<3>>>"
    assert protocol.last_code(text) == "b\n"
    assert protocol.final_answer(text) == "3"
    assert protocol.final_answer(text + "\n```python\nprint('<<<4>>>')") == "3"
    assert protocol.final_answer("<<<1\n```python\nx\n```\n2>>>") is None


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("So <<<1>>>", True),
        ("```python\nx\n```\nSo <<<1>>>.", True),
        ("```python\nx\n```\n```python\ny = '<<<'\n```\n<<<1>>>", True),
        ("no answer", False),
        ("<<<>>>", False),
        ("<<< \n>>>", False),
        ("<<<1>>> <<<2>>>", False),
        ("<<<1>>>\n```python\nx\n```\n<<<2>>>", False),
        ("<<<1>>>\n```python\nx\n```\n", False),
        ("<<<1>>>\n```python\nx\n", False),
        ("<<<1\n```python\nx\n>>>", False),
        ("<<<1\n```python\nx\n```\n<<<2>>>", False),
        ("```python x```\n<<<1>>>", False),
        ("```js\nx\n```\n<<<1>>>", False),
        ("1. See\n   ```py\n   x\n   ```\n2. So <<<1>>>", True),
        ("1 <<< 2, so <<<4>>>", False),
        ("cat <<<EOF. <<<42>>>", False),
        ("<<<<5>>>", False),
        ("<<<5>>>>", False),
        ("<<<a << b>>>", True),
        ("Like <<<answer>>>: <<<1>>>", False),
        ("Like <<<answer>>>.", False),
        ("<<<1>>> >>>", False),
        ("```python\nx\n```", False),
        ("", False),
    ],
)
def test_keeps_format(text: str, is_kept: bool) -> None:
    assert protocol.keeps_format(text) is is_kept


@pytest.mark.parametrize(
    "text",
    [
        "<<<" * 60_000,
        "<" * 180_000,
        "<<< " * 60_000,
        "<<<answer>>>" * 20_000,
        "``` python " * 20_000,
        "    ```python\n" + "    \n" * 40_000,
        "   ```python\n" + "    ``\n" * 40_000,
        ">>>" + "<<<" * 60_000,
        "x```python\n" * 20_000,
        "```python" + " " * 200_000,
        "```python\n" + "\n``" * 60_000,
    ],
)
def test_a_degenerate_text_is_read_at_once(text: str) -> None:
    with at_most(cpu_seconds=20.0):  # milliseconds if linear, minutes if quadratic
        protocol.final_answer(text)
        protocol.last_code(text)
        protocol.keeps_format(text)


def _shown(
    status: Status,
    stdout: str = "",
    stderr: str = "",
    *,
    exit_code: int | None = None,
    signal: int | None = None,
) -> str:
    result = ExecResult(
        status=status,
        stdout=stdout,
        stderr=stderr,
        exit_code=exit_code,
        signal=signal,
        cpu_seconds=0.123,
        wall_seconds=0.456,
    )
    text = protocol.observation(result)
    head = "\nCode Execution Results:\n"
    assert text.startswith(head)
    assert text.endswith("\n")
    return text[len(head) : -1]


TRACEBACK = """Traceback (most recent call last):
  File "<script>", line 2, in <module>
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero
"""


def test_observation_shows_output_and_the_end_of_a_traceback() -> None:
    assert _shown(Status.OK, "1\n2\n") == "1\n2"
    assert _shown(Status.OK) == "(no output)"
    assert _shown(Status.OK, "1\n", "a warning\n") == "1"
    assert _shown(Status.EXCEPTION, "1\n", TRACEBACK) == "1\nZeroDivisionError: division by zero"
    assert _shown(Status.EXCEPTION, "", "ValueError: a\nb\nc\nd\n") == "ValueError: a\nb\nc\nd"
    assert _shown(Status.EXCEPTION, "", "ValueError: " + "x" * 999) == "ValueError: " + "x" * 288
    assert _shown(Status.EXCEPTION, "", "  only a frame\n") == "  only a frame"
    assert _shown(Status.EXCEPTION) == "Exception"
    assert _shown(Status.EXIT_NONZERO, "", "bye\n", exit_code=3) == "bye\nSystemExit: 3"
    assert "signal 11" in _shown(Status.KILLED_SIGNAL, signal=11)


def _stderr_of(code: str) -> str:
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (
            "raise ExceptionGroup('g', [ValueError('row 3'), KeyError('x')])",
            "ExceptionGroup: g (2 sub-exceptions)\nValueError: row 3\nKeyError: 'x'",
        ),
        (
            "raise ExceptionGroup('g', [ExceptionGroup('h', [TypeError('t\\n  u')]), OSError()])",
            "ExceptionGroup: g (2 sub-exceptions)\nExceptionGroup: h (1 sub-exception)\n"
            "TypeError: t\n  u\nOSError",
        ),
        (
            "def f(): raise ValueError('in f')\n"
            "try: f()\n"
            "except ValueError as e: raise ExceptionGroup('g', [e])",
            "ExceptionGroup: g (1 sub-exception)\nValueError: in f",
        ),
        (r"raise ValueError('bad:\n    1 2\n    3 4')", "ValueError: bad:\n    1 2\n    3 4"),
        (r"raise ValueError('a\nb\nc\nd\ne\nf')", "ValueError: a\nb\nc\nd\ne\nf"),
        ("raise KeyError", "KeyError"),
        ("x = (1,\nprint(2)", "SyntaxError: '(' was never closed"),
        (
            "try: 1 / 0\nexcept ZeroDivisionError as e: raise OSError('o\\n  p') from e",
            "OSError: o\n  p",
        ),
        (
            "try: 1 / 0\nexcept ZeroDivisionError: raise OSError('o')",
            "OSError: o",
        ),
        ("e = ValueError('v')\ne.add_note('see\\n  x')\nraise e", "ValueError: v\nsee\n  x"),
        ("import sys; sys.exit('bye\\n  now')", "bye\n  now"),
    ],
)
def test_a_failure_shows_type_and_message_of_any_form(code: str, shown: str) -> None:
    assert _shown(Status.EXCEPTION, "", _stderr_of(code)) == shown


def test_a_message_that_quotes_a_traceback_keeps_its_type() -> None:
    code = (
        "import traceback\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: text = traceback.format_exc()\n"
        "raise RuntimeError('failed:\\n' + text)"
    )
    lines = _shown(Status.EXCEPTION, "", _stderr_of(code)).splitlines()
    assert (lines[0], lines[-1]) == (
        "RuntimeError: failed:",
        "ZeroDivisionError: division by zero",
    )


def test_a_long_message_is_shortened_in_its_middle() -> None:
    message = "\n".join(map(str, range(1000)))
    lines = _shown(Status.EXCEPTION, "", f"ValueError: {message}\n").splitlines()
    assert (lines[0], lines[-1]) == ("ValueError: 0", "999")
    assert "[...]" in lines and len(lines) < 20


def test_every_other_status_is_one_line_without_measured_times() -> None:
    for status in Status:
        shown = _shown(status, "1\n")
        assert shown == "1" or shown.startswith("1\n")
        assert len(shown.splitlines()) <= 2
        assert "0.123" not in shown
        assert "0.456" not in shown
    assert _shown(Status.TIMEOUT_CPU).startswith("TimeoutExpired: ")
    assert _shown(Status.TIMEOUT_WALL).startswith("TimeoutExpired: ")


def test_control_characters_are_spelled_out() -> None:
    assert _shown(Status.OK, "\x1b[31mred\r\nb\rc\x00\x7f\x9b\ud800\té") == (
        "\\x1b[31mred\nb\\rc\\x00\\x7f\\x9b\\ud800\té"
    )


def test_clipping_keeps_head_and_tail() -> None:
    ids = list(range(10))
    assert protocol.clip_observation_ids(ids, 10, [99]) == ids
    assert protocol.clip_observation_ids(ids, 6, [99]) == [0, 1, 2, 99, 8, 9]
    assert protocol.clip_observation_ids(ids, 5, [98, 99]) == [0, 1, 98, 99, 9]
    assert ids == list(range(10))
