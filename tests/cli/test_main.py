"""The r1ci command: fast to start, one line for wrong input."""

import argparse
import errno
import os
import subprocess
import sys
import types
from collections.abc import Callable

import pytest

from r1ci_jax.cli import main as cli
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import preemption

Install = Callable[[Callable[[argparse.Namespace], int | None]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Adds a command `probe` that runs the given function."""

    def add(function: Callable[[argparse.Namespace], int | None]) -> None:
        module = types.ModuleType("probe_command")

        def add_commands(subparsers: argparse._SubParsersAction) -> None:
            parser = subparsers.add_parser("probe")
            parser.add_argument("--flag")
            parser.set_defaults(run=function)

        module.__dict__["add_commands"] = add_commands
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", ("probe_command", "for tests"))

    return add


def _raise(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_status_is_the_commands(install: Install) -> None:
    install(lambda args: 3 if args.flag == "x" else None)
    assert cli.main(["probe"]) == 0
    assert cli.main(["probe", "--flag", "x"]) == 3


def test_user_error_is_one_line(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(_raise(UserError("no such model; name a directory")))
    assert cli.main(["probe"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "r1ci: no such model; name a directory\n" and shown.out == ""
    assert cli.main(["probe", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_full_disk_is_one_line(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(_raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/toy/x.bin")))
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == (
        "r1ci: disk full at runs/toy/x.bin; free space and run the same command again; "
        "a run resumes\n"
    )


def test_full_disk_is_found_inside_other_errors(install: Install) -> None:
    wrapped = RuntimeError("save failed")
    wrapped.__context__ = ValueError("write: No space left on device [tensorstore]")
    install(_raise(wrapped))
    assert cli.main(["probe"]) == 2


def test_interrupt_says_how_to_resume(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(_raise(KeyboardInterrupt()))
    assert cli.main(["probe", "--flag", "a b"]) == 130
    assert "continue where it stopped: r1ci probe --flag 'a b'" in capsys.readouterr().err


def test_a_stop_that_can_be_resumed_has_its_own_status(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(_raise(preemption.preempted_error(after="sft step 7")))
    assert cli.main(["probe"]) == cli.RESUME_EXIT_STATUS == os.EX_TEMPFAIL
    said = capsys.readouterr().err
    assert said == "r1ci: stopped by SIGTERM after sft step 7; the same command resumes\n"


def test_defects_are_not_hidden(install: Install) -> None:
    install(_raise(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])
    # A mistake handled on the way does not excuse a defect that came after it.
    defect = KeyError("x")
    defect.__context__ = UserError("handled")
    install(_raise(defect))
    with pytest.raises(KeyError):
        cli.main(["probe"])


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["probe", "--config.sft.lr=1"],
        ["table"],
        ["run"],
        ["run", "experiments/no.py"],
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda args: 0)
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"probe"}))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert cli.main([name, "--help"]) == 0
    except SystemExit as stopped:  # argparse's own help ends so
        assert stopped.code == 0
    assert f"r1ci {name}" in capsys.readouterr().out


def test_stage_help_lists_every_knob(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["grpo", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config.grpo.kl_coef" in shown and "--config.sandbox.limits.cpu_seconds" in shown


@pytest.mark.parametrize("words", [["--help"], ["tasks", "list"], ["sandbox", "--help"]])
def test_light_commands_start_without_jax(words: list[str]) -> None:
    script = (
        "import sys; from r1ci_jax.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(77 if 'jax' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m r1ci_jax tasks list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
