"""The trusted half inside the jail: process 1, parent of the script, teller of the verdict.

The host sends this module's code over file descriptor 0, a socket, together with the script, so
nothing of it has to lie in the jail. The script runs in a forked child that holds neither the
socket nor the log; process 1 of a pid namespace ignores every signal from inside it, and the
seccomp policy refuses ptrace and its like: the script cannot speak on the channel, read it, or stop
the one who does.

Every import here costs each script milliseconds: only modules built into the interpreter, and mmap.
`_signal` is `signal` without its enums for that reason.
"""

import _signal  # pyright: ignore[reportMissingImports]  # without stubs: an internal of CPython
import io
import mmap
import os
import sys
import time

TICK = 0.5
"""Seconds between two looks whether the host is still there."""
SHORTEST_WAIT = 0.005
"""Seconds between two looks at the CPU clock, at least."""


def main(script: bytes, cpu_limit: float, wall_limit: float, stderr_fd: int) -> None:
    """Run `script` in a child and report on descriptor 0. Never returns."""
    # Only handled signals reach process 1 from inside; Python would handle this one.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # SIGCHLD stays pending until the wait below asks for it.
    previous_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGCHLD])
    # One byte shared with the child says "an exception reached the top": a page has no descriptor
    # that a script writing everywhere could hit by chance. A script can set it on purpose and gain
    # nothing: it turns one failure into another.
    page = mmap.mmap(-1, 1)
    os.set_blocking(0, False)
    os.write(0, b"S")
    child = os.fork()
    if child == 0:
        run_script(script, stderr_fd, page, previous_mask)
    report = '{"limit":"%s","wait_status":%d,"cpu":%.6f,"rss_kib":%d,"wall":%.6f,"exception":%d}\n'
    os.write(0, (report % (*watch(child, cpu_limit, wall_limit), page[0])).encode())
    os._exit(0)


def watch(child: int, cpu_limit: float, wall_limit: float) -> tuple[str, int, float, int, float]:
    """Wait for the child, enforce both limits.

    Returns:
        The limit it hit ("", "cpu" or "wall"), wait status, CPU seconds, peak memory in KiB, and
        wall seconds.
    """
    begin = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    # clock_getcpuclockid(3): the process-wide CPU clock of another process, without /proc.
    cpu_clock = (~child << 3) | 2
    limit = ""
    last_look = begin
    while True:
        pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
        if pid == child:
            break
        if pid:  # an orphan of the script, reaped because this is process 1
            continue
        now = time.monotonic()
        cpu_left = cpu_limit - time.clock_gettime(cpu_clock)
        wall_left = begin + wall_limit - now
        if cpu_left <= 0 or wall_left <= 0:
            limit = "cpu" if cpu_left <= 0 else "wall"
            os.kill(-1, _signal.SIGKILL)
            _, wait_status, usage = os.wait4(child, 0)
            break
        if now - last_look > TICK:
            last_look = now
            exit_without_host()
        pause = min(TICK, wall_left, max(cpu_left / cores, SHORTEST_WAIT))
        _signal.sigtimedwait([_signal.SIGCHLD], pause)
    wall = time.monotonic() - begin
    # Daemons that the script left behind must not write on while the host collects the output.
    try:  # noqa: SIM105  # importing contextlib costs every script a millisecond
        os.kill(-1, _signal.SIGKILL)
    except ProcessLookupError:
        pass
    cpu = usage.ru_utime + usage.ru_stime
    return limit, wait_status, cpu, usage.ru_maxrss, wall


def exit_without_host() -> None:
    """The host sends nothing more: the end of the stream means that it is gone."""
    try:
        if os.read(0, 1) == b"":
            os._exit(1)
    except BlockingIOError:
        pass


def run_script(script: bytes, stderr_fd: int, page: mmap.mmap, signal_mask: object) -> None:
    """The child: become an ordinary `python script.py`. Never returns."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stderr_fd, 2)
    os.close(null)
    os.close(stderr_fd)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, signal_mask)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    # What was printed before a kill must have left the process.
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    code = 1
    try:
        code = execute(script, page)
    finally:
        os._exit(code & 0xFF)


def execute(script: bytes, page: mmap.mmap) -> int:
    """Run the script in a fresh `__main__`, then what a normal interpreter does at its end."""
    main_module = type(sys)("__main__")
    main_module.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main_module
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.path.insert(0, "/work")
    sys.path.append(f"{sys.prefix}/lib/python{version}/site-packages")
    sys.argv[:] = ["<script>"]
    script_pid = os.getpid()
    code = 0
    source = ""
    try:
        source = script.decode("utf-8", "surrogatepass")
        exec(compile(source, "<script>", "exec", dont_inherit=True), main_module.__dict__)
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BaseException as error:
        if os.getpid() == script_pid:  # not for a fork of the script's own making
            page[0] = 1
        code = 1
        show(error, source)
    return max(code, finish())


def exit_code(value: object) -> int:
    """Exit status of `sys.exit(value)`."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    print(value, file=sys.stderr)
    return 1


def show(error: BaseException, source: str) -> None:
    """Print the traceback as Python does, with the script's own frames and lines only."""
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    import linecache
    import traceback

    linecache.cache["<script>"] = (len(source), None, source.splitlines(True), "<script>")
    report = traceback.TracebackException.from_exception(error, compact=True)
    seen = [report]
    while seen:
        part = seen.pop()
        part.stack[:] = [frame for frame in part.stack if frame.filename == "<script>"]
        seen += [p for p in (part.__cause__, part.__context__) if p is not None]
        seen += getattr(part, "exceptions", None) or []
    print("".join(report.format()), end="", file=sys.stderr)


def finish() -> int:
    """Join threads, run exit handlers, flush: 120 when output could not be written."""
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
