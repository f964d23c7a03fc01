"""A script behaves in both back ends as `python script.py < /dev/null` does on the host.

Each case of `parity/*.txt`, under a line `#### name`, runs in three places; stdout, stderr and exit
status must be equal. The host's path of the script is replaced by the jail's, and a traceback's
`File "/script/script.py"` by `File "<script>"`.
What differs on purpose has a test of its own at the end; `sandboxes/README.md` lists it.
"""

import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile

import pytest

from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import jail_python

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ODD_TEXT = {
    "byte-order-mark": "\ufeffprint('after a mark')",
    "line-ends": "x = '''a\r\nb'''\r\nprint(repr(x))\r\nif x:\r\n    print(2)\r\n",
    "line-ends-of-old": "x = 1\rprint(x)\r",
    "form-feed": "x = 1\n\x0c\ndef f():\n    \x0c\n    return 1 / 0\n\x0c\nf()",
    "odd-line-ends-in-text": "x = 'a\u2028b\x1cc\x85d'\nprint(len(x))\n1 / 0",
    "empty": "",
    "no-line-end": "print(1)\nif True: print(2)",
}


def read_cases() -> dict[str, str]:
    """Return the code of each case by its name."""
    cases = dict(ODD_TEXT)
    for path in sorted(pathlib.Path(__file__).with_name("parity").glob("*.txt")):
        parts = re.split(r"^#### (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        cases |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return cases


CASES = read_cases()


# Here Python prints by C code, or when most of it is gone: the last line of stderr is compared.
LAST_LINE = ("finalizer-fails", "exit-handler-exits", "indentation-error")
# Here Python prints internals: addresses and reference counts, or an error of its own afterwards.
NO_STDERR = ("stderr-closed", "stderr-deleted", "exit-object-without-text")


def as_in_jail(text: str, path: str) -> str:
    """Replace what may differ: paths, addresses, and the depth of the stack at the limit."""
    text = text.replace(path, "/script/script.py")
    text = text.replace('File "/script/script.py"', 'File "<script>"')
    text = text.replace(sysconfig.get_path("stdlib"), f"/python/lib/{VERSION}")
    text = re.sub(r"line repeated 9\d\d more", "line repeated 9.. more", text)
    return re.sub(r"0x[0-9a-f]{6,16}\b", "0xADDRESS", text)


@functools.cache
def plain(name: str) -> tuple[str, str, int]:
    """The case as `python script.py` with an empty directory, and the jail's environment."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place).resolve() / "script.py"
        path.write_bytes(CASES[name].encode())
        work = path.parent / "work"
        work.mkdir()
        done = subprocess.run(
            [sys.executable, str(path)], stdin=subprocess.DEVNULL, capture_output=True, cwd=work,
            env={**environment, "HOME": str(work), "TMPDIR": str(work)}, check=False, timeout=600,
        )  # fmt: skip
        out, err = (as_in_jail(part.decode(), str(path)) for part in (done.stdout, done.stderr))
        return out, err, done.returncode


def in_jail(result: ExecResult) -> tuple[str, str, int | None]:
    """The same three facts of a result."""
    path = "/script/script.py"
    status = result.exit_code if result.signal is None else -result.signal
    return as_in_jail(result.stdout, path), as_in_jail(result.stderr, path), status


@pytest.mark.parametrize("name", CASES)
def test_a_script_is_python_script_py(name: str, box: Sandbox, patient: Limits) -> None:
    here, there = in_jail(box.run(CASES[name], patient)), plain(name)
    assert (here[0], here[2]) == (there[0], there[2])
    if name in LAST_LINE:
        assert here[1].splitlines()[-1] == there[1].splitlines()[-1]
    elif name not in NO_STDERR:
        assert here[1] == there[1]


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("import sys; print(sys.path[0])", "/scratch\n"),  # modules that the script writes
        ("import sys; print(__file__, sys.argv)", "/script/script.py ['/script/script.py']\n"),
        ("import sys; print(sys.stdout.line_buffering)", "True\n"),  # a kill loses no line
        ("import sys; print(sys.flags.no_site, 'site' in sys.modules)", "1 False\n"),
        (
            "import functools\nclass A:\n  def __del__(self): print('gone')\nfunctools.kept = A()",
            "",
        ),
        ("class A:\n  def __del__(self): import this_is_missing\na = A()", ""),
    ],
)
def test_differences_that_are_documented(code: str, stdout: str, box: Sandbox) -> None:
    result = box.run(code)
    assert (result.status, result.stdout) == (Status.OK, stdout)


def test_an_interrupt_of_the_script_itself_is_an_exception(box: Sandbox) -> None:
    """Python would end itself by the signal."""
    for code in (
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    ):
        result = box.run(code)
        assert (result.status, result.exit_code) == (Status.EXCEPTION, 1)
        assert result.stderr.endswith("KeyboardInterrupt\n")


def test_a_descriptor_closed_under_stdout_fails_at_once(box: Sandbox) -> None:
    """Python would notice at the end, because it flushes no single line into a pipe."""
    result = box.run("import os; os.close(1); print('lost')")
    assert (result.status, result.exit_code) == (Status.EXIT_NONZERO, 120)
    assert "OSError: [Errno 9]" in result.stderr


def test_the_script_has_a_directory_for_nothing_else(box: Sandbox, patient: Limits) -> None:
    code = """
import os
print(os.listdir("/script"), os.getcwd(), os.listdir("."), __file__ in os.listdir("."))
for attempt in (lambda: open("/script/more", "w"), lambda: os.mkdir("/script/more")):
    try: attempt(); print("made")
    except OSError as error: print(error.strerror)
"""
    result = box.run(code, patient)
    full = os.strerror(28)
    assert result.stdout == f"['script.py'] /scratch [] False\n{full}\n{full}\n", result


def test_a_script_longer_than_a_file_may_be_is_refused(box: Sandbox, patient: Limits) -> None:
    result = box.run("#" * (patient.file_bytes + 1), patient)
    assert result.status is Status.EXCEPTION
    assert result.stderr == "OSError: the script is larger than a file may be (limit file_bytes)\n"
    assert box.run("#" * patient.file_bytes, patient).status is Status.OK


def test_without_isolation_the_file_is_there_too() -> None:
    config = SandboxConfig(workers=1, unsafe=True)
    with Sandbox(config, python=jail_python.this_python()) as box:
        result = box.run("import os\nprint(open(__file__).read().count('open'), os.listdir('.'))")
    assert (result.status, result.stdout) == (Status.OK, "2 []\n"), result


def test_status_of_a_signal_stays(box: Sandbox) -> None:
    result = box.run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert (result.status, result.signal) == (Status.KILLED_SIGNAL, signal.SIGTERM)
