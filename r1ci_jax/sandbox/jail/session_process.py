"""Inside a worker's jail: the child that runs the cells of one session, one after the other.

The fork server says how long the next cell is and a nonce to answer with; the cell lies in a memory
file;
the nonce and one byte say how it ended. A cell can write them itself: that decides between `ok`
and `exception`. What ends a kernel, and every limit, is seen from outside.
"""

import _signal  # pyright: ignore[reportMissingImports]  # see script.py
import ast
import builtins
import contextlib
import os
import sys
from types import CodeType

from r1ci_jax.sandbox.jail import script

OK, RAISED = b"\0", b"\1"


def serve(requests_fd: int, done_fd: int, code_fd: int) -> None:
    """Run cells until the fork server ends this process. Never returns."""
    script.reset_interpreter()
    names = script.fresh_main()
    own_pid = os.getpid()
    sources: dict[str, str] = {}
    while True:
        # Outside a cell nobody catches KeyboardInterrupt.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        request = os.read(requests_fd, 16)
        if len(request) != 16:
            os._exit(0)
        cell = os.pread(code_fd, int.from_bytes(request[:8], "little"), 0)
        ended = run_cell(cell, names, sources)
        if os.getpid() != own_pid:  # a fork of the cell's own making
            os._exit(0)
        os.write(done_fd, request[8:] + ended)


def run_cell(cell: bytes, names: dict[str, object], sources: dict[str, str]) -> bytes:
    """One cell; the value of a last expression is printed."""
    name = f"<cell {len(sources) + 1}>"
    sources[name] = ""
    ended = OK
    try:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        sources[name] = cell.decode("utf-8", "surrogatepass")
        for code, shown in compiled(sources[name], name):
            value = eval(code, names)
            if shown and value is not None:
                builtins.print(repr(value))
    except SystemExit as stop:
        leave(script.exit_code(stop.code))
    except BaseException as error:
        ended = RAISED
        script.show(error, sources)
    for stream in (sys.stdout, sys.stderr):
        # As in a script, a closed stream is no error.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    return ended


def compiled(source: str, name: str) -> list[tuple[CodeType, bool]]:
    """The cell's statements, and its last expression to be shown."""
    tree = ast.parse(source, name)
    parts: list[tuple[CodeType, bool]] = []
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    if tree.body:
        parts.append((compile(tree, name, "exec", dont_inherit=True), False))
    if isinstance(last, ast.Expr):
        shown = ast.Expression(last.value)
        parts.append((compile(shown, name, "eval", dont_inherit=True), True))
    return parts


def leave(code: int) -> None:
    """End the kernel as a script that exits ends."""
    os._exit(max(code, script.finish()) & 0xFF)
