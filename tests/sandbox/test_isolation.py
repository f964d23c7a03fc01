"""What a script can reach: its own processes, its own Python, an empty directory."""

import dataclasses
import json
import pathlib
import platform
import signal
import time
from collections.abc import Callable

import pytest

from r1ci_jax.sandbox import Limits, Sandbox, Status

Outcomes = Callable[[str], dict[str, str]]
X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86_64")

# --- Processes ---


def test_p1_fork_bomb_is_contained(box: Sandbox) -> None:
    bomb = "import os\nwhile True: os.fork()"
    polite = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    limits = dataclasses.replace(box.config.limits, cpu_seconds=0.5, wall_seconds=1.5)
    timeouts = (Status.TIMEOUT_CPU, Status.TIMEOUT_WALL)
    assert box.run(bomb, limits).status in (Status.EXCEPTION, Status.OUTPUT_LIMIT, *timeouts)
    assert box.run(polite, limits).status in timeouts
    assert box.run("print(1)").status is Status.OK


def test_p1_the_process_limit_is_exact(box: Sandbox, policy_limits: Limits) -> None:
    code = """
import os, signal
made = 1
try:
    while made < 1000:
        if os.fork() == 0: signal.pause()
        made += 1
except BlockingIOError: print(made)
"""
    assert box.run(code, policy_limits).stdout == f"{policy_limits.processes}\n"


def test_p2_thread_bomb_is_contained(box: Sandbox, policy_limits: Limits) -> None:
    code = """
import threading, os
gate = threading.Event(); made = 1
try:
    while made < 1000: threading.Thread(target=gate.wait, daemon=True).start(); made += 1
except RuntimeError: print(made)
"""
    assert box.run(code, policy_limits).stdout == f"{policy_limits.processes}\n"


def test_p3_a_daemon_does_not_outlive_its_script(box: Sandbox) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(0.01); os.write(1, b"daemon")
    os._exit(0)
os.wait(); print("done", flush=True)
"""
    begin = time.monotonic()
    result = box.run(code)
    assert result.status is Status.OK and "done\n" in result.stdout
    assert time.monotonic() - begin < 60, "the reply does not wait for who holds stdout"


def test_p4_killing_all_kills_nobody_outside(box: Sandbox) -> None:
    everyone = "import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: print('nobody there')"
    assert box.run(everyone).stdout == "nobody there\n"
    result = box.run("import os; os.killpg(0, 9)")
    assert (result.status, result.signal) == (Status.KILLED_SIGNAL, 9)
    assert box.run("print(1)").status is Status.OK


def test_p5_stopping_itself_is_sleeping(box: Sandbox) -> None:
    limits = dataclasses.replace(box.config.limits, wall_seconds=0.3)
    result = box.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", limits)
    assert result.status is Status.TIMEOUT_WALL
    assert box.run("print(1)").status is Status.OK


def test_p5_nobody_else_can_be_stopped(box: Sandbox) -> None:
    code = """
import os, signal
for pid in (1, -1):
    try: os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError: pass
print("on")
"""
    assert box.run(code).stdout == "on\n"
    begin = time.monotonic()
    assert box.run("print(1)").status is Status.OK and time.monotonic() - begin < 60


def test_p6_a_segmentation_fault_is_a_signal(box: Sandbox) -> None:
    fault = box.run("import ctypes; ctypes.string_at(0)")
    assert (fault.status, fault.signal, fault.exit_code) == (
        Status.KILLED_SIGNAL,
        signal.SIGSEGV,
        None,
    )
    assert box.run("print(1)").status is Status.OK


def test_p7_abort_and_suicide_are_signals(box: Sandbox) -> None:
    abort = box.run("import os; os.abort()")
    assert (abort.status, abort.signal) == (Status.KILLED_SIGNAL, signal.SIGABRT)
    killed = box.run("import os; os.kill(os.getpid(), 9)")
    assert (killed.status, killed.signal) == (Status.KILLED_SIGNAL, signal.SIGKILL)


def test_p8_orphans_are_reaped(box: Sandbox, patient: Limits) -> None:
    """Each one that stayed a zombie would count towards the process limit for good."""
    code = """
import os, time
def fork():
    for _ in range(500):
        try: return os.fork()
        except BlockingIOError: time.sleep(0.01)
    raise SystemExit("orphans stay")
for _ in range(200):
    if fork() == 0:
        fork()
        os._exit(0)
    os.wait()
print("fine")
"""
    assert box.run(code, patient).stdout == "fine\n"


def test_p8_zombies_end_with_their_script(box: Sandbox) -> None:
    code = "import os, time\nfor _ in range(12):\n    if os.fork() == 0: os._exit(0)\nprint('left')"
    for _ in range(4):
        assert box.run(code).stdout == "left\n"


# --- Files ---


def test_s1_nothing_but_the_scratch_directory_is_writable(outcomes: Outcomes) -> None:
    places = ["/", "/lib", "/usr", "/python", "/python/lib", "/dev", "/proc"]
    code = "".join(f"attempt({p!r}, lambda: open({p + '/x'!r}, 'w'))\n" for p in places)
    assert outcomes(code) == dict.fromkeys(places, "EROFS")
    own = "attempt('own', lambda: open('/scratch/x', 'w').write('1'))"
    assert outcomes(own) == {"own": "DONE"}
    assert outcomes("attempt('tmp', lambda: open('/tmp/x', 'w').write('1'))") == {"tmp": "DONE"}


def test_s2_no_file_of_the_host_exists(box: Sandbox, outcomes: Outcomes) -> None:
    repository = str(pathlib.Path(__file__).parents[2])
    places = [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hostname",
        "/root",
        "/home",
        "/var",
        "/sys",
        "/run",
        repository,
        "/proc/1/environ",
        "/proc/self/mem",
        "/proc/1/mem",
        "/proc/cpuinfo",
        "/proc/self/maps",
        "/cgroup/cgroup.procs",
        "/dev/mem",
        "/dev/kmsg",
        str(pathlib.Path.home() / ".ssh"),
    ]
    code = "".join(f"attempt({p!r}, lambda: os.stat({p!r}))\n" for p in places)
    assert outcomes(code) == dict.fromkeys(places, "ENOENT")
    listing = box.run(
        "import os; print(sorted(os.listdir('/')), os.listdir('/proc'), os.listdir('/scratch'))"
    )
    top = ["cgroup", "dev", "lib", "lib64", "proc", "python", "scratch", "script", "tmp", "usr"]
    assert listing.stdout == f"{top} [] []\n"
    assert box.run("import os; print(os.listdir('/cgroup'))").stdout == "[]\n"


def test_s3_files_of_the_script_before_are_gone(box: Sandbox) -> None:
    for _ in range(box.config.workers):
        box.run("for place in ('/scratch', '/tmp', '/dev/shm'): open(f'{place}/a', 'w').write('a')")
    look = "import os; print(*(os.listdir(p) for p in ('.', '/scratch', '/tmp', '/dev/shm')))"
    for _ in range(box.config.workers):
        assert box.run(look).stdout == "[] [] [] []\n"


SEARCH = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
reading, writing = os.pipe()
def page(address):
    if libc.write(writing, ctypes.c_void_p(address), 4096) != 4096: return None
    return os.read(reading, 4096)
one, other = (half[::-1].encode() for half in {halves!r})
found = pages = 0
starts = {{id(thing) & -(1 << 20) for thing in (1.5, "x" * 99, [], {{}})}}
starts.add(libc.sbrk(ctypes.c_ssize_t(0)) - 4096 & -4096)
for start in starts:
    for step in (-4096, 4096):
        address = start
        for _ in range(12_000):
            held = page(address)
            if held is None: break
            pages += 1
            place = held.find(one)
            found += place >= 0 and held.startswith(other, place + len(one))
            address += step
print(found, pages > 300)
"""


@pytest.mark.parametrize("length", [100, 3000])
def test_s3_text_of_the_script_before_is_not_in_memory(
    box: Sandbox, patient: Limits, length: int
) -> None:
    """A forked child sees what lies about in its parent's memory."""
    for _ in range(2 * box.config.workers):
        box.run(f"x = 'correct horse battery staple'  {'#' * length}")
    # It must not find itself: neither half stands in its text, and it never joins the two.
    halves = ("correct horse "[::-1], "battery staple"[::-1])
    result = box.run(SEARCH.format(halves=halves), patient)
    assert result.stdout == "0 True\n", result


def test_s4_files_of_the_script_cannot_be_executed(outcomes: Outcomes) -> None:
    code = """
open("/scratch/x", "w").write("#!/python/bin/python\\nprint(1)"); os.chmod("/scratch/x", 0o755)
attempt("script", lambda: os.execv("/scratch/x", ["x"]))
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def memfd():
    if libc.memfd_create(b"x", 0) < 0: raise OSError(ctypes.get_errno(), "memfd")
attempt("memfd", memfd)
"""
    assert outcomes(code) == {"script": "EACCES", "memfd": "EPERM"}


def test_s6_devices(box: Sandbox, outcomes: Outcomes) -> None:
    listing = box.run("import os; print(sorted(os.listdir('/dev')))")
    assert listing.stdout == "['null', 'shm', 'urandom']\n"
    code = "attempt('mknod', lambda: os.mknod('/scratch/d', 0o20666, os.makedev(1, 1)))"
    assert outcomes(code) == {"mknod": "EPERM"}


def test_s7_a_setuid_bit_gives_nothing(outcomes: Outcomes) -> None:
    code = """
import ctypes, os
open("x", "w").write("#!/python/bin/python\\n"); os.chmod("x", 0o6755)
attempt("run", lambda: os.execv("/scratch/x", ["x"]))
attempt("root", lambda: os.setuid(0))
print("nnp", ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), os.getuid() == os.geteuid())
"""
    seen = outcomes(code)
    assert (seen["run"], seen["nnp"]) == ("EACCES", "1") and seen["root"] in ("EPERM", "EINVAL")


def test_s8_changed_modules_are_not_the_next_scripts(box: Sandbox, patient: Limits) -> None:
    vandal = """
import builtins, math, sys, numpy, sympy
math.pi = 3; numpy.sum = sympy.solve = None; sys.modules["json"] = None
builtins.len = builtins.print = None
"""
    look = """
import json, math, numpy, sympy
print(math.pi > 3, len("ab"), numpy.sum([1, 2]), sympy.solve("x - 3"))
"""
    for _ in range(box.config.workers):
        box.run(vandal, patient)
    for _ in range(box.config.workers):
        assert box.run(look, patient).stdout == "True 2 3 [3]\n"


def test_s8_what_a_script_does_to_its_streams_is_not_the_next_scripts(box: Sandbox) -> None:
    """Flags and size belong to the pipe, not to the descriptor: who reuses a pipe inherits them."""
    vandal = """
import fcntl, os
for fd in (0, 1, 2):
    for flags in (os.O_NONBLOCK, os.O_NONBLOCK | os.O_ASYNC | os.O_DIRECT):
        try: fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        except OSError: pass
    for action in (lambda: fcntl.fcntl(fd, 1031, 4096), lambda: os.fchmod(fd, 0)):
        try: action()
        except OSError: pass
"""
    look = """
import fcntl, os
print([fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_ACCMODE & ~0o100000 for fd in (0, 1, 2)])
print([fcntl.fcntl(fd, 1032) for fd in (1, 2)])
"""
    first = box.run(look).stdout
    for _ in range(2 * box.config.workers):
        assert box.run(vandal).status is Status.OK
    for _ in range(2 * box.config.workers):
        assert box.run(look).stdout == first
    assert first.startswith("[0, 0, 0]\n")


def test_s9_bytecode_cannot_be_poisoned(box: Sandbox, outcomes: Outcomes) -> None:
    code = """
import importlib.util, mpmath, py_compile
open("json.py", "w").write("evil = True")
attempt("pyc", lambda: open(importlib.util.cache_from_source(mpmath.__file__), "r+b"))
attempt("source", lambda: open(mpmath.__file__, "a"))
attempt("package", lambda: os.mkdir(os.path.dirname(mpmath.__file__) + "/__pycache__/x"))
"""
    assert set(outcomes(code).values()) <= {"EROFS", "EACCES"}
    assert box.run("import json; print(hasattr(json, 'evil'))").stdout == "False\n"


def test_s10_no_memory_is_shared_between_scripts(outcomes: Outcomes) -> None:
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), "x")
attempt("shmget", lambda: call(29, 1234, 4096, 0o1666))
attempt("shmat", lambda: call(30, 0, 0, 0))
attempt("msgget", lambda: call(68, 1234, 0o1666))
attempt("semget", lambda: call(64, 1234, 1, 0o1666))
attempt("mq_open", lambda: call(240, b"q", 0o102, 0o666, 0))
from multiprocessing import shared_memory
attempt("posix", lambda: shared_memory.SharedMemory("meeting", create=True, size=4096).name)
os._exit(0)
"""
    if platform.machine() != "x86_64":
        code = "attempt('posix', lambda: open('/dev/shm/meeting', 'x').name)"
    for _ in range(2):
        seen = outcomes(code)
        assert seen.pop("posix") == "DONE", "each script's own, so never there already"
        assert set(seen.values()) <= {"EPERM"}


def test_u3_the_environment_of_the_host_stays_outside(box: Sandbox) -> None:
    """Secrets are put into this process's own environment by `test_supervisor.py`."""
    result = box.run("import json, os; print(json.dumps(dict(os.environ)))")
    inside = json.loads(result.stdout)
    plain = {n for n in inside if not n.startswith("PYTHON") and not n.endswith("_NUM_THREADS")}
    assert plain <= {"HOME", "LANG", "LC_CTYPE", "MALLOC_ARENA_MAX", "PATH", "TMPDIR", "TZ"}
    memory = box.run("import ctypes; print(ctypes.CDLL(None).getenv(b'PYTEST_CURRENT_TEST'))")
    assert memory.stdout == "0\n"
