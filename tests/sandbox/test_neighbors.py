"""Scripts leave nothing for the next one, keep nothing of the machine, end with all they began."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import jail_policy, jail_python, nsjail_binary
from r1ci_jax.sandbox.host.fork_server_client import Worker
from r1ci_jax.sandbox.host.worker_user import USERS
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from tests.load import wait_until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has users and groups to give")
LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return result if result >= 0 else -ctypes.get_errno()
"""


@pytest.fixture(scope="module")
def fork_servers() -> Sandbox:
    """Two fork servers, for what only they have in common."""
    return Sandbox(SandboxConfig(workers=2, limits=Limits(cpu_seconds=4.0, wall_seconds=120.0)))


def on_every_worker(box: Sandbox, code: str) -> list[ExecResult]:
    """Run a script until each worker has run it; return one result of each."""
    seen: dict[int, ExecResult] = {}
    while len(seen) < box.config.workers:
        for future in [box.submit(code) for _ in range(box.config.workers)]:
            result = future.result()
            seen.setdefault(result.worker, result)
    return list(seen.values())


# --- What stays behind ---


def test_the_page_of_a_script_is_not_the_next_ones(fork_servers: Sandbox) -> None:
    """Every page that a script could share is searched for the mark of the script before."""
    search = """
import ctypes, gc, mmap
pages = [o for o in gc.get_objects() if isinstance(o, (mmap.mmap, ctypes.Array))]
frame = __import__("sys")._getframe()
while frame:
    pages += [v for v in frame.f_locals.values() if isinstance(v, (mmap.mmap, ctypes.Array))]
    frame = frame.f_back
own = [ctypes.addressof(page) + 64 for page in pages if len(page) == 1]
"""
    leave = search + "for at in own: ctypes.memmove(at, b'left here', 9)\nprint(len(own))"
    look = search + "print([ctypes.string_at(at, 9) for at in own])"
    assert all(int(result.stdout) > 0 for result in on_every_worker(fork_servers, leave))
    assert not any("left here" in result.stdout for result in on_every_worker(fork_servers, look))


@pytest.mark.parametrize("fd", [1, 2])
def test_packets_left_in_a_pipe_are_not_the_next_scripts_output(box: Sandbox, fd: int) -> None:
    leave = f"""
import fcntl, os
fcntl.fcntl({fd}, 1031, 1 << 20); fcntl.fcntl({fd}, fcntl.F_SETFL, os.O_WRONLY | os.O_DIRECT)
for _ in range(256): os.write({fd}, b"left")
os._exit(0)
"""
    for _ in range(3):
        for result in on_every_worker(box, leave):
            assert (result.stdout, result.stderr)[fd - 1] == "left" * 256
        for result in on_every_worker(box, "print('mine')"):
            assert (result.stdout, result.stderr, result.attempt) == ("mine\n", "", 1)


def test_unseeded_random_numbers_differ_however_numpy_is_reached(box: Sandbox) -> None:
    code = "import numpy\nprint(getattr(numpy, 'ran' + 'dom').rand())"
    assert len({box.run(code).stdout for _ in range(6)}) == 6


# --- What a script starts ---


def test_no_process_becomes_a_child_of_the_fork_servers(box: Sandbox) -> None:
    """CLONE_PARENT, by clone and clone3, and signals at the end other than SIGCHLD."""
    code = (
        LIBC
        + """
flags = 0x8000
arguments = ctypes.create_string_buffer(88)
words = [flags, 0, 0, 0, 17]
ctypes.memmove(arguments, b"".join(word.to_bytes(8, "little") for word in words), 40)
print(call(56, flags | 17, 0, 0, 0, 0), call(56, 0, 0, 0, 0, 0), call(56, 10, 0, 0, 0, 0))
print(call(435, ctypes.addressof(arguments), 88))
"""
    )
    result = box.run(code)
    assert (result.status, result.stdout, result.attempt) == (Status.OK, "-1 -1 -1\n-38\n", 1)


def test_children_nobody_waits_for_are_charged(box: Sandbox) -> None:
    code = """
import os, time
used = 0.0
for _ in range(3):
    reads, writes = os.pipe()
    if os.fork() == 0:
        if os.fork(): os._exit(0)
        while time.process_time() < 0.3: pass
        os.write(writes, b"%f" % time.process_time()); os._exit(0)
    os.wait(); os.close(writes)
    used += float(os.read(reads, 40))
print(used)
"""
    result = box.run(code)
    assert result.status is Status.OK, result
    assert result.cpu_seconds > 0.8 * float(result.stdout) > 0.7


def test_children_nobody_waits_for_count_against_the_limit(fork_servers: Sandbox) -> None:
    code = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        while True: pass
time.sleep(60)
"""
    result = fork_servers.run(code, Limits(cpu_seconds=1.0, wall_seconds=120.0))
    assert result.status is Status.TIMEOUT_CPU


def test_children_that_ended_count_against_the_limit(box: Sandbox) -> None:
    code = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        while time.process_time() < 0.5: pass
        os._exit(0)
for _ in range(4): os.wait()
print("done")
"""
    result = box.run(code, Limits(cpu_seconds=1.5, wall_seconds=120.0))
    assert result.status is Status.TIMEOUT_CPU and result.cpu_seconds > 1.5


# --- What a script holds of the machine ---


@AS_ROOT
def test_every_worker_has_a_user_of_its_own(
    box: Sandbox, descendants: Callable[[int], set[int]]
) -> None:
    def users() -> set[str]:
        found: set[str] = set()
        for pid in descendants(os.getpid()):
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found |= {line.split()[1] for line in status if line.startswith("Uid:")}
        return found

    before = users()
    with Sandbox(SandboxConfig(workers=2, backend=box.config.backend)) as other:
        running = [other.submit("import time; time.sleep(60)") for _ in range(2)]
        # A jail that is being built has a process of root's, too.
        wait_until(lambda: len({uid for uid in users() - before if int(uid) in USERS}) >= 2)
        own = {uid for uid in users() - before if int(uid) in USERS}
        assert not any(future.done() for future in running)
    assert len(own) == 2


@AS_ROOT
def test_pipes_of_one_script_do_not_shrink_anothers(box: Sandbox) -> None:
    """The kernel counts the buffers of pipes for each user of the machine."""
    hoard = """
import fcntl, os, time
for _ in range(4):
    if os.fork() == 0:
        try:
            while True: fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)
        except OSError: pass
        try:
            while True: os.pipe()
        except OSError: pass
        time.sleep(60)
print("full", flush=True); time.sleep(4)
"""
    ask = "import os, fcntl\nprint(fcntl.fcntl(os.pipe()[1], 1032))"
    alone = box.run(ask).stdout
    future = box.submit(hoard)
    while not future.done():
        assert box.run(ask).stdout == alone


@AS_ROOT
def test_a_workers_processes_have_the_weight_of_one(fork_servers: Sandbox) -> None:
    backend = fork_servers._backend
    for worker in backend.workers:  # type: ignore[union-attr]  # the local pool
        assert worker.groups is not None
        listed = (worker.groups.cpu / "cgroup.procs").read_text().split()
        if worker.groups.version == 1:
            assert listed, "the fork server and its children are in the group"


# --- Sessions ---

SPIN = """
import threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
"""


def test_a_session_that_ran_between_its_cells_has_ended(
    descendants: Callable[[int], set[int]],
) -> None:
    """Without control groups nothing freezes it: here it is continued from outside."""
    nsjail, python = nsjail_binary.find_nsjail(), jail_python.find()
    worker = Worker(nsjail, python, jail_policy.read("default"), 0, None)
    limits = Limits(wall_seconds=120.0)
    try:
        before = descendants(os.getpid())
        number = worker.open(limits)
        first = worker.cell(
            number,
            SPIN + "print(1)",
            limits,
        )
        assert first.stdout == "1\n"
        process = _spinning(descendants, before)
        wait_until(lambda: _fields(process)[0] == "T")
        used = _ticks(process)
        os.kill(process, signal.SIGCONT)
        wait_until(lambda: _ticks(process) >= used + 30)
        second = worker.cell(number, "print(2)", limits)
        assert second.state_lost and second.status not in SANDBOX_FAULTS
    finally:
        worker.close()


def _fields(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _spinning(descendants: Callable[[int], set[int]], before: set[int]) -> int:
    """Return the one new process that has a second thread."""
    (found,) = [
        pid
        for pid in descendants(os.getpid()) - before
        if len(list(pathlib.Path(f"/proc/{pid}/task").glob("*"))) == 2
    ]
    return found


def _is_frozen(pid: int, box: Sandbox) -> bool:
    """Ask the control group: a frozen process shows the state of a sleeping one."""
    group = pathlib.Path(f"/proc/{pid}/cgroup").read_text().rsplit("/", 1)[1].strip()
    events = [
        worker.groups.freezer / group / "cgroup.events"
        for worker in box._backend.workers  # type: ignore[union-attr]  # the local pool
    ]
    return any("frozen 1" in each.read_text() for each in events if each.exists())


def _ticks(pid: int) -> int:
    return int(_fields(pid)[11])


@AS_ROOT
def test_a_session_is_frozen_between_its_cells(
    fork_servers: Sandbox, descendants: Callable[[int], set[int]]
) -> None:
    before = descendants(os.getpid())
    with fork_servers.session() as session:
        assert session.run(SPIN).status is Status.OK
        process = _spinning(descendants, before)
        # It is frozen before or after it gets the signal to stop, which then waits for it.
        wait_until(lambda: _is_frozen(process, fork_servers))
        os.kill(process, signal.SIGCONT)
        used = [_ticks(process)]
        for _ in range(5):
            time.sleep(0.1)
            used.append(_ticks(process))
        assert used[0] == used[-1]
        assert session.run("print(2)").stdout == "2\n"


# --- Nothing waits for ever ---


FORKED = """
import os, sys
from r1ci_jax.sandbox import Sandbox, SandboxConfig
with Sandbox(SandboxConfig(workers=1, backend=sys.argv[1])) as box:
    if os.fork() == 0:
        try: box.run("print(1)")
        except RuntimeError as error: print(error, flush=True)
        box.close()  # leaves the parent's alone
        os._exit(0)
    os.wait()
    print(box.run("print('parent')").stdout)
"""


def test_a_sandbox_says_that_it_was_forked(box: Sandbox) -> None:
    command = [sys.executable, "-c", FORKED, box.config.backend]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "forked child" in told and told.endswith("parent\n\n")


def test_a_fork_server_that_is_stopped_in_its_start_is_a_fault(
    descendants: Callable[[int], set[int]],
) -> None:
    nsjail, python = nsjail_binary.find_nsjail(), jail_python.find()
    worker = Worker(nsjail, python, jail_policy.read("default"), 0, None)
    stop = threading.Event()
    before = descendants(os.getpid())

    def halt() -> None:
        while not stop.is_set():
            for pid in descendants(os.getpid()) - before:
                try:
                    if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("python"):
                        os.kill(pid, signal.SIGSTOP)
                except (FileNotFoundError, ProcessLookupError):
                    continue

    thread = threading.Thread(target=halt)
    thread.start()
    try:
        result = worker.run("print(1)", Limits())
    finally:
        stop.set()
        thread.join()
        worker.close()
    assert result.status is Status.INFRA_ERROR and "did not start" in result.detail


def test_a_policy_that_has_gone_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(
        nsjail_binary.find_nsjail(), jail_python.find(), jail_policy.read("default"), 0, None
    )
    monkeypatch.setattr(jail_policy.jail_policy_file, "directory", lambda: pathlib.Path("/none"))
    result = worker.run("print(1)", Limits())
    worker.close()
    assert result.status is Status.INFRA_ERROR and "/none" in result.detail


def test_a_defect_in_a_workers_thread_ends_the_waiting_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(self: Worker) -> None:
        raise ValueError("a defect of our own")

    monkeypatch.setattr(Worker, "start", defect)
    with pytest.raises((ValueError, RuntimeError)):
        Sandbox(SandboxConfig(workers=1))
