"""A script in the jail behaves as `python script.py` does. Names follow the acceptance list."""

import dataclasses
import statistics

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Limits, Sandbox, Status


def test_f1_print(box: Sandbox) -> None:
    result = box.run("print(6 * 7)")
    assert (result.status, result.exit_code, result.stdout, result.stderr) == (
        Status.OK,
        0,
        "42\n",
        "",
    )
    assert result.signal is None and result.detail == "" and result.attempt == 1
    assert result.files == {} and not result.state_lost
    assert 0 < result.cpu_seconds < 2 and 0 < result.wall_seconds < 60
    assert 1 << 20 < result.max_rss_bytes < 1 << 28


def test_f2_stdin_is_at_its_end(box: Sandbox) -> None:
    result = box.run("input()")
    assert result.status is Status.EXCEPTION
    assert result.stderr.endswith("EOFError: EOF when reading a line\n")
    assert box.run("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"


def test_f3_syntax_error_names_the_script_only(box: Sandbox) -> None:
    result = box.run("x = 1\ny = (\n")
    assert (result.status, result.exit_code) == (Status.EXCEPTION, 1)
    assert result.stderr.startswith('  File "<script>", line 2\n    y = (\n')
    assert "SyntaxError: '(' was never closed" in result.stderr


def test_f4_traceback_shows_the_scripts_own_lines(box: Sandbox) -> None:
    result = box.run("def f(x):\n    return 1 / x\n\nf(0)\n")
    assert (result.status, result.exit_code) == (Status.EXCEPTION, 1)
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1:3] == ['  File "<script>", line 4, in <module>', "    f(0)"]
    assert '  File "<script>", line 2, in f' in lines and "    return 1 / x" in lines
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_f4_traceback_of_chained_errors_and_of_library_code(box: Sandbox) -> None:
    code = (
        "import json\ntry: json.loads('{')\nexcept ValueError as e: raise RuntimeError('no') from e"
    )
    text = box.run(code).stderr
    files = [line.split(",")[0] for line in text.splitlines() if line.startswith("  File")]
    assert files == ['  File "<script>"'] * 2
    assert "direct cause" in text and text.endswith("RuntimeError: no\n")
    group = box.run("raise ExceptionGroup('g', [ValueError('a'), KeyError('b')])")
    assert group.status is Status.EXCEPTION and "ValueError: a" in group.stderr


@pytest.mark.parametrize(
    ("leave", "code", "message"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit('reason')", 1, "reason\n"),
        ("sys.exit()", 0, ""),
        ("raise SystemExit(0)", 0, ""),
    ],
)
def test_f5_sys_exit(box: Sandbox, leave: str, code: int, message: str) -> None:
    result = box.run(f"import sys\n{leave}")
    expected = Status.OK if code == 0 else Status.EXIT_NONZERO
    assert (result.status, result.exit_code, result.stderr) == (expected, code, message)


def test_f7_numpy_and_sympy(box: Sandbox, patient: Limits) -> None:
    code = "import numpy, sympy\nprint(numpy.arange(4).sum(), sympy.solve('x**2 - 4'))"
    result = box.run(code, patient)
    assert (result.status, result.stdout) == (Status.OK, "6 [-2, 2]\n")


def test_f7_numpy_and_sympy_wait_in_the_fork_server(session_box: Sandbox, patient: Limits) -> None:
    code = "import numpy, sympy\nprint(sympy.solve('x**2 - 4'))"
    results = [session_box.run(code, patient) for _ in range(5)]
    assert {result.status for result in results} == {Status.OK}
    assert statistics.median(result.cpu_seconds for result in results) < 0.5


def test_f10_one_megabyte_of_code(box: Sandbox) -> None:
    result = box.run("x = '" + "a" * (1 << 20) + "'\nprint(len(x))")
    assert (result.status, result.stdout) == (Status.OK, f"{1 << 20}\n")


def test_f11_output_that_is_no_utf8_is_replaced(box: Sandbox) -> None:
    result = box.run("import sys; sys.stdout.buffer.write(b'a\\xff\\xfeb')")
    assert (result.status, result.stdout) == (Status.OK, "a\ufffd\ufffdb")
    assert box.run("print('ä漢')").stdout == "ä漢\n"


def test_f12_code_that_is_no_code(box: Sandbox) -> None:
    nul = box.run("print(1)\0")
    assert nul.status is Status.EXCEPTION and "SyntaxError" in nul.stderr
    assert box.run("x = '\ud800'").status is Status.EXCEPTION
    assert box.run("").status is Status.OK
    assert box.run("print('\\ud800')").stdout == "\\ud800\n"


def test_f13_threads_subprocesses_asyncio_tempfile(box: Sandbox, patient: Limits) -> None:
    code = """
import asyncio, subprocess, sys, tempfile, threading
results = []
thread = threading.Thread(target=lambda: results.append("thread")); thread.start(); thread.join()
child = [sys.executable, "-c", "import mpmath; print('child')"]
results.append(subprocess.run(child, capture_output=True, text=True).stdout.strip())
async def task(): await asyncio.sleep(0.01); return "task"
results.append(asyncio.run(task()))
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("file"); file.seek(0); results.append(file.read())
print(results)
"""
    result = box.run(code, patient)
    assert result.stdout == "['thread', 'child', 'task', 'file']\n", result


def test_f14_matrix_product_on_one_thread(box: Sandbox, patient: Limits) -> None:
    code = """
import threading, time
import numpy as np
a = np.ones((500, 500))
cpu, wall = time.process_time(), time.perf_counter()
for _ in range(10): b = a @ a
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(b[0, 0], cpu < 1.3 * wall + 0.05)
"""
    result = box.run(code, patient)
    assert (result.status, result.stdout) == (Status.OK, "500.0 True\n"), result


def test_main_module_is_the_scripts_own(box: Sandbox) -> None:
    code = """
import sys, pickle, dataclasses
@dataclasses.dataclass
class Point: x: int
print(__name__, sys.argv, pickle.loads(pickle.dumps(Point(3))), sorted(vars())[:1])
"""
    assert box.run(code).stdout == "__main__ ['/script/script.py'] Point(x=3) ['Point']\n"


def test_work_left_to_the_end_is_done(box: Sandbox) -> None:
    code = """
import atexit, threading, time
atexit.register(print, "exit handler")
threading.Thread(target=lambda: (time.sleep(0.5), print("thread"))).start()
print("unterminated", end=" ")
"""
    assert box.run(code).stdout == "unterminated thread\nexit handler\n"


def test_u10_the_same_code_gives_the_same_output(box: Sandbox) -> None:
    code = """
import os, time
print(hash("a"), list({"x", "y", "z"}), os.getcwd(), os.getuid(), time.tzname, os.uname().nodename)
import random; random.seed(3); print(random.random())
"""
    assert len({box.run(code).stdout for _ in range(3)}) == 1


def test_u10_unseeded_random_numbers_are_not_shared_by_forks(box: Sandbox, patient: Limits) -> None:
    """A fork server must not deal every script the same hand."""
    code = """
import os, random, numpy
print(os.urandom(8).hex(), random.random(), numpy.random.rand())
"""
    draws = zip(*(box.run(code, patient).stdout.split() for _ in range(3)), strict=True)
    assert [len(set(draw)) for draw in draws] == [3, 3, 3]


def test_limits_reject_nonsense() -> None:
    with pytest.raises(UserError, match=r"sandbox.limits.cpu_seconds must be above 0"):
        Limits(cpu_seconds=0)
    limits = dataclasses.replace(Limits(), wall_seconds=1e-3)
    assert limits.wall_seconds == 1e-3
