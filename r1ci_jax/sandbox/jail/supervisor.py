"""The trusted process 1 of a cold jail: it is the parent of the script and reports its end.

The host sends this module's code together with the script over file descriptor 0, a socket, so no
file of the jail contains it. The script runs in a forked child that holds neither the socket nor
the log. Process 1 of a pid namespace ignores every signal from inside it, and the seccomp policy
refuses ptrace and similar calls. So the script can neither write to the channel, nor read it, nor
stop the supervisor.
"""

import _signal  # pyright: ignore[reportMissingImports]  # see script.py
import mmap
import os
import time

from r1ci_jax.sandbox.jail import collect, script

TICK = 0.5
"""Seconds between two checks whether the host still runs."""
SIGPENDING = 11
"""RLIMIT_SIGPENDING, which nsjail cannot set: queued signals count for the host's user, too."""
SHORTEST_WAIT = 0.005
"""Smallest number of seconds between two readings of the CPU clock."""


def main(request: dict[str, object], stderr_fd: int, files_fd: int) -> None:
    """Run the requested script in a child and report on descriptor 0; never return."""
    code, cpu_limit, wall_limit = request["code"], request["cpu"], request["wall"]
    names, file_bytes, isolated = request["collect"], request["file_bytes"], request["isolated"]
    scratch = request["scratch"]
    assert isinstance(scratch, str)
    assert isinstance(code, bytes) and isinstance(names, tuple) and isinstance(file_bytes, int)
    assert isinstance(cpu_limit, float) and isinstance(wall_limit, float)
    # Only handled signals reach process 1 from inside; Python would handle SIGINT.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # SIGCHLD stays pending until the wait below takes it.
    previous_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGCHLD])
    page = mmap.mmap(-1, 1)
    os.set_blocking(0, False)
    os.write(0, b"S")
    child = os.fork()
    if child == 0:
        _limit_resources(request, isolated=bool(isolated))
        _take_over(stderr_fd, files_fd, previous_mask)
        file = script.FILE if isolated else f"{os.path.dirname(scratch)}/script.py"
        script.run_script(code, page, file)
    report = '{"limit":"%s","wait_status":%d,"cpu":%.6f,"rss_kib":%d,"wall":%.6f,"exception":%d}\n'
    # Without a pid namespace, "every process" would include the host's processes.
    everyone = -1 if isolated else -child
    seen = watch(child, everyone, cpu_limit, wall_limit)
    if names:
        collect.send(scratch, names, file_bytes, files_fd)
    os.write(0, (report % (*seen, page[0])).encode())
    os._exit(0)


def watch(
    child: int, everyone: int, cpu_limit: float, wall_limit: float
) -> tuple[str, int, float, int, float]:
    """Wait for the child and enforce both limits; `everyone` means all its processes to kill(2).

    Returns:
        The limit it hit ("", "cpu" or "wall"), wait status, CPU seconds, peak memory in KiB, and
        wall seconds.
    """
    begin = time.monotonic()
    orphans = 0.0
    cores = len(os.sched_getaffinity(0))
    # clock_getcpuclockid(3): the process-wide CPU clock of another process, without /proc.
    cpu_clock = (~child << 3) | 2
    limit = ""
    last_look = begin
    while True:
        pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
        if pid == child:
            break
        if pid:  # an orphan of the script, which process 1 reaps
            orphans += usage.ru_utime + usage.ru_stime
            continue
        now = time.monotonic()
        cpu_left = cpu_limit - orphans - time.clock_gettime(cpu_clock)
        wall_left = begin + wall_limit - now
        if cpu_left <= 0 or wall_left <= 0:
            limit = "cpu" if cpu_left <= 0 else "wall"
            os.kill(everyone, _signal.SIGKILL)
            _, wait_status, usage = os.wait4(child, 0)
            break
        if now - last_look > TICK:
            last_look = now
            exit_without_host()
        pause = min(TICK, wall_left, max(cpu_left / cores, SHORTEST_WAIT))
        _signal.sigtimedwait([_signal.SIGCHLD], pause)
    wall = time.monotonic() - begin
    # Daemons that the script left must not write while the host collects the output.
    try:  # noqa: SIM105  # importing contextlib costs every script a millisecond
        os.kill(everyone, _signal.SIGKILL)
    except ProcessLookupError:
        pass
    cpu = usage.ru_utime + usage.ru_stime + orphans + reap_orphans()
    if cpu >= cpu_limit and not limit:
        limit = "cpu"
    return limit, wait_status, cpu, usage.ru_maxrss, wall


def reap_orphans() -> float:
    """Wait for the processes that the script left; return their CPU seconds."""
    seconds = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return seconds
        seconds += usage.ru_utime + usage.ru_stime


def exit_without_host() -> None:
    """Exit if the stream is at its end, which means that the host has ended."""
    try:
        if os.read(0, 1) == b"":
            os._exit(1)
    except BlockingIOError:
        pass


def _limit_resources(request: dict[str, object], *, isolated: bool) -> None:
    """Set the resource limits that no jail has set."""
    import resource

    limits = (
        []
        if isolated
        else [
            (resource.RLIMIT_AS, "memory"),
            (resource.RLIMIT_CPU, "cpu_backstop"),
            (resource.RLIMIT_FSIZE, "file_bytes"),
        ]
    )
    for which, key in (*limits, (SIGPENDING, "signals")):
        most = request[key]
        assert isinstance(most, int)
        resource.setrlimit(which, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _take_over(stderr_fd: int, files_fd: int, signal_mask: object) -> None:
    """Prepare the child: empty its stdin, set its stderr, close all other descriptors."""
    os.setsid()  # else it could join the supervisor's process group
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stderr_fd, 2)
    for fd in (null, stderr_fd, files_fd):
        os.close(fd)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, signal_mask)
