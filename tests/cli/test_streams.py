"""Odd standard streams, other locales, and files that cannot be used: one line, never a traceback.

Each command runs in a shell of its own, as a user would start it.
"""

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

R1CI = f"{shlex.quote(sys.executable)} -m r1ci_jax"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
GONE = "{ exec <&-; touch $GONE; }"
"""A reader that is gone before anything is written."""
WAIT = "until [ -e $GONE ]; do sleep 0.1; done"


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command; `r1ci` in it is the command."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; r1ci() {{ {R1CI} "$@"; }}; {command}'],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("r1ci tasks list >&-", 2, "standard output is closed; redirect it"),
        ("r1ci --help >&-", 2, "standard output is closed"),
        ("r1ci sandbox exec - <&-", 2, "standard input is closed; give a file"),
        ("r1ci chat qwen2.5-0.5b <&-", 2, "standard input is closed"),
        ("r1ci tasks list <&-", 0, ""),
        ("r1ci tasks show toy_gcd_lcm 2>&-", 0, ""),
        ("r1ci tasks show nothing 2>&-", 2, ""),
        ("r1ci tasks show nothing <&- >&- 2>&-", 2, ""),
        ("r1ci tasks show toy_gcd_lcm >/dev/full", 2, "cannot write standard output (No space"),
        ("r1ci --help >/dev/full", 2, "cannot write standard output (No space"),
        ("r1ci tasks show nothing 2>/dev/full", 2, ""),
        (f"{{ {WAIT}; r1ci tasks list; }} | {GONE}", 1, ""),
        (f"{{ {WAIT}; r1ci tasks show nothing 2>&1; }} | {GONE}", 2, ""),
    ],
)
def test_odd_streams(tmp_path: Path, command: str, status: int, said: str) -> None:
    done = run(f"GONE={tmp_path}/gone; {command}", PYTHONUNBUFFERED="")
    assert done.returncode == status
    lines = done.stderr.splitlines()
    assert len(lines) == bool(said) and all(said in line for line in lines)


@pytest.mark.parametrize("environment", [{}, LATIN, ASCII], ids=["utf-8", "latin-1", "ascii"])
def test_other_locales(tmp_path: Path, environment: dict[str, str]) -> None:
    script = tmp_path / "arrow.py"
    script.write_text("print('\N{RIGHTWARDS ARROW}\N{GRINNING FACE}')", encoding="utf-8")
    done = run(f"r1ci sandbox exec {script}; r1ci sandbox exec - < {script}", **environment)
    line = "\\u2192\\U0001f600" if environment else "\N{RIGHTWARDS ARROW}\N{GRINNING FACE}"
    assert (done.returncode, done.stdout.splitlines()) == (0, [line] * 2)
    done = run("r1ci tasks sample rg_emoji_mystery -n 1", **environment)
    assert done.returncode in (0, 2)  # 2: the package of its generators is not installed
    assert len(done.stderr.splitlines()) <= 1
    done = run("r1ci tasks show '\N{RIGHTWARDS ARROW}'", **environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


HOSTILE = r"print('\x1b]0;owned\x07\x9b31m\u202eabc\ttab', end='\n'); 1/0 if '\x1b[2J' else 0"


def test_a_terminal_gets_a_scripts_output_escaped_and_a_pipe_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "hostile.py"
    script.write_text(HOSTILE + "  # \x1b[2J", encoding="utf-8")
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*shlex.split(R1CI), "sandbox", "exec", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        cwd=ROOT,
    ) as process:
        os.close(its)
        shown = b""
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:
            pass  # how a terminal says that nobody writes any more
    os.close(ours)
    assert process.returncode == 1
    text = shown.decode("utf-8").replace("\r\n", "\n")
    assert "\\x1b]0;owned\\x07\\x9b31m\\u202eabc\ttab\n" in text and "ZeroDivisionError" in text
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}

    script.write_text(HOSTILE.partition("; 1/0")[0], encoding="utf-8")
    piped = run(f"r1ci sandbox exec {script}")
    assert piped.stdout == "\x1b]0;owned\x07\x9b31m\u202eabc\ttab\n"


@pytest.mark.parametrize(
    "command",
    [
        "r1ci run experiments/toy.py --workdir /proc/nothing/run",
        "r1ci data build experiments/toy.py --workdir file/run",
        "r1ci data build experiments/toy.py --workdir file",
        "r1ci report file",
        "r1ci report .",
        "r1ci table main --runs file",
        "r1ci data stats file",
        "r1ci weights import file out",
        "r1ci weights export file out",
        "r1ci sandbox exec .",
        "r1ci sandbox exec file/script.py",
        "r1ci sandbox exec " + "x" * 300,
        "r1ci tasks check toy_letters --released file",
        "r1ci tasks sample bbh_navigate --data-dir file",
    ],
)
def test_places_that_cannot_be_used(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_bytes(b"\xff\0{")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    done = run(f"cd {tmp_path}; {command}")
    lines = [line for line in done.stderr.splitlines() if line.startswith("r1ci: ")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
