"""The child in a worker's jail that runs the cells of one session, one after the other.

The fork server sends the length of the next cell and a nonce for the answer; the cell is stored in
a memory file. The answer is the nonce and one byte, which reports the end of the cell. A cell can
write the answer itself, but that decides only between `ok` and `exception`. The end of the process,
and every limit, is observed from outside.
"""

import _signal  # pyright: ignore[reportMissingImports]  # see script.py
import ast
import builtins
import contextlib
import linecache
import os
import sys
from types import CodeType

from r1ci_jax.sandbox.jail import script

OK, RAISED = b"\0", b"\1"


def serve(requests_fd: int, done_fd: int, code_fd: int) -> None:
    """Run cells until the fork server ends this process. Never returns."""
    script.reset_interpreter()
    sys.argv[:] = ["<script>"]
    names = script.fresh_main()
    own_pid = os.getpid()
    sources: dict[str, str] = {}
    while True:
        # No code outside a cell catches KeyboardInterrupt.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        request = os.read(requests_fd, 16)
        if len(request) != 16:
            os._exit(0)
        cell = os.pread(code_fd, int.from_bytes(request[:8], "little"), 0)
        ended = run_cell(cell, names, sources)
        if os.getpid() != own_pid:  # a process that the cell forked
            os._exit(0)
        os.write(done_fd, request[8:] + ended)


def run_cell(cell: bytes, names: dict[str, object], sources: dict[str, str]) -> bytes:
    """Run one cell and print the value of its last expression."""
    name = f"<cell {len(sources) + 1}>"
    sources[name] = ""
    ended = OK
    try:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        sources[name] = cell.decode("utf-8", "surrogatepass")
        lines = sources[name].splitlines(keepends=True)
        linecache.cache[name] = (len(sources[name]), None, lines, name)
        for code, shown in compiled(sources[name], name):
            value = eval(code, names)
            if shown and value is not None:
                builtins.print(repr(value))
    except SystemExit as stop:
        leave(script.exit_code(stop))
    except BaseException as error:
        ended = RAISED
        script.show(error, {name: name for name in sources})
    for stream in (sys.stdout, sys.stderr):
        # As in a script, a closed stream is not an error.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    return ended


def compiled(source: str, name: str) -> list[tuple[CodeType, bool]]:
    """Compile the cell's statements, and separately a last expression whose value is printed."""
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
    """End the session's process in the same way as a script that exits."""
    os._exit(script.finish(code) & 0xFF)
