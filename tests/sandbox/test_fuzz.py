"""Whatever text comes in, the sandbox itself never fails and the next script runs."""

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1ci_jax.sandbox import ExecResult, Sandbox, Status
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from tests.load import PATIENCE

FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

CODES = st.one_of(
    st.binary(max_size=300).map(lambda data: data.decode("latin-1")),
    st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(st.characters(), max_size=200),
    st.text("()[]{}:,.'\"\\\n\t #=+-*/<>!@%&|^~`;0123456789_abcdefx\0\r\f", max_size=200),
)

# --- Programs put together from fragments that mean something ---

NAMES = st.sampled_from(["x", "y", "print", "len", "os", "sys", "self", "__name__", "_", "e"])
ATOMS = st.one_of(
    NAMES,
    st.sampled_from(
        [
            "0", "-1", "10**9", "1e309", "0xff", "None", "True", "''", "b'\\xff'", "[]", "{}", "()",
            "...", "[i for i in range(9)]", "lambda: x", "f'{x!r:>{9}}'", "open('f', 'w')",
            "object()", "__import__('os')", "sys.modules", "globals()", "type('T', (), {})",
            "yield", "await x", "os.fork()", "os.getpid()", "sys.stdout", "sys._getframe()",
            "10**5000", "'x' * 10**6",
        ]
    ),
)  # fmt: skip
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*", "**", "<<", "%", " in ", " if x else "]), inner)
        .map("".join),
        st.tuples(inner, inner).map("{0[0]}({0[1]})".format),
        st.tuples(inner, inner).map("{0[0]}[{0[1]}]".format),
        st.tuples(inner, NAMES).map("{0[0]}.{0[1]}".format),
        st.tuples(inner, inner).map("({0[0]}, *{0[1]})".format),
        inner.map("(not {})".format),
        inner.map("print({})".format),
    ),
    max_leaves=6,
)  # fmt: skip
SIMPLE = st.one_of(
    EXPRESSIONS,
    st.tuples(NAMES, EXPRESSIONS).map(" = ".join),
    st.sampled_from(
        [
            "import os, sys", "import numpy", "del x", "raise", "raise SystemExit(x)", "pass",
            "break", "os._exit(7)", "os.abort()", "os.kill(os.getpid(), 9)", "os.close(1)",
            "sys.stdout = None", "os.closerange(0, 99)", "sys.exit()", "global x", "return x",
            "from math import *",
            "sys.setrecursionlimit(10**6)", "sys.settrace(print)", "__builtins__ = None",
            "sys.excepthook = None", "sys.modules.clear()", "os.dup2(1, 0)", "del sys",
            "import atexit; atexit.register(os._exit, 3)", "import signal; signal.alarm(1)",
            "import threading; threading.Thread(target=print).start()", "os.chdir('/')",
            "os.fchmod(1, 0)", "os.setsid()", "import ctypes; ctypes.memset(id(x), 0, 64)",
            "while True: pass", "while True: print(x)", "while True: x = [x]", "x = x * 2",
        ]
    ),
)  # fmt: skip


def indented(block: str) -> str:
    return "\n".join("    " + line for line in block.splitlines())


STATEMENTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("\n".join),
        st.tuples(EXPRESSIONS, inner.map(indented)).map("if {0[0]}:\n{0[1]}".format),
        st.tuples(EXPRESSIONS, inner.map(indented)).map("for x in {0[0]}:\n{0[1]}".format),
        inner.map(indented).map("while True:\n{}".format),
        st.tuples(inner.map(indented), inner.map(indented)).map(
            "try:\n{0[0]}\nexcept BaseException as e:\n{0[1]}".format
        ),
        inner.map(indented).map("def x(y=1):\n{}\nx()".format),
        inner.map(indented).map("class x:\n{}".format),
        inner.map(indented).map("async def x():\n{}".format),
    ),
    max_leaves=6,
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=5).map("\n".join)


def is_honest(result: ExecResult, limit: int) -> bool:
    """A verdict about the script, within its limits."""
    return (
        result.status not in SANDBOX_FAULTS
        and (result.attempt, result.detail) == (1, "")
        and len(result.stdout.encode("utf-8", "replace")) <= 3 * limit + 200
        and (result.exit_code is None or 0 <= result.exit_code <= 255)
        and (result.status is not Status.OK or result.exit_code in (0, None))  # None: a cell
    )


def survives(box: Sandbox, code: str, **changes: float) -> ExecResult:
    changes = {"cpu_seconds": 0.3, "wall_seconds": 1.0} | changes
    limits = dataclasses.replace(box.config.limits, **changes)  # type: ignore[arg-type]  # numbers for numbers
    result = box.run(code, limits)
    assert is_honest(result, limits.output_bytes), (code, result)
    after = box.run("print(1)")
    assert (after.status, after.stdout, after.attempt) == (Status.OK, "1\n", 1), (code, after)
    return result


@FEW
@given(code=CODES)
def test_any_text_is_a_script(box: Sandbox, code: str) -> None:
    survives(box, code)


@FEW
@given(code=PROGRAMS)
def test_any_program_is_survived(box: Sandbox, code: str) -> None:
    survives(box, "import os, sys\nx = y = 1\n" + code)


@FEW
@given(data=st.binary(max_size=2000), stream=st.sampled_from([1, 2]))
def test_any_output_comes_back(box: Sandbox, data: bytes, stream: int) -> None:
    result = survives(box, f"import os; os.write({stream}, {data!r})", wall_seconds=PATIENCE)
    shown = result.stdout if stream == 1 else result.stderr
    assert shown == data.decode("utf-8", "replace")


@FEW
@given(code=st.integers(-(2**70), 2**70), how=st.sampled_from(["sys.exit", "os._exit", "exit"]))
def test_any_exit_status_is_one(box: Sandbox, code: int, how: str) -> None:
    ends = f"import os, sys\nexit = sys.exit\n{how}({code})"
    result = survives(box, ends, wall_seconds=PATIENCE)
    assert result.status in (Status.OK, Status.EXIT_NONZERO, Status.EXCEPTION)


@FEW
@given(cells=st.lists(st.one_of(CODES, PROGRAMS.map("import os, sys\n{}".format)), max_size=4))
def test_any_cells_are_survived(session_box: Sandbox, cells: list[str]) -> None:
    limits = dataclasses.replace(session_box.config.limits, cpu_seconds=0.3, wall_seconds=1.0)
    with session_box.session(limits) as session:
        for cell in cells:
            assert is_honest(session.run(cell), limits.output_bytes), cells
        final = [session.run("'alive'") for _ in range(2)]
        assert not [result for result in final if result.status in SANDBOX_FAULTS], (cells, final)
    with session_box.session() as other:
        assert other.run("6 * 7").stdout == "42\n", cells


@FEW
@given(names=st.lists(st.text(st.characters(), max_size=20), max_size=5))
def test_any_file_names_can_be_asked_for(box: Sandbox, names: list[str]) -> None:
    from r1ci_jax.errors import UserError

    try:
        result = box.run("open('a', 'w').write('x')", collect=names)
    except UserError:
        return
    assert is_honest(result, 1 << 10) and set(result.files) <= {"a"}
