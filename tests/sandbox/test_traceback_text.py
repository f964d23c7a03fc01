"""The text of an uncaught exception: complete if ordinary, else cut before it is formatted."""

import itertools
import sys
import traceback
import types

import pytest

from r1ci_jax.sandbox import Sandbox, Status
from r1ci_jax.sandbox.jail import traceback_text

SHOWN = {__file__: "<script>"}


def raised(depth: int) -> ValueError:
    """An exception from below `depth` frames of this file."""

    def go(left: int) -> None:
        if left == 0:
            raise ValueError("deep")
        go(left - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * depth + 1000)
    try:
        go(depth)
    except ValueError as error:
        return error
    finally:
        sys.setrecursionlimit(limit)
    raise AssertionError


def frames(error: BaseException) -> int:
    return sum(1 for _ in traceback.walk_tb(error.__traceback__))


def python(error: BaseException) -> str:
    """What Python prints, under the script's name."""
    return "".join(traceback.format_exception(error)).replace(__file__, "<script>")


@pytest.mark.parametrize("depth", [0, 5, 900, traceback_text.MOST_FRAMES - 2])
def test_an_ordinary_traceback_is_pythons(depth: int) -> None:
    error = raised(depth)
    assert traceback_text.text(error, SHOWN) == python(error)


def test_the_middle_of_a_deep_one_is_cut_before_it_is_formatted() -> None:
    error = raised(50_000)
    total, kept = frames(error), 2 * traceback_text.FRAMES_KEPT
    text = traceback_text.text(error, SHOWN)
    assert frames(error) == kept + 1, "and the mark"
    assert text.count(f"  ... [{total - kept} frames left out] ...\n") == 1
    assert text.splitlines()[-1] == "ValueError: deep"
    assert text.splitlines()[1].endswith("in raised") and text.count("[Previous line repeated") == 2


def test_frames_of_other_files_are_cut_too() -> None:
    error = raised(3000)
    text = traceback_text.text(error, {"another file": "<script>"})
    assert text == "ValueError: deep\n" and frames(error) == 0


def test_all_tracebacks_of_a_chain_have_one_allowance() -> None:
    chain = [raised(800) for _ in range(20)]
    for below, above in itertools.pairwise(chain):
        below.__context__ = above
    traceback_text.text(chain[0], SHOWN)
    assert sum(frames(part) for part in chain) < 3 * traceback_text.MOST_FRAMES


@pytest.mark.parametrize("name", ["__cause__", "__context__"])
def test_a_long_chain(name: str) -> None:
    length, kept = 50_000, 2 * traceback_text.EXCEPTIONS_KEPT
    error: Exception = ValueError(0)
    for number in range(1, length):
        following = ValueError(number)
        setattr(following, name, error)
        error = following
    text = traceback_text.text(error, SHOWN)
    assert f"... [{length - kept} exceptions left out] ...\n" in text
    assert text.count("ValueError: ") == kept
    assert text.splitlines()[0] == "ValueError: 0"
    assert text.splitlines()[-1] == f"ValueError: {length - 1}"
    assert len(traceback_text.reachable(error, length)) == kept


def test_a_chain_of_ordinary_length_is_pythons() -> None:
    error: Exception = ValueError(0)
    for number in range(1, 40):
        following = KeyError(number)
        following.__cause__ = error
        error = following
    assert traceback_text.text(error, SHOWN) == python(error)


class Own(ExceptionGroup[Exception]):
    """A group of a script's own class."""


def test_a_large_group_keeps_its_name_and_message() -> None:
    group = Own("many", [ExceptionGroup("inner", [ValueError(n)] * 5) for n in range(40_000)])
    group.add_note("a note")
    error = RuntimeError("last")
    error.__cause__ = group
    lines = traceback_text.text(error, SHOWN).splitlines()
    assert any(line.endswith("Own: many (40000 sub-exceptions)") for line in lines)
    assert any(line.endswith("a note") for line in lines)
    assert any(
        f"[{40_000 - traceback_text.EXCEPTIONS_KEPT} exceptions left out]" in x for x in lines
    )
    assert any(line.endswith("ExceptionGroup: inner (5 sub-exceptions)") for line in lines)
    assert lines[-1] == "RuntimeError: last"


def test_a_group_of_ordinary_size_is_pythons() -> None:
    group = ExceptionGroup("g", [ValueError(n) for n in range(200)])
    assert traceback_text.text(group, SHOWN) == python(group)


def test_deeply_nested_groups_end() -> None:
    error: ValueError | ExceptionGroup[Exception] = ValueError("core")
    for _ in range(20_000):
        members: list[Exception] = [error]
        error = ExceptionGroup("g", members)
    assert "ExceptionGroup: g (1 sub-exception)" in traceback_text.text(error, SHOWN)


def test_a_circle_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert traceback_text.text(first, SHOWN).splitlines()[-1] == "ValueError: first"


def test_a_mark_is_no_frame_of_a_script() -> None:
    """A script cannot place the line: only frames of this very function count."""

    def mark() -> None:
        raise ValueError

    with pytest.raises(ValueError) as caught:
        mark()
    trace = caught.value.__traceback__
    assert isinstance(trace, types.TracebackType)
    assert "left out" not in traceback_text.text(caught.value, SHOWN)


def test_what_a_script_pays_is_the_recursion_not_its_traceback(box: Sandbox) -> None:
    """The limit is 2 s of CPU; formatting all frames would take twice as long."""
    code = """
import itertools
import sys
sys.setrecursionlimit(10**6)
def f(n):
    return 1 / n if n == 0 else f(n - 1)
f(300_000)
"""
    result = box.run(code)
    assert result.status is Status.EXCEPTION, result
    assert "frames left out" in result.stderr
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "body",
    [
        "    exceptions = [1, 2]",
        "    @property\n    def __cause__(self): raise KeyError",
        "    @property\n    def __traceback__(self): raise SystemExit(0)",
        "    def __bool__(self): raise KeyError",
    ],
)
def test_methods_of_a_scripts_own_class_hide_no_failure(body: str, box: Sandbox) -> None:
    code = f"class Own(ExceptionGroup):\n{body}\nraise Own('g', [ValueError(1)])"
    result = box.run(code)
    assert (result.status, result.exit_code) == (Status.EXCEPTION, 1)
    assert "Own" in result.stderr
