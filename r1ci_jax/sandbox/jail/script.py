"""Turn this process inside the jail into `python script.py`, run the script, and exit.

The host sends this module into the jail as code, like `supervisor`, `session_process` and
`fork_server`, which use it. Every import at the top costs each cold script milliseconds. So the
module imports only modules built into the interpreter, and uses `_signal`, which is
`signal` without its enums.
"""

import _frozen_importlib_external  # pyright: ignore[reportMissingImports]  # see _signal
import _signal  # pyright: ignore[reportMissingImports]  # CPython's internal module has no stubs
import _sitebuiltins
import atexit
import builtins
import gc
import io
import os
import sys

from r1ci_jax.sandbox.jail import traceback_text

TYPE_CHECKING = False  # importing typing would cost every cold script a millisecond
if TYPE_CHECKING:
    import ctypes
    import mmap

SCRATCH = "/scratch"
"""A script's working directory."""
DIRECTORY = "/script"
"""Directory of a file system of its own, which contains the script's file only."""
FILE = f"{DIRECTORY}/script.py"
"""The script's file: `multiprocessing` (spawn), `inspect` and the script itself can read it."""


def run_script(
    script: bytes, page: "mmap.mmap | ctypes.Array[ctypes.c_ubyte]", file: str = FILE
) -> None:
    """Become an ordinary `python script.py` on descriptors 0, 1 and 2; never return.

    One byte of `page`, shared with the parent, means "an exception reached the top". A page has no
    descriptor, so a script that writes to every descriptor cannot change it by chance. A script can
    set it on purpose without a gain: it turns one failure into another.
    """
    code = 1
    try:
        reset_interpreter()
        if write_file(script, file):
            code = finish(execute(script, page, file))
        else:
            page[0] = 1
    finally:
        os._exit(code & 0xFF)


def reset_interpreter() -> None:
    """Attributes that a fresh interpreter has and that its embedding has changed."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    # The descriptors were other files when Python started; a stream remembers whether it can seek.
    sys.stdin = sys.__stdin__ = stream(0, "<stdin>", "r")
    sys.stdout = sys.__stdout__ = stream(1, "<stdout>", "w")
    sys.stderr = sys.__stderr__ = stream(2, "<stderr>", "w")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.path.insert(0, SCRATCH)
    sys.path.append(f"{sys.prefix}/lib/python{version}/site-packages")
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    builtins.help = _sitebuiltins._Helper()
    gc.freeze()  # the collection at the end then looks at the script's objects only


def stream(fd: int, name: str, mode: str) -> io.TextIOWrapper:
    """Make a standard stream as Python does under PYTHONIOENCODING=utf-8:backslashreplace.

    A line that was printed before a kill must have left the process, so each line is flushed.
    """
    raw = io.FileIO(fd, mode, closefd=False)
    raw.name = name
    buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    newline = None if mode == "r" else "\n"
    text = io.TextIOWrapper(buffered, "utf-8", "backslashreplace", newline, mode == "w")
    text.mode = mode  # pyright: ignore[reportAttributeAccessIssue]  # CPython sets it, too
    return text


def write_file(script: bytes, file: str) -> bool:
    """Store the script where `__file__` says; return False when it is too large for a file."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    left = memoryview(script)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        say("OSError: the script is larger than a file may be (limit file_bytes)\n")
        return False
    finally:
        os.close(fd)
    return True


def fresh_main() -> dict[str, object]:
    """Return the names of a new `__main__`."""
    main_module = type(sys)("__main__")
    main_module.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main_module
    return main_module.__dict__


def execute(script: bytes, page: "mmap.mmap | ctypes.Array[ctypes.c_ubyte]", file: str) -> int:
    """Run the script in a fresh `__main__`; return the exit status so far."""
    names = fresh_main()
    names["__file__"], names["__cached__"] = file, None
    names["__loader__"] = _frozen_importlib_external.SourceFileLoader("__main__", file)
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    sys.argv[:] = [file]
    sys.orig_argv[:] = [sys.executable, file]
    script_pid = os.getpid()
    try:
        exec(compile(script, file, "exec", dont_inherit=True), names)
    except SystemExit as stop:
        return exit_code(stop)
    except BaseException as error:
        if os.getpid() == script_pid:  # skipped in a process that the script forked
            page[0] = 1
        return report(error, file)
    for name in ("__file__", "__cached__"):
        names.pop(name, None)
    return 0


def report(error: BaseException, file: str) -> int:
    """Let `sys.excepthook` print an exception that reached the top; return the exit status."""
    trace = traceback_text.TRACE.__get__(without_first_frame(error))
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    if hook is sys.__excepthook__:
        show(error, {file: "<script>"})
        return 1
    if hook is None:
        say("sys.excepthook is missing\n")
        show(error, {file: "<script>"})
        return 1
    try:
        hook(type(error), error, trace)
    except SystemExit as stop:
        return exit_code(stop)
    except BaseException as second:
        without_first_frame(second).__context__ = None
        say("Error in sys.excepthook:\n")
        show(second, {file: "<script>"})
        say("\nOriginal exception was:\n")
        show(error, {file: "<script>"})
    return 1


def exit_code(stop: SystemExit) -> int:
    """Return the exit status of `sys.exit(value)`; print a value that is no number."""
    try:
        value = stop.code
    except BaseException:  # a property of the script's own class
        value = stop
    if value is None:
        return 0
    if isinstance(value, int):
        number = int.__index__(value)
        if -(1 << 63) <= number < 1 << 63:
            return number & 0xFF
        say("OverflowError: Python int too large to convert to C long\n")
        return 0xFF
    try:
        say(f"{value}\n")
    except BaseException:  # of its `__str__`
        say("\n")
    return 1


def without_first_frame(error: BaseException) -> BaseException:
    """Remove the frame of the function that caught the exception."""
    trace = traceback_text.TRACE.__get__(error)
    traceback_text.TRACE.__set__(error, trace and trace.tb_next)
    return error


def show(error: BaseException, shown: dict[str, str]) -> None:
    """Print the traceback as Python does, with the frames of the files `shown` only.

    Args:
        error: The exception.
        shown: The name to print of each file whose frames are printed.
    """
    try:
        text = traceback_text.text(error, shown)
    except BaseException:  # a class of the script has methods that Python calls here
        name = type.__dict__["__name__"].__get__(type(error))
        text = f"{name}: the traceback cannot be printed\n"
    say(text)


def say(text: str) -> None:
    """Write to stderr if the script has left one."""
    file = getattr(sys, "stderr", None)
    if file is not None:
        try:
            file.write(text)
            file.flush()
        except BaseException:  # as Python does
            pass


def finish(code: int) -> int:
    """Join threads, run exit handlers and finalizers, flush; return the final exit status.

    Python also empties all other modules. That would take longer than most scripts; an object that
    only a module of a library holds is not finalized here.
    """
    if "threading" in sys.modules:
        try:
            sys.modules["threading"]._shutdown()
        except BaseException as error:
            ignored("threading._shutdown", error)
    atexit._run_exitfuncs()
    failed = flush()
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, f"__{name}__", None))
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        sys.__dict__.pop(name, None)
    # Objects are finalized while the names that their methods use exist.
    sys.modules.pop("__main__", None)
    gc.collect()
    flush(quiet=True)
    # Where not even its traceback could be written, the status of the exception stays.
    told = not (code and len(failed) == 2)
    return 120 if failed and told else code


def flush(*, quiet: bool = False) -> list[str]:
    """Flush stdout and stderr; return the names of those whose text could not be written."""
    failed = []
    for name in ("stdout", "stderr"):
        file = getattr(sys, name, None)
        try:
            closed = file is None or file.closed
        except BaseException:  # it is detached or has no such attribute
            closed = False
        try:
            if file is not None and not closed:
                file.flush()
        except BaseException as error:
            failed.append(name)
            if name == "stdout" and not quiet:
                ignored(file, error)
    return failed


def ignored(where: object, error: BaseException) -> None:
    """Print an exception that ends nothing, as Python does."""
    try:
        say(f"Exception ignored in: {where!r}\n")
    except BaseException:
        say("Exception ignored in: <object repr() failed>\n")
    show(without_first_frame(error), {FILE: "<script>"})
