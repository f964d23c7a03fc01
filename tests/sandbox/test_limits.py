"""Time, memory, disk and output run out where the limits say, with the status that says so."""

import dataclasses
import time

import pytest

from r1ci_jax.sandbox import ExecResult, Sandbox, Status

SLACK = 2.0
"""Seconds that a loaded machine may add to a wall-clock bound."""


def with_limits(box: Sandbox, code: str, **changes: float) -> ExecResult:
    return box.run(code, dataclasses.replace(box.config.limits, **changes))  # type: ignore[arg-type]  # floats for floats


@pytest.mark.parametrize("cpu_seconds", [0.2, 0.75])
def test_t1_busy_loop_meets_the_cpu_limit(box: Sandbox, cpu_seconds: float) -> None:
    result = with_limits(box, "print('begun')\nwhile True: pass", cpu_seconds=cpu_seconds)
    assert (result.status, result.exit_code, result.signal) == (Status.TIMEOUT_CPU, None, None)
    assert cpu_seconds <= result.cpu_seconds < cpu_seconds + 0.2
    assert result.stdout == "begun\n", "what was printed before the end is kept"


def test_t2_sleep_meets_the_wall_limit(box: Sandbox) -> None:
    result = with_limits(box, "import time; time.sleep(100)", wall_seconds=0.5)
    assert result.status is Status.TIMEOUT_WALL
    assert 0.5 <= result.wall_seconds < 0.5 + SLACK and result.cpu_seconds < 0.3


def test_t2_a_stopped_script_meets_the_wall_limit(box: Sandbox) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    assert with_limits(box, code, wall_seconds=0.3).status is Status.TIMEOUT_WALL


def test_t3_signals_that_are_ignored_do_not_help(box: Sandbox) -> None:
    code = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        while True: pass
    except BaseException: pass
"""
    assert with_limits(box, code, cpu_seconds=0.3).status is Status.TIMEOUT_CPU


@pytest.mark.parametrize(
    "code",
    ["x = 9**9**9", "import re; re.match('(a+)+$', 'a' * 64 + 'b')", "sum(range(10**12))"],
)
def test_t5_loops_in_c_are_ended(box: Sandbox, code: str) -> None:
    result = with_limits(box, code, cpu_seconds=0.4)
    assert result.status is Status.TIMEOUT_CPU
    assert result.cpu_seconds < 0.4 + 0.2


def test_t10_waiting_in_the_queue_counts_towards_no_limit(box: Sandbox) -> None:
    limits = dataclasses.replace(box.config.limits, wall_seconds=1.5, cpu_seconds=0.5)
    futures = [
        box.submit("import time; time.sleep(0.6)", limits) for _ in range(3 * box.config.workers)
    ]
    results = [future.result() for future in futures]
    assert {result.status for result in results} == {Status.OK}
    assert max(result.queue_seconds for result in results) > 1.0
    assert {result.worker for result in results} == set(range(box.config.workers))


def test_m1_memory_beyond_the_limit_is_a_memory_error(box: Sandbox) -> None:
    size = box.config.limits.memory_bytes
    result = box.run(f"x = bytearray({size})")
    assert (result.status, result.exit_code) == (Status.EXCEPTION, 1)
    assert "MemoryError" in result.stderr
    caught = box.run(f"try: x = bytearray({size})\nexcept MemoryError: print('caught')")
    assert (caught.status, caught.stdout) == (Status.OK, "caught\n")
    assert box.run(f"x = bytearray({size // 4})").status is Status.OK


def test_m4_the_scratch_directory_is_finite(box: Sandbox) -> None:
    size = box.config.limits.file_bytes
    code = f"""
for i in range(8):
    try:
        with open(f"/work/{{i}}", "wb") as f: f.write(bytes({size // 2}))
    except OSError as e:
        print(e.strerror, i); break
"""
    assert box.run(code).stdout == "No space left on device 4\n"


def test_m5_inodes_are_finite(box: Sandbox) -> None:
    code = """
import errno
try:
    for i in range(100_000): open(f"/work/{i}", "w").close()
except OSError as e: print(errno.errorcode[e.errno], i < 5000)
"""
    assert box.run(code).stdout == "ENOSPC True\n"


def test_m6_a_file_is_finite(box: Sandbox) -> None:
    size = box.config.limits.file_bytes
    code = f"import os\nf = open('x', 'wb', buffering=0)\nf.write(bytes({size}))\nf.write(b'x')"
    result = box.run(code)
    assert result.status is Status.EXCEPTION and "File too large" in result.stderr


def test_m7_a_sparse_file_is_finite(box: Sandbox) -> None:
    result = box.run("open('x', 'wb').truncate(1 << 40)")
    assert result.status is Status.EXCEPTION and "File too large" in result.stderr


def test_m9_endless_recursion_harms_nobody(box: Sandbox) -> None:
    result = box.run("def f(): f()\nf()")
    assert result.status is Status.EXCEPTION and "RecursionError" in result.stderr
    code = "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(y) for y in [x]]\nf(1)"
    assert box.run(code).status in (Status.KILLED_SIGNAL, Status.EXCEPTION, Status.TIMEOUT_CPU)
    assert box.run("print(1)").status is Status.OK


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_o1_o2_a_flood_is_cut(box: Sandbox, stream: str) -> None:
    limit = box.config.limits.output_bytes
    begin = time.monotonic()
    result = box.run(f"import sys\nwhile True: sys.{stream}.write('0123456789' * 100)")
    assert time.monotonic() - begin < 1.0 + SLACK
    assert result.status is Status.OUTPUT_LIMIT
    kept, other = (result.stdout, result.stderr)[:: 1 if stream == "stdout" else -1]
    assert kept == ("0123456789" * limit)[:limit] and other == ""
    assert (result.stdout_truncated, result.stderr_truncated) == (
        stream == "stdout",
        stream == "stderr",
    )
    assert 0 < result.cpu_seconds < 2


def test_output_limit_is_exact(box: Sandbox) -> None:
    limit = box.config.limits.output_bytes
    full = box.run(f"print('x' * {limit - 1})")
    assert (full.status, len(full.stdout), full.stdout_truncated) == (Status.OK, limit, False)
    over = box.run(f"print('x' * {limit})")
    assert (over.status, len(over.stdout), over.stdout_truncated) == (
        Status.OUTPUT_LIMIT,
        limit,
        True,
    )


def test_o3_a_flood_from_a_grandchild_is_cut(box: Sandbox) -> None:
    code = "import os\nif os.fork() == 0:\n    while True: os.write(1, b'x' * 4096)\nos.wait()"
    assert box.run(code).status is Status.OUTPUT_LIMIT


def test_o6_printing_to_a_closed_stream_crashes_nothing(box: Sandbox) -> None:
    result = box.run("import os\nos.close(1); os.close(2)\nprint('lost')")
    assert result.status is Status.EXCEPTION and result.stdout == ""
    result = box.run("import sys\nsys.stdout.close(); sys.stderr.close()\nprint('lost')")
    assert result.status in (Status.EXCEPTION, Status.EXIT_NONZERO)
    assert box.run("import sys; sys.stdout = None; print('lost')").status is Status.OK


def test_o7_a_line_without_end_is_output_like_any_other(box: Sandbox) -> None:
    result = with_limits(box, "print('x' * 200_000, end='')", output_bytes=1 << 20)
    assert (result.status, len(result.stdout)) == (Status.OK, 200_000)
