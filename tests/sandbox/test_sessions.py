"""A session is one kernel: state stays, cells end, other sessions and scripts see nothing of it."""

import concurrent.futures
import ctypes
import dataclasses
import os
import pathlib
import signal
import time
from collections.abc import Callable

import pytest

from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, Session, Status
from r1ci_jax.sandbox.result import SANDBOX_FAULTS
from tests.load import PATIENCE

SLACK = 60.0


def small(session_box: Sandbox, **changes: float) -> Session:
    return session_box.session(dataclasses.replace(session_box.config.limits, **changes))  # type: ignore[arg-type]  # floats for floats


def usable(session: Session) -> bool:
    """Whatever happened, cells run, and their output is their own."""
    results = [session.run(f"print('cell', {number})") for number in range(3)]
    return [(r.status, r.stdout) for r in results] == [
        (Status.OK, f"cell {number}\n") for number in range(3)
    ]


# --- What a session is for ---


def test_f1_a_cell_prints(session: Session) -> None:
    result = session.run("print(6 * 7)")
    assert (result.status, result.stdout, result.stderr) == (Status.OK, "42\n", "")
    assert not result.state_lost and result.files == {} and result.detail == ""


def test_f2_stdin_of_a_cell_is_at_its_end(session: Session) -> None:
    result = session.run("input()")
    assert result.status is Status.EXCEPTION and "EOFError" in result.stderr
    assert usable(session)


def test_f3_errors_name_the_cell(session: Session) -> None:
    session.run("def f(x):\n    return 1 / x")
    broken = session.run("y = (")
    assert broken.status is Status.EXCEPTION and not broken.state_lost
    assert broken.stderr.startswith('  File "<cell 2>", line 1\n    y = (\n')
    failed = session.run("x = 0\nf(x)")
    lines = failed.stderr.splitlines()
    assert lines[1:3] == ['  File "<cell 3>", line 2, in <module>', "    f(x)"]
    assert '  File "<cell 1>", line 2, in f' in lines and "    return 1 / x" in lines
    assert lines[-1] == "ZeroDivisionError: division by zero" and not failed.state_lost


def test_f8_the_last_expression_is_shown(session: Session) -> None:
    assert session.run("x = 20\nx + 1").stdout == "21\n"
    assert session.run("'text'").stdout == "'text'\n"
    assert session.run("None").stdout == ""
    assert session.run("x; y = 1").stdout == ""
    assert session.run("for i in range(2): i").stdout == ""
    assert session.run("").stdout == ""


def test_f9_state_is_kept_and_nobody_elses(session: Session, session_box: Sandbox) -> None:
    session.run("import math\nsecret = 41\nopen('note', 'w').write('mine')\nmath.pi = 3")
    assert session.run("secret + 1, open('note').read(), math.pi").stdout == "(42, 'mine', 3)\n"
    look = "import math, os\nprint('secret' in globals(), os.listdir('.'), math.pi > 3)"
    with session_box.session() as other:
        assert other.run(look).stdout == "False [] True\n"
        assert other.run("secret").status is Status.EXCEPTION
    assert session_box.run(look).stdout == "False [] True\n"


def test_f9_two_sessions_do_not_mix(session_box: Sandbox) -> None:
    with session_box.session() as one, session_box.session() as other:
        for number in range(10):
            futures = [one.submit(f"x = {number}; x"), other.submit(f"x = {-number}; x")]
            assert [future.result().stdout for future in futures] == [f"{number}\n", f"{-number}\n"]


def test_u6_two_sessions_do_not_see_each_other(session_box: Sandbox) -> None:
    see = """
import os
def exists(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except PermissionError: pass
    return True
len([p for p in range(1, 500) if exists(p)]) <= 2, os.listdir("/dev/shm"), os.listdir("/proc")
"""
    with session_box.session() as one, session_box.session() as other:
        one.run("open('/dev/shm/meeting', 'w').write('here')")
        assert other.run(see).stdout == "(True, [], [])\n"
        kill = "try: os.kill(-1, 9)\nexcept ProcessLookupError: print('nobody')"
        assert other.run(kill).stdout == "nobody\n"
        assert one.run("open('/dev/shm/meeting').read()").stdout == "'here'\n"


def test_cells_queue_in_their_order(session: Session) -> None:
    futures = [session.submit("seen = []"), *(session.submit(f"seen += [{n}]") for n in range(8))]
    concurrent.futures.wait(futures)
    assert session.run("seen").stdout == f"{list(range(8))}\n"


def test_a_closed_session_ends_its_kernel(
    session_box: Sandbox, descendants: Callable[[int], set[int]], eventually: Callable[..., bool]
) -> None:
    opened = session_box.session()
    opened.run("x = 1")
    before = descendants(os.getpid())
    opened.close()
    opened.close()
    assert eventually(lambda: len(descendants(os.getpid())) < len(before))


# --- Limits: the cell is interrupted, the state is kept ---


def test_t1_the_cpu_limit_interrupts_the_cell(session_box: Sandbox) -> None:
    with small(session_box, cpu_seconds=0.4) as session:
        session.run("x = 41")
        result = session.run("print('begun')\nwhile True: pass")
        assert (result.status, result.state_lost) == (Status.TIMEOUT_CPU, False)
        assert "KeyboardInterrupt" in result.stderr and result.stdout == "begun\n"
        assert 0.4 <= result.cpu_seconds < 0.4 + 2
        assert session.run("x + 1").stdout == "42\n"


def test_t1_each_cell_has_its_own_cpu_time(session_box: Sandbox) -> None:
    with small(session_box, cpu_seconds=0.5) as session:
        code = (
            "import time\nend = time.process_time() + 0.35\nwhile time.process_time() < end: pass"
        )
        results = [session.run(code) for _ in range(6)]
        assert {(r.status, r.state_lost) for r in results} == {(Status.OK, False)}


def test_t2_the_wall_limit_interrupts_the_cell(session_box: Sandbox) -> None:
    for seconds in (0.4, 4.0, 40.0):
        with small(session_box, wall_seconds=seconds) as session:
            result = session.run("x = 1\nimport time; time.sleep(600)")
            found = (result.status, result.state_lost, session.run("x").stdout)
            assert seconds <= result.wall_seconds < seconds + SLACK
        if found == (Status.TIMEOUT_WALL, False, "1\n"):
            break  # else the machine was too busy for its end, or for the next cell
    assert found == (Status.TIMEOUT_WALL, False, "1\n")


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    try:\n        for i in range(10**9): i\n    except BaseException: pass",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "sum(range(10**12))",
    ],
)
def test_t4_a_cell_that_will_not_end_costs_the_state(session_box: Sandbox, code: str) -> None:
    with small(session_box, cpu_seconds=0.3) as session:
        session.run("x = 41")
        result = session.run(code)
        assert (result.status, result.state_lost) == (Status.TIMEOUT_CPU, True)
        assert result.wall_seconds < 0.3 + 0.5 + SLACK
        assert "NameError" in session.run("x").stderr, "it starts afresh and says so"
        assert usable(session)


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(100)"])
def test_t9_an_interrupt_keeps_the_state(session_box: Sandbox, code: str) -> None:
    for pause in (0.3, 3.0, 30.0):
        with small(session_box, cpu_seconds=PATIENCE, wall_seconds=PATIENCE) as session:
            session.run("x = 41")
            future = session.submit(code)
            time.sleep(pause)
            session.interrupt()
            while not concurrent.futures.wait([future], timeout=5.0).done:
                session.interrupt()  # the cell had not begun when it was interrupted
            result = future.result()
            found = (result.status, result.state_lost)
            if found == (Status.EXCEPTION, False):
                assert "KeyboardInterrupt" in result.stderr
                assert session.run("x + 1").stdout == "42\n"
                break  # else it was only just beginning, or had no time to end
    assert found == (Status.EXCEPTION, False)


def test_t9_an_interrupt_between_cells_does_nothing(session: Session) -> None:
    session.run("x = 41")
    for _ in range(3):
        session.interrupt()
    assert session.run("x + 1").stdout == "42\n"


def test_m1_a_memory_error_keeps_the_state(session: Session, session_box: Sandbox) -> None:
    session.run("x = 41")
    result = session.run(f"y = bytearray({session_box.config.limits.memory_bytes})")
    assert (result.status, result.state_lost) == (Status.EXCEPTION, False)
    assert "MemoryError" in result.stderr
    assert session.run("x + 1").stdout == "42\n"


def test_o1_a_flood_ends_the_cell(session: Session) -> None:
    begin = time.monotonic()
    result = session.run("while True: print('0123456789' * 100)")
    assert result.status is Status.OUTPUT_LIMIT and result.stdout_truncated
    assert time.monotonic() - begin < 1.0 + SLACK
    assert usable(session)


# --- Cells that break things ---


@pytest.mark.parametrize(
    ("code", "status", "number"),
    [
        ("import os; os._exit(5)", Status.EXIT_NONZERO, 5),
        ("import sys; sys.exit(3)", Status.EXIT_NONZERO, 3),
        ("import os; os._exit(0)", Status.OK, 0),
        ("import os; os.kill(os.getpid(), 9)", Status.KILLED_SIGNAL, 9),
        ("import ctypes; ctypes.string_at(0)", Status.KILLED_SIGNAL, 11),
        ("import os; os.abort()", Status.KILLED_SIGNAL, 6),
    ],
)
def test_a_kernel_that_dies_says_that_its_state_is_lost(
    session: Session, code: str, status: Status, number: int
) -> None:
    session.run("x = 41")
    result = session.run(code)
    assert (result.status, result.state_lost) == (status, True)
    assert number == (result.signal if status is Status.KILLED_SIGNAL else result.exit_code)
    assert "NameError" in session.run("x").stderr
    assert usable(session)


CHANNEL_ATTACKS = {
    "garbage on every descriptor": """
for fd in range(3, 256):
    try: os.write(fd, bytes(range(256)) * 4)
    except OSError: pass
""",
    "a thousand ends of the cell": """
for fd in range(3, 256):
    try: os.write(fd, b"\\0" * 1000)
    except OSError: pass
""",
    "the end, and no end": """
for fd in range(3, 256):
    try: os.write(fd, b"\\0")
    except OSError: pass
while True: pass
""",
    "close every descriptor": "os.closerange(3, 4096)",
    "close all, then run on": "os.closerange(0, 4096)\nwhile True: pass",
    "one's own pipes in their place": """
reading, writing = os.pipe()
for fd in range(3, 64):
    if fd not in (reading, writing): os.dup2(writing, fd)
""",
    "eat the orders": """
import threading
def eat(fd):
    try:
        while True: os.read(fd, 8)
    except OSError: pass
for fd in range(3, 16): threading.Thread(target=eat, args=(fd,), daemon=True).start()
""",
    "change the next cell": """
for fd in range(3, 64):
    try: os.ftruncate(fd, 0)
    except OSError: pass
    try: os.pwrite(fd, b"raise SystemExit" * 100, 0)
    except OSError: pass
""",
    "fork and go on": "os.fork()",
    "fork and go on often": "for _ in range(3): os.fork()",
    "no streams": "import sys\nsys.stdout = sys.stderr = None\ndel sys.stdin",
    "no builtins": "import builtins\nfor n in ('print', 'repr', 'eval'): delattr(builtins, n)",
    "no exit": "os._exit = os.read = os.write = os.pread = lambda *a: b''",
    "a wild excepthook": "import sys\ndef hook(*a): raise ValueError\nsys.excepthook = hook\n1 / 0",
    "a repr that raises": "class A:\n    def __repr__(self): raise SystemExit(4)\nA()",
    "no signals": "import signal\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass",
}


@pytest.mark.parametrize("name", CHANNEL_ATTACKS)
def test_o8_a_cell_cannot_break_the_worker(session_box: Sandbox, name: str) -> None:
    with small(session_box, cpu_seconds=0.4, wall_seconds=2.0) as session:
        results = [session.run("import os\n" + CHANNEL_ATTACKS[name])]
        # What a cell may ruin is its own session, until that is ended by a limit or by its death.
        while len(results) < 6 and not results[-1].state_lost:
            results.append(session.run("print('after')"))
        assert not [result for result in results if result.status in SANDBOX_FAULTS], results
        assert all(result.attempt == 1 for result in results)
    with session_box.session() as other:
        assert usable(other)
    assert session_box.run("print(1)").stdout == "1\n"


def honest(result: ExecResult, expected: str) -> bool:
    return result.state_lost or (result.status, result.stdout) == (Status.OK, expected)


@pytest.mark.parametrize("name", ["a thousand ends of the cell", "fork and go on"])
def test_o8_a_cell_never_answers_for_the_next(session_box: Sandbox, name: str) -> None:
    """An end of the cell that was written too often must not end cells to come."""
    with small(session_box, cpu_seconds=1.0, wall_seconds=3.0) as session:
        session.run("import os\n" + CHANNEL_ATTACKS[name])
        for number in range(5):
            result = session.run(f"import time; time.sleep(0.05); print({number})")
            assert honest(result, f"{number}\n"), result


# --- Processes of a cell ---

BEAT = """
import os, time
def beat():
    count = 0
    while True:
        count += 1
        with open("next", "w") as file: file.write(str(count))
        os.replace("next", "beat")
        time.sleep(0.01)
"""
BEGUN = """
while not os.path.exists("beat"): time.sleep(0.01)
time.sleep(0.2)
"""
WATCH = """
import time
first = open("beat").read(); time.sleep(0.3); print(first == open("beat").read())
"""


def test_p3_processes_end_with_their_cell(session: Session) -> None:
    code = (
        BEAT + "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: beat()\n    os._exit(0)"
    )
    result = session.run(code + BEGUN)
    assert result.status is Status.OK
    assert session.run(WATCH).stdout == "True\n"
    assert usable(session)


def test_p3_a_chain_of_forks_ends_with_its_cell(session: Session) -> None:
    """Each process lives for an instant only: who kills by a list is always late."""
    code = """
import os, time
if os.fork() == 0:
    count = 0
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError: continue
        count += 1
        with open("beat", "w") as file: file.write(str(count))
"""
    begin = time.monotonic()
    result = session.run(code + BEGUN)
    assert result.status not in SANDBOX_FAULTS and time.monotonic() - begin < SLACK
    # Where the chain was faster than who kills it, all of the session was ended.
    assert result.state_lost or honest(session.run(WATCH), "True\n")
    assert usable(session)


def test_p1_a_fork_bomb_in_a_cell_is_contained(session_box: Sandbox) -> None:
    with small(session_box, cpu_seconds=0.4, wall_seconds=1.5) as session:
        bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
        begin = time.monotonic()
        result = session.run(bomb)
        assert result.status in (Status.TIMEOUT_CPU, Status.TIMEOUT_WALL)
        assert time.monotonic() - begin < SLACK
        assert usable(session)
    assert session_box.run("print(1)").stdout == "1\n"


def test_p3_threads_stop_with_their_cell(session: Session) -> None:
    code = BEAT + "import threading\nthreading.Thread(target=beat, daemon=True).start()\n"
    session.run(code + BEGUN)
    beats = 99
    for _ in range(10):  # a thread that goes on has about 25 each time
        assert session.run("before = int(open('beat').read())").status is Status.OK
        time.sleep(0.3)
        beats = int(session.run("print(int(open('beat').read()) - before)").stdout)
        if beats < 8:
            break
    assert beats < 8


# --- Workers and memory ---


def test_p10_a_session_survives_its_worker(
    session_box: Sandbox, descendants: Callable[[int], set[int]]
) -> None:
    """Cells are not repeated: what they did before is gone, and the next cell is told so."""
    with session_box.session() as session:
        session.run("x = 41")
        future = session.submit("import time; time.sleep(30)")
        time.sleep(0.3)  # into the middle of the cell
        for pid in direct_children():
            os.kill(pid, signal.SIGKILL)
        result = future.result(PATIENCE)
        assert (result.status, result.state_lost) == (Status.INFRA_ERROR, True)
        assert "NameError" in session.run("x").stderr
        assert usable(session)
    assert session_box.run("print(1)").stdout == "1\n"


def direct_children() -> list[int]:
    paths = pathlib.Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for path in paths for pid in path.read_text().split()]


def same_memory(one: int, other: int) -> bool:
    """Process 1 of a session lives in its fork server's memory; x86_64 has this call as 312."""
    return ctypes.CDLL(None).syscall(312, one, other, 1, 0, 0) == 0  # kcmp, KCMP_VM


def proportional_bytes(pids: set[int]) -> int:
    """Memory and page tables of processes, shared pages divided among those who share them."""
    counted: list[int] = []
    total = 0
    for pid in pids:
        if any(same_memory(pid, other) for other in counted):
            continue
        counted.append(pid)
        try:
            text = (pathlib.Path(f"/proc/{pid}") / "smaps_rollup").read_text()
            text += (pathlib.Path(f"/proc/{pid}") / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        words = (line.split() for line in text.splitlines())
        total += sum(int(line[1]) << 10 for line in words if line[0] in ("Pss:", "VmPTE:"))
    return total


def test_u7_idle_sessions_are_small(
    session_box: Sandbox, descendants: Callable[[int], set[int]], policy_limits: Limits
) -> None:
    """A thousand of them are to fit into 8 GiB."""
    count = 20
    with session_box.session(policy_limits) as first:
        first.run("import numpy, sympy")  # so that what the first use costs is there before
        before = proportional_bytes(descendants(os.getpid()))
        sessions = [session_box.session(policy_limits) for _ in range(count)]
        for session in sessions:
            assert session.run("import numpy, sympy\nx = numpy.arange(10)").status is Status.OK
        grown = proportional_bytes(descendants(os.getpid())) - before
        for session in sessions:
            session.close()
    assert grown < count * (8 << 20), f"{grown / count / 2**20:.1f} MiB each"
