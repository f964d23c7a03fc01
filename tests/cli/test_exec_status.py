"""`r1ci sandbox exec` ends as the script did, so that a shell can use it."""

import json
from pathlib import Path

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.cli.sandbox import exit_status
from r1ci_jax.sandbox import ExecResult, Status


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(code: str, *options: str) -> int:
    Path("script.py").write_text(code)
    return main(["sandbox", "exec", "script.py", *options])


@pytest.mark.parametrize(
    ("code", "options", "status"),
    [
        ("print(1)", (), 0),
        ("import sys; sys.exit(0)", (), 0),
        ("import sys; sys.exit(3)", (), 3),
        ("import sys; sys.exit('no')", (), 1),
        ("1/0", (), 1),
        ("import os; os.abort()", (), 128 + 6),
        ("while True: pass", ("--cpu-seconds", "0.2"), 124),
        ("import time; time.sleep(600)", ("--wall-seconds", "0.5"), 124),
        ("while True: print('x' * 1000)", ("--output-bytes", "2000"), 128 + 25),
    ],
)
def test_the_status_is_the_scripts(code: str, options: tuple[str, ...], status: int) -> None:
    assert run(code, *options) == status


@pytest.mark.parametrize("status", Status)
def test_no_end_but_a_good_one_is_zero(status: Status) -> None:
    """Of every status there is, also those that a script here cannot be made to have."""
    codes = {Status.OK: 0, Status.EXCEPTION: 1, Status.EXIT_NONZERO: 2}
    signal = 9 if status is Status.KILLED_SIGNAL else None
    result = ExecResult(status=status, exit_code=codes.get(status), signal=signal)
    assert (exit_status(result) == 0) == (status is Status.OK)
    is_fault = status in (Status.SETUP_ERROR, Status.INFRA_ERROR)
    assert (exit_status(result) == 125) == is_fault


def test_a_file_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--collect", "./a.txt", "--collect", "b.txt", "--into", "out")
    code = "open('a.txt', 'w').write('A')"
    assert run(code, *options) == 1
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if "not collected: b.txt;" in line] == shown[-1:]
    assert Path("out/a.txt").read_text() == "A" and not Path("out/b.txt").exists()
    assert run(code + "; 1/0", *options, "--json") == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["missing_files"] == ["b.txt"] and facts["files"] == {"a.txt": 1}
    assert run(code + "; open('b.txt', 'w')", *options) == 0
    assert run("raise SystemExit(7)", *options) == 7


@pytest.mark.parametrize(
    ("option", "value"),
    [("--memory-bytes", "1"), ("--cpu-seconds", "-1"), ("--processes", "0")],
)
def test_a_limit_that_cannot_work_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("print(1)", option, value) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and f"r1ci: {option} must be " in shown.err


def test_the_smallest_memory_is_enough_for_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import numpy; print(numpy.eye(2) @ numpy.ones(2))"
    assert run(code, "--memory-bytes", str(128 << 20)) == 0
    assert capsys.readouterr().out == "[1. 1.]\n"
