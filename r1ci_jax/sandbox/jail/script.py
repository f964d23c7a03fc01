"""Turn this process inside the jail into `python script.py`, run the script, and exit.

The host sends this module into the jail as code, like `supervisor`, `session_process` and
`fork_server`, which use it. Every import at the top costs each cold script milliseconds. So the
module imports only modules built into the interpreter, and uses `_signal`, which is
`signal` without its enums.
"""

import _signal  # pyright: ignore[reportMissingImports]  # CPython's internal module has no stubs
import _sitebuiltins
import builtins
import io
import os
import sys

TYPE_CHECKING = False  # importing typing would cost every cold script a millisecond
if TYPE_CHECKING:
    import ctypes
    import mmap

SCRATCH = "/scratch"
"""A script's working directory."""
LONGEST_TRACEBACK = 200
"""Largest number of lines of a traceback."""
LONGEST_LINE = 2000
"""Largest number of characters of a line in a traceback."""


def run_script(script: bytes, page: "mmap.mmap | ctypes.Array[ctypes.c_ubyte]") -> None:
    """Become an ordinary `python script.py` on descriptors 0, 1 and 2; never return.

    One byte of `page`, shared with the parent, means "an exception reached the top". A page has no
    descriptor, so a script that writes to every descriptor cannot change it by chance. A script can
    set it on purpose without a gain: it turns one failure into another.
    """
    reset_interpreter()
    code = 1
    try:
        code = execute(script, page)
    finally:
        os._exit(code & 0xFF)


def reset_interpreter() -> None:
    """Attributes that a fresh interpreter has and that its embedding has changed."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    # Text printed before a kill must have left the process.
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.path.insert(0, SCRATCH)
    sys.path.append(f"{sys.prefix}/lib/python{version}/site-packages")
    sys.argv[:] = ["<script>"]
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")


def fresh_main() -> dict[str, object]:
    """Return the names of a new `__main__`."""
    main_module = type(sys)("__main__")
    main_module.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main_module
    return main_module.__dict__


def execute(script: bytes, page: "mmap.mmap | ctypes.Array[ctypes.c_ubyte]") -> int:
    """Run the script in a fresh `__main__`, then the final steps of a normal interpreter."""
    names = fresh_main()
    script_pid = os.getpid()
    code = 0
    source = ""
    try:
        source = script.decode("utf-8", "surrogatepass")
        exec(compile(source, "<script>", "exec", dont_inherit=True), names)
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BaseException as error:
        if os.getpid() == script_pid:  # skipped in a process that the script forked
            page[0] = 1
        code = 1
        show(error, {"<script>": source})
    return max(code, finish())


def exit_code(value: object) -> int:
    """Return the exit status of `sys.exit(value)`."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    print(value, file=sys.stderr)
    return 1


def show(error: BaseException, sources: dict[str, str]) -> None:
    """Print the traceback as Python does, with the frames and lines of `sources` only."""
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    import linecache
    import traceback

    for name, source in sources.items():
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    report = traceback.TracebackException.from_exception(error, compact=True)
    seen = [report]
    while seen:
        part = seen.pop()
        part.stack[:] = [frame for frame in part.stack if frame.filename in sources]
        seen += [p for p in (part.__cause__, part.__context__) if p is not None]
        seen += getattr(part, "exceptions", None) or []
    text = "".join(report.format())
    lines = [clipped(line) for line in text.splitlines(keepends=True)]
    if len(lines) > LONGEST_TRACEBACK:  # functions that call each other endlessly
        half = LONGEST_TRACEBACK // 2
        lines[half:-half] = [f"  ... [{len(lines) - 2 * half} lines left out] ...\n"]
    print("".join(lines), end="", file=sys.stderr)


def clipped(line: str) -> str:
    """Shorten a line that quotes very long source."""
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ...\n"


def finish() -> int:
    """Join threads, run exit handlers, flush; return 120 when output could not be written."""
    import atexit

    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return 120
    return 0
