"""The host's side: what surrounds a run, survives its loss, and leaves nothing behind."""

import concurrent.futures
import contextlib
import dataclasses
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
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from tests.load import PATIENCE, wait_until

REPOSITORY = pathlib.Path(__file__).parents[2]
Descendants = Callable[[int], set[int]]
Eventually = Callable[..., bool]


def host_program(source: str, backend: str) -> list[str]:
    """A program of its own that runs scripts."""
    head = (
        "import os, sys, time\nfrom r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig\n"
        f"box = Sandbox(SandboxConfig(workers=1, backend={backend!r}))\n"
    )
    return [sys.executable, "-c", head + source]


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def generations(pid: int) -> int:
    """How many processes lie below each other below this one."""
    children: list[str] = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += path.read_text().split()
    return max((1 + generations(int(child)) for child in children), default=0)


def parent(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


# --- Losses ---


def test_p9_everything_dies_with_the_host(
    box: Sandbox, descendants: Descendants, eventually: Eventually
) -> None:
    source = f"""
code = "import os, time\\nif os.fork() == 0: os.setsid()\\nwhile True: time.sleep(0.1)"
box.submit(code, Limits(wall_seconds={2 * PATIENCE}))
time.sleep({PATIENCE})
"""
    with subprocess.Popen(host_program(source, box.config.backend), cwd=REPOSITORY) as host:
        try:
            # nsjail, its process 1, the script and its child
            wait_until(lambda: generations(host.pid) >= 4, "the script's child")
            jailed = descendants(host.pid)
        finally:
            host.kill()
    assert eventually(lambda: not any(alive(pid) for pid in jailed))


def workers_of_new_processes(before: set[int], descendants: Descendants) -> set[int]:
    """The children of this process below which a process has appeared since."""
    found = set()
    for pid in descendants(os.getpid()) - before:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while parent(pid) != os.getpid():
                pid = parent(pid)
            found.add(pid)
    return found


def worker_of_a_new_process(
    before: set[int], descendants: Descendants, future: concurrent.futures.Future[ExecResult]
) -> int | None:
    """The worker that has begun to run a script; None if that has ended before it was seen."""
    while not (workers := workers_of_new_processes(before, descendants)):
        if future.done():
            return None
        time.sleep(0.02)
    time.sleep(0.3)  # into the middle of the script
    return workers.pop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_p10_a_lost_worker_costs_one_attempt(
    box: Sandbox, descendants: Descendants, number: signal.Signals
) -> None:
    limits = dataclasses.replace(box.config.limits, wall_seconds=PATIENCE)
    for seconds in (0.8, 4.0, 20.0, 100.0):
        before = descendants(os.getpid())
        end = time.time() + seconds
        code = f"import time; time.sleep(max(0, {end} - time.time())); print('through')"
        future = box.submit(code, limits)
        worker = worker_of_a_new_process(before, descendants, future)
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)
        result = future.result(PATIENCE)
        if result.attempt == 2:  # else the machine was so busy that the script had ended
            break
    assert (result.status, result.stdout, result.attempt) == (Status.OK, "through\n", 2)
    results = [each.result() for each in [box.submit("print(1)") for _ in range(8)]]
    assert {(r.status, r.attempt) for r in results} == {(Status.OK, 1)}


def test_p10_a_worker_that_is_always_lost_is_a_fault(
    box: Sandbox, descendants: Descendants
) -> None:
    """Never a time-out, never a reward of zero: the status says that there is no verdict."""
    stop = threading.Event()
    known = descendants(os.getpid())
    limits = dataclasses.replace(box.config.limits, wall_seconds=2 * PATIENCE)
    future = box.submit(f"import time; time.sleep({PATIENCE})", limits)

    def kill_whatever_runs() -> None:
        while not stop.is_set() and not future.done():
            with contextlib.suppress(ProcessLookupError):
                for worker in workers_of_new_processes(known, descendants):
                    os.kill(worker, signal.SIGKILL)
            time.sleep(0.3)  # into the middle of the script

    killer = threading.Thread(target=kill_whatever_runs)
    killer.start()
    try:
        result = future.result(PATIENCE)
    finally:
        stop.set()
        killer.join()
    assert result.status is Status.INFRA_ERROR and result.attempt >= 2 and result.detail
    wait_until(lambda: box.run("print(1)").status is Status.OK)


def own_children() -> set[int]:
    """Processes directly below this one: one nsjail for each worker, or for each cold run."""
    paths = pathlib.Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for path in paths for pid in path.read_text().split()}


def test_close_ends_what_runs_and_drops_what_waits(box: Sandbox, eventually: Eventually) -> None:
    outside = own_children()
    limits = Limits(wall_seconds=3 * PATIENCE)
    own = Sandbox(SandboxConfig(workers=1, backend=box.config.backend, limits=limits))
    code = f"import time; time.sleep({2 * PATIENCE})"
    first, second = (own.submit(code) for _ in range(2))
    wait_until(first.running)
    begin = time.monotonic()
    own.close()
    own.close()
    assert time.monotonic() - begin < PATIENCE, "it does not wait for the script's end"
    assert first.result().status is Status.INFRA_ERROR and second.cancelled()
    assert eventually(lambda: own_children() <= outside)


# --- What the host has and a script does not get ---


def run_host(source: str, box: Sandbox, **settings: object) -> str:
    done = subprocess.run(
        host_program(source, box.config.backend),
        cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False, **settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_u2_stdin_of_the_host_is_not_read(box: Sandbox) -> None:
    source = """
print(repr(box.run("import os, sys; print(repr(sys.stdin.read()), os.read(0, 100))").stdout))
print(repr(sys.stdin.read()))
box.close()
"""
    shown = run_host(source, box, input="SECRET")
    assert shown.splitlines() == [repr("'' b''\n"), repr("SECRET")]


def test_u3_secrets_of_the_hosts_environment_stay_outside(box: Sandbox) -> None:
    """Neither in the variables nor anywhere in the script's memory that came with its process."""
    source = """
code = '''
import ctypes, os
libc = ctypes.CDLL(None)
libc.environ = ctypes.c_void_p.in_dll(libc, "environ")
address, held = libc.environ.value, b""
reading, writing = os.pipe()
for page in range(address & -4096, (address & -4096) + (64 << 12), 4096):
    if libc.write(writing, ctypes.c_void_p(page), 4096) == 4096: held += os.read(reading, 4096)
print(sorted(os.environ)); print(b"hunter" + b"2" in held, len(held) > 0)
'''
result = box.run(code)
print(result.stdout, result.stderr)
box.close()
"""
    names = ("HF_TOKEN", "WANDB_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_SECRET_ACCESS_KEY")
    shown = run_host(source, box, env={**os.environ, **dict.fromkeys(names, "hunter2")})
    assert "False True" in shown and not any(name in shown for name in names), shown


def test_n6_open_files_of_the_host_stay_outside(box: Sandbox, tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("secret")
    source = f"""
box.close()
held = [os.open({str(tmp_path / "secret")!r}, os.O_RDONLY) for _ in range(20)]
for fd in held: os.set_inheritable(fd, True)
box = Sandbox(SandboxConfig(workers=1, backend={box.config.backend!r}))
look = '''
import os
for fd in range(1024):
    try: os.fstat(fd); print(fd, end=" ")
    except OSError: pass
'''
print(box.run(look).stdout)
box.close()
"""
    assert run_host(source, box).split() == ["0", "1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into jailed processes")
def test_k3_a_script_shares_no_memory_with_those_who_judge_it(
    box: Sandbox, descendants: Descendants
) -> None:
    """One page at most, whose one byte tells an exception from an exit."""

    def filtered() -> list[int]:
        """Processes that the system-call filter holds: those that run scripts."""
        found = []
        for pid in descendants(os.getpid()):
            status = said(pid, "status")
            if "\nSeccomp:\t2\n" in status and "\nCapEff:\t0000000000000000\n" in status:
                found.append(pid)
        return found

    def said(pid: int, name: str) -> str:
        try:
            return pathlib.Path(f"/proc/{pid}/{name}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""

    limits = dataclasses.replace(box.config.limits, wall_seconds=PATIENCE)
    for seconds in (2, 8, 32):
        future = box.submit(f"import time; time.sleep({seconds})", limits)
        while not future.done() and not filtered():
            time.sleep(0.02)
        time.sleep(0.5)  # a cold jail's supervisor is held by the filter before it forks
        lines = [line.split() for pid in filtered() for line in said(pid, "maps").splitlines()]
        if not future.done():  # else it had ended before it was looked at
            break
    assert not future.done() and lines
    shared = [0]
    for span, rights, *_ in lines:
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw") and rights.endswith("s"):
            shared.append(end - start)
    assert future.result().status is Status.OK
    assert max(shared) <= 4096, shared


# --- Nothing is left, nothing grows ---


def cgroups() -> set[str]:
    """Directories of this program's control groups."""
    paths = (path for path, _, _ in os.walk("/sys/fs/cgroup"))
    return {path for path in paths if "r1ci" in path.lower() or "nsjail" in path.lower()}


def holdings(descendants: Descendants) -> dict[str, int]:
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mounts": len(pathlib.Path("/proc/self/mounts").read_text().splitlines()),
        "processes": len(descendants(os.getpid())),
    }


def settled(box: Sandbox, descendants: Descendants) -> dict[str, int]:
    """With every worker awake and its preparations for the next script made."""
    for future in [box.submit("import time; time.sleep(0.2)") for _ in range(box.config.workers)]:
        assert future.result().status is Status.OK
    held = [holdings(descendants)]
    while len(held) < 10 or any(each != held[-1] for each in held[-10:]):
        time.sleep(0.05)
        held.append(holdings(descendants))
    return held[-1]


MIXED = (
    "print(1)",
    "1 / 0",
    "while True: print('x' * 1000)",
    "import os; os.kill(os.getpid(), 9)",
    "import os\nfor _ in range(5): os.fork()",
    "open('f', 'wb').write(bytes(1 << 20)); import os; os.symlink('f', 'g')",
    "import os; os.closerange(0, 256); os.fork(); os._exit(3)",
    "import threading; threading.Thread(target=print, args=('t',)).start()",
    "import ctypes; ctypes.string_at(0)",
    "x = bytearray(1 << 40)",
)


def test_u5_nothing_is_left_behind(
    box: Sandbox, descendants: Descendants, eventually: Eventually
) -> None:
    for code in MIXED:
        box.run(code, collect=["f", "g"])
    before = settled(box, descendants)
    for code in MIXED * 4:
        box.run(code, collect=["f", "g"])
    assert eventually(lambda: holdings(descendants) == before), (before, holdings(descendants))


def test_u5_a_closed_sandbox_leaves_nothing(
    box: Sandbox,
    descendants: Descendants,
    eventually: Eventually,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before, groups, outside = settled(box, descendants), cgroups(), own_children()
    with Sandbox(SandboxConfig(workers=2, backend=box.config.backend)) as own:
        for code in MIXED:
            own.run(code)
        if box.config.backend == "zygote":
            own.session().run("x = 1")  # closed with the sandbox at the latest
        mine = {group for group in cgroups() - groups if f"{os.getpid()}" in group}
    assert eventually(lambda: holdings(descendants) == before), (before, holdings(descendants))
    assert own_children() == outside
    assert not mine & cgroups() and not list(tmp_path.iterdir())


def test_u6_two_scripts_at_once_do_not_see_each_other(box: Sandbox) -> None:
    stay = """
import os, time
for place in ("/scratch", "/tmp", "/dev/shm"): open(f"{place}/mine", "w").write("x")
if os.fork() == 0: time.sleep(9)
time.sleep(0.8); print("undisturbed")
"""
    look = """
import os, time
time.sleep(0.3)
def exists(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except PermissionError: pass
    return True
print(sum(exists(pid) for pid in range(1, 2000)) <= 2)
try: os.kill(-1, 9)
except ProcessLookupError: print("nobody")
print(*(os.listdir(place) for place in (".", "/tmp", "/dev/shm", "/proc")))
"""
    for _ in range(5):  # on a busy machine the second may begin only after the first
        one, other = (future.result() for future in [box.submit(stay), box.submit(look)])
        if one.worker != other.worker:
            break
    assert one.stdout == "undisturbed\n" and one.worker != other.worker
    assert other.stdout == "True\nnobody\n[] [] [] []\n"


def test_u9_a_short_soak(box: Sandbox, descendants: Descendants, eventually: Eventually) -> None:
    """The long one is `r1ci sandbox soak`."""

    def resident() -> int:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

    def rounds(count: int) -> None:
        futures = [box.submit(code) for _ in range(count) for code in MIXED]
        assert not [f for f in futures if f.result().status in SANDBOX_FAULTS]
        done = concurrent.futures.wait(futures)
        assert not done.not_done

    rounds(4)
    before, memory = settled(box, descendants), resident()
    rounds(12 if box.config.backend == "zygote" else 4)
    assert eventually(lambda: holdings(descendants) == before), (before, holdings(descendants))
    assert resident() - memory < 8 << 20


def test_many_threads_may_ask_at_once(box: Sandbox, patient: Limits) -> None:
    def ask(number: int) -> bool:
        return box.run(f"print({number})", patient).stdout == f"{number}\n"

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(64)))
