"""The scripts of the soak test, each with its expected end."""

import dataclasses
from typing import Any, Final

from r1ci_jax.sandbox.result import Status
from r1ci_jax.sandbox.settings import Limits

BASE: Final = Limits(
    cpu_seconds=10.0, wall_seconds=60.0, output_bytes=16 << 10, processes=16, file_bytes=4 << 20
)
SHORT_CPU: Final = dataclasses.replace(BASE, cpu_seconds=0.2)
SHORT_WALL: Final = dataclasses.replace(BASE, wall_seconds=0.3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One script, or one cell of a session; `@N@` is replaced by the number of the run."""

    code: str
    status: tuple[Status, ...] = (Status.OK,)
    stdout: str | None = None
    """Expected output; None to skip the check."""
    exit_code: int | None = None
    signal: int | None = None
    lost: bool | None = False
    """True if the session's process must end, False if it must not; None permits both."""
    collects: tuple[tuple[str, bytes], ...] | None = None
    """The exact files that the result must contain."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of script or session."""

    name: str
    weight: int
    """Weight among all kinds."""
    steps: tuple[Step, ...]
    limits: Limits = BASE
    session: bool = False
    collect: tuple[str, ...] = ()


def script(
    name: str,
    weight: int,
    code: str,
    status: Status | tuple[Status, ...] = Status.OK,
    stdout: str | None = None,
    limits: Limits = BASE,
    **expected: Any,
) -> Kind:
    """Make a kind that is one stateless script."""
    statuses = status if isinstance(status, tuple) else (status,)
    step = Step(code=code, status=statuses, stdout=stdout, **expected)
    names = tuple(name for name, _ in step.collects or ())
    # A link and a directory are requested, too, and must not be returned.
    collect = (*names, "link", "folder", "missing") if step.collects is not None else ()
    return Kind(name=name, weight=weight, steps=(step,), limits=limits, collect=collect)


def session(name: str, weight: int, *steps: Step, limits: Limits = BASE) -> Kind:
    """A kind that is a session with several cells."""
    return Kind(name=name, weight=weight, steps=steps, limits=limits, session=True)


BUSY: Final = "while True: pass"
# If the loop were the first statement of the `try`, the interrupt could escape its handler.
DEAF: Final = """
while True:
    try:
        n = 0
        while True: n += 1
    except BaseException: pass
"""
UNFORGETTABLE: Final = Step(code="kept = @N@")
GONE: Final = Step(code="kept", status=(Status.EXCEPTION,), stdout="")

PLAIN: Final = (
    script("print", 330, "print(@N@)", stdout="@N@\n"),
    script("sum", 100, "print(sum(range(@N@ % 1000)) >= 0)", stdout="True\n"),
    script("numpy", 50, "import numpy\nprint(numpy.arange(4).sum())", stdout="6\n"),
    script("sympy", 20, "import sympy\nprint(sympy.factorint(60))", stdout="{2: 2, 3: 1, 5: 1}\n"),
    script("exception", 100, "print('x')\n1 / 0", Status.EXCEPTION, "x\n", exit_code=1),
    script("syntax", 40, "print((@N@", Status.EXCEPTION, "", exit_code=1),
    script("exit", 50, "import sys; sys.exit(137)", Status.EXIT_NONZERO, "", exit_code=137),
    script("exit-at-once", 20, "import os; os._exit(255)", Status.EXIT_NONZERO, exit_code=255),
    script("own-files", 30, "open('a', 'w').write('@N@')\nprint(open('a').read())", stdout="@N@\n"),
    script(
        "collect", 20, """
import os
os.mkdir("folder"); os.symlink("/dev/urandom", "link")
open("made.txt", "w").write("@N@")
open("folder/raw", "wb").write(b"\\xff")
""", collects=(("made.txt", b"@N@"), ("folder/raw", b"\xff")),
    ),
)  # fmt: skip

HOSTILE: Final = (
    script("segfault", 30, "import ctypes; ctypes.string_at(0)", Status.KILLED_SIGNAL, signal=11),
    script("abort", 10, "import os; os.abort()", Status.KILLED_SIGNAL, signal=6),
    script("kill-itself", 20, "import os; os.kill(os.getpid(), 9)", Status.KILLED_SIGNAL, signal=9),
    script(
        "kill-others", 30, """
import os, signal
for target in (-1, 1, os.getppid(), 0):
    for number in (9, 15, 19, 2) if target else ():
        try: os.kill(target, number)
        except OSError: pass
os._exit(11)
""", Status.EXIT_NONZERO, exit_code=11,
    ),
    script(
        "refused-calls", 20, """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000), libc.ptrace(16, 1, 0, 0), libc.syscall(425, 1, 0))
try: socket.socket()
except PermissionError: print("no socket")
""", stdout="-1 -1 -1\nno socket\n",
    ),
    script(
        "daemon", 30, """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
os.wait(); print("done")
""", stdout="done\n",
    ),
    script(
        "zombies", 5, """
import os
for _ in range(30):
    if os.fork() == 0:
        os.fork(); os._exit(0)
    os.wait()
print("fine")
""", stdout="fine\n",
    ),
    script(
        "fork-bomb", 4, "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        (Status.TIMEOUT_CPU, Status.TIMEOUT_WALL), limits=SHORT_WALL,
    ),
    script(
        "thread-bomb", 5, """
import threading
gate = threading.Event()
try:
    while True: threading.Thread(target=gate.wait, daemon=True).start()
except RuntimeError: print("refused")
""", stdout="refused\n",
    ),
    script(
        "children", 5, """
import subprocess, sys
print(subprocess.run([sys.executable, "-S", "-c", "print(1)"], capture_output=True).stdout)
""", stdout="b'1\\n'\n",
    ),
)  # fmt: skip

EXHAUSTING: Final = (
    script("cpu", 4, BUSY, Status.TIMEOUT_CPU, "", SHORT_CPU),
    script("cpu-in-c", 2, "9**9**9", Status.TIMEOUT_CPU, "", SHORT_CPU),
    script("sleep", 3, "import time; time.sleep(99)", Status.TIMEOUT_WALL, "", SHORT_WALL),
    script(
        "stopped", 2, "import os; os.kill(os.getpid(), 19)", Status.TIMEOUT_WALL, "", SHORT_WALL
    ),
    script("memory-at-once", 20, "bytearray(1 << 34)", Status.EXCEPTION, ""),
    script(
        "memory-in-steps", 2, """
blocks = []
try:
    while True: blocks.append(bytes(32 << 20))
except MemoryError: del blocks; print("full")
""", stdout="full\n",
    ),
    script("flood", 20, "while True: print('x' * 999)", Status.OUTPUT_LIMIT),
    script(
        "flood-of-stderr", 10, "import sys\nwhile True: sys.stderr.write('x' * 999)",
        Status.OUTPUT_LIMIT, "",
    ),
    script(
        "flood-of-a-child", 5,
        "import os\nif os.fork() == 0:\n    while True: os.write(1, b'x' * 4096)\nos.wait()",
        Status.OUTPUT_LIMIT,
    ),
    script(
        "disk", 10, """
try:
    for n in range(9):
        with open(str(n), "wb") as f: f.write(bytes(2 << 20))
except OSError as error: print(error.strerror)
""", stdout="No space left on device\n",
    ),
    script(
        "inodes", 2, """
try:
    for n in range(9999): open(str(n), "w").close()
except OSError as error: print(error.strerror)
""", stdout="No space left on device\n",
    ),
    script("sparse", 5, "open('x', 'wb').truncate(1 << 40)", Status.EXCEPTION, ""),
)  # fmt: skip

SESSIONS: Final = (
    session(
        "session", 30, UNFORGETTABLE,
        Step(code="1 / 0", status=(Status.EXCEPTION,)), Step(code="kept", stdout="@N@\n"),
    ),
    session(
        "session-interrupted", 2, UNFORGETTABLE,
        # On a loaded machine the session may not answer in time; then it is replaced.
        Step(code=BUSY, status=(Status.TIMEOUT_CPU,), lost=None),
        Step(code="print(globals().get('kept', @N@))", stdout="@N@\n"),
        limits=SHORT_CPU,
    ),
    session(
        "session-deaf", 1, UNFORGETTABLE,
        Step(code=DEAF, status=(Status.TIMEOUT_CPU,), lost=True), GONE,
        limits=SHORT_CPU,
    ),
    session(
        "session-killed", 5, UNFORGETTABLE,
        Step(
            code="import os; os.kill(os.getpid(), 9)", status=(Status.KILLED_SIGNAL,), signal=9,
            lost=True,
        ), GONE,
    ),
    session(
        "session-left", 5, UNFORGETTABLE,
        Step(code="import os; os._exit(3)", status=(Status.EXIT_NONZERO,), exit_code=3, lost=True),
    ),
    session(
        "session-flood", 3, UNFORGETTABLE,
        Step(code="while True: print('x' * 999)", status=(Status.OUTPUT_LIMIT,), lost=None),
        Step(code="2 + 2", stdout="4\n"),
    ),
)  # fmt: skip

TOGETHER: Final = """
import os, time
hog = bytes(1) * (420 << 20)
if os.fork() == 0:
    del hog
    more = bytes(1) * (380 << 20); time.sleep(1); os._exit(0)
os.wait()
"""
"""Neither process exceeds its own limit; the Linux kernel kills the larger one, the script."""


def mix(tier: str) -> tuple[Kind, ...]:
    """Return all kinds; this tier decides the end of those that use memory in several processes."""
    status = Status.OOM if tier == "nsjail + cgroup" else Status.OK
    together = script("memory-together", 1, TOGETHER, status)
    return (*PLAIN, *HOSTILE, *EXHAUSTING, *SESSIONS, together)
