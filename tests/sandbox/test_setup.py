"""What is missing is said in one line; a fault of the sandbox is never a script's."""

import argparse
import errno
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from r1ci_jax.cli import sandbox as cli
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import jail_policy, jail_python, nsjail_binary, verdict
from r1ci_jax.sandbox.host.cold_jail import ColdJail
from r1ci_jax.sandbox.install import prepare_jail

REPOSITORY = pathlib.Path(__file__).parents[2]
LIBRARY_ERROR = (
    "error while loading shared libraries: libnl-route-3.so.200: cannot open shared object file"
)


REPORT = b'{"limit":"","wait_status":%b,"cpu":%b,"rss_kib":1,"wall":1.0,"exception":0}\n'


def program(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_u4_a_named_nsjail_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1CI_NSJAIL", "/nonexistent/nsjail")
    with pytest.raises(UserError, match="R1CI_NSJAIL=/nonexistent/nsjail does not start"):
        Sandbox(SandboxConfig())


def test_u4_a_library_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    broken = program(tmp_path / "bin" / "nsjail", f"echo nsjail: {LIBRARY_ERROR} >&2; exit 127")
    assert nsjail_binary.why_not(broken) == LIBRARY_ERROR
    monkeypatch.delenv("R1CI_NSJAIL", raising=False)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)
    assert nsjail_binary.find_nsjail() != broken, "the next candidate starts"
    monkeypatch.setattr(nsjail_binary, "_candidates", lambda path: [broken])
    monkeypatch.setenv("PATH", "/another/key/of/the/cache")
    with pytest.raises(UserError, match="apt-get install libnl-route-3-200") as caught:
        nsjail_binary.find_nsjail()
    assert "\n" not in str(caught.value)


def test_u4_another_program_named_nsjail(tmp_path: pathlib.Path) -> None:
    assert "not nsjail's" in nsjail_binary.why_not(program(tmp_path / "nsjail", "echo hello"))


def test_u4_no_prepared_python(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("R1CI_JAIL_PREFIX", str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"make setup.*python -m r1ci_jax.sandbox.install.prepare_jail"
    ):
        Sandbox(SandboxConfig())


def test_u4_unknown_policy() -> None:
    with pytest.raises(UserError, match=r"no sandbox policy 'nope'.*known: default"):
        Sandbox(SandboxConfig(policy="nope"))


def test_u4_user_namespaces_disabled() -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs util-linux's unshare to disable user namespaces for a child")
    code = (
        "from r1ci_jax.errors import UserError; from r1ci_jax.sandbox import *\n"
        "try: Sandbox(SandboxConfig())\nexcept UserError as e: print(e)"
    )
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    done = subprocess.run(
        [unshare, "-Ur", "sh", "-c", shell, sys.executable, code],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
    )  # fmt: skip
    assert "max_user_namespaces is 0; run as root: sysctl" in done.stdout, done
    assert done.stdout.count("\n") == 1


@pytest.fixture
def empty_python(tmp_path: pathlib.Path) -> Iterator[jail_python.JailPython]:
    """A prepared directory without an interpreter in it, open to the jail's nobody."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        directory = pathlib.Path(place)
        prepare_jail.lay_out(directory / "root")
        for path in (directory, *directory.glob("**/")):
            path.chmod(0o755)
        yield jail_python.JailPython(
            directory=directory, interpreter="/python/bin/python", magic=""
        )


def test_a_jail_that_cannot_be_built_is_a_setup_error(empty_python: jail_python.JailPython) -> None:
    jail = ColdJail(nsjail_binary.find_nsjail(), empty_python, jail_policy.read("default"), 0)
    result = jail.run("print(1)", Limits())
    jail.close()
    assert result.status is Status.SETUP_ERROR
    assert "No such file" in result.detail and result.stdout == "" and result.stderr == ""
    with pytest.raises(UserError, match=r"does not work here.*No such file"):
        Sandbox(SandboxConfig(), python=empty_python)


def test_verdict_without_a_report_is_never_a_success() -> None:
    def seen(**changes: object) -> verdict.Observed:
        common: dict[str, object] = {"started": True, "report": None, "overflow": False}
        common |= {
            "late": False,
            "jail_status": 0,
            "seconds": 1.0,
            "cpu_seconds": 0.1,
            "log": "log",
        }
        return verdict.Observed(**common | changes)  # type: ignore[arg-type]  # a table of keyword arguments

    def status(**changes: object) -> Status:
        return verdict.make_result(seen(**changes), Limits()).status

    def exit_status(code: int) -> int:
        return code << 8

    assert status() is Status.INFRA_ERROR
    for line in (b"", b'{"limit": "no"}\n', b"null\n", REPORT % (b'"0"', b"0"), REPORT[:-4]):
        assert status(report=line) is Status.INFRA_ERROR, line
    assert status(report=REPORT % (b"0", b"0")) is Status.OK, "the form itself is right"
    assert status(jail_status=exit_status(137)) is Status.KILLED_SIGNAL
    assert status(jail_status=int(signal.SIGKILL)) is Status.INFRA_ERROR
    assert status(started=False, jail_status=exit_status(255)) is Status.SETUP_ERROR
    assert status(started=False, late=True) is Status.INFRA_ERROR
    assert status(late=True) is Status.TIMEOUT_WALL
    assert status(overflow=True) is Status.OUTPUT_LIMIT
    assert status(report=REPORT % (b"9", b"11.0")) is Status.TIMEOUT_CPU, "the kernel's own limit"
    assert status(report=REPORT % (b"9", b"1.0")) is Status.KILLED_SIGNAL


def test_paths_with_odd_characters_survive_rendering(tmp_path: pathlib.Path) -> None:
    text = jail_policy.render(
        jail_policy.read("default"), "cold", tmp_path / 'a"b\\c\n@ROOT@é', Limits(processes=7)
    )
    assert '/a\\042b\\134c\\012@ROOT@\\303\\251" dst: "/"' in text
    assert "rlimit_nproc: 8" in text and "rlimit_as: 512" in text and "@UID@" not in text


def test_prepare_is_idempotent_and_respects_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = jail_python.find().root.stat().st_mtime_ns
    assert prepare_jail.main([]) == 0 and prepare_jail.main(["--check-binary"]) == 0
    assert jail_python.find().root.stat().st_mtime_ns == made
    assert "sandbox Python ready" in capsys.readouterr().out
    (tmp_path / "mine").write_text("precious")
    monkeypatch.setenv("R1CI_JAIL_PREFIX", str(tmp_path))
    assert prepare_jail.main([]) == 2
    assert "exists and is no sandbox Python" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free space, or name another place by R1CI_JAIL_PREFIX"),
        (errno.EACCES, "every file of this Python must be readable for you"),
        (errno.EROFS, "mend that, or name another place by R1CI_JAIL_PREFIX"),
    ],
)
def test_a_build_that_fails_names_a_cure_that_applies(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    cure: str,
) -> None:
    def build(_target: pathlib.Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("R1CI_JAIL_PREFIX", str(tmp_path / "jail"))
    monkeypatch.setattr(prepare_jail, "build", build)
    assert prepare_jail.main([]) == 2
    assert capsys.readouterr().err.strip().endswith(cure)
    assert [path.name for path in tmp_path.iterdir()] == [".jail.lock"]


def test_a_folder_of_root_is_answered_by_one_of_ones_own() -> None:
    with (
        pytest.raises(UserError, match="cannot write to /proc/none: ") as found,
        prepare_jail.exclusive(pathlib.Path("/proc/none/jail")),
    ):
        pass
    assert f"export R1CI_JAIL_PREFIX={jail_python.user_directory()}" in str(found.value)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["sandbox", *words])
    return arguments.run(arguments)


def test_doctor_passes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("doctor") == 0
    assert "FAIL" not in capsys.readouterr().out
    assert command("doctor", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and all(check["ok"] for check in report["checks"].values())
    names = {"platform", "nsjail", "namespaces", "python", "policy", "tier", "zygote", "cold"}
    assert names == set(report["checks"])


def test_doctor_tells_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("R1CI_JAIL_PREFIX", str(tmp_path))
    assert command("doctor") == 1
    assert "FAIL  python" in capsys.readouterr().out


def test_exec_shows_output_and_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)")
    assert command("exec", str(file)) == 3
    shown = capsys.readouterr()
    assert shown.out == "out\n" and shown.err.startswith("err\n[exit_nonzero; exit 3; cpu ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"while True: pass")))
    assert command("exec", "-", "--json", "--cpu-seconds", "0.2", "--wall-seconds", "120") == 124
    assert json.loads(capsys.readouterr().out)["status"] == "timeout_cpu"
    with pytest.raises(UserError, match="cannot read /nonexistent"):
        command("exec", "/nonexistent")
