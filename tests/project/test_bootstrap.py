"""The set-up scripts in a real shell with real interpreters; uv, pip and venv are stood in for."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.load import PATIENCE, wait_until

ROOT = pathlib.Path(__file__).parents[2]
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
DOES_NOT_START = "#!/bin/sh\necho 'pyenv: python: command not found' >&2\nexit 127\n"
IS_OLD = (
    f"#!/bin/sh\nexec {BASE_PYTHON} -c \"import sys; sys.version_info = (3, 11); exec('''$2''')\"\n"
)
STARTS = f'#!/bin/sh\nexec {BASE_PYTHON} "$@"\n'


def put(path: pathlib.Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def find_python(folder: pathlib.Path, path: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "scripts/find_python.sh"],
        env={"PATH": path, "HOME": str(folder), **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_shim_that_fails_and_an_old_python_are_passed_over(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "shims/python3.12", DOES_NOT_START)
    put(tmp_path / "shims/python3", DOES_NOT_START)
    put(tmp_path / "old/python3", IS_OLD)
    put(tmp_path / "good/python3", STARTS)
    shims, old, good = (tmp_path / name for name in ("shims", "old", "good"))
    assert find_python(tmp_path, f"{shims}:{old}").returncode == 1
    found = find_python(tmp_path, f"{shims}:{old}:{good}")
    assert (found.returncode, found.stdout.strip()) == (0, BASE_PYTHON)


def test_a_shim_does_not_hide_the_same_name_further_down_the_path(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "shims/python3.12", DOES_NOT_START)
    put(tmp_path / "good/python3.12", STARTS)
    assert find_python(tmp_path, f"{tmp_path}/shims:{tmp_path}/good").stdout.strip() == BASE_PYTHON


@pytest.mark.parametrize("variable", ["HOME", "PYENV_ROOT"])
def test_pyenv_versions_are_tried_after_the_path(tmp_path: pathlib.Path, variable: str) -> None:
    pyenv = tmp_path / "elsewhere" if variable == "PYENV_ROOT" else tmp_path / ".pyenv"
    put(tmp_path / "shims/python3.12", DOES_NOT_START)
    put(pyenv / "versions/3.12.1/bin/python3.12", DOES_NOT_START)
    put(pyenv / "versions/3.13.0/bin/python3.13", STARTS)
    extra = {"PYENV_ROOT": str(pyenv)} if variable == "PYENV_ROOT" else {}
    assert find_python(tmp_path, f"{tmp_path}/shims", **extra).stdout.strip() == BASE_PYTHON


def test_python_variable_wins_and_is_never_replaced(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "good/python3.12", STARTS)
    put(tmp_path / "mine", STARTS)
    put(tmp_path / "broken", DOES_NOT_START)
    path = str(tmp_path / "good")
    assert find_python(tmp_path, path, PYTHON=str(tmp_path / "mine")).returncode == 0
    refused = find_python(tmp_path, path, PYTHON=str(tmp_path / "broken"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1 and "PYTHON=" in refused.stderr


def test_without_a_usable_python_one_line_says_what_to_install(tmp_path: pathlib.Path) -> None:
    missing = find_python(tmp_path, str(tmp_path))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.count("\n") == 1 and "python3.12-venv" in missing.stderr


def test_the_answer_is_never_a_virtual_environment(tmp_path: pathlib.Path) -> None:
    found = find_python(tmp_path, "", PYTHON=sys.executable)
    assert found.stdout.strip() == BASE_PYTHON


# An interpreter that notes what it is asked for. `-c` really runs; venv makes a folder of itself;
# uv and pip fail while `NAME-fails` is there, for what needs a compiler while `no-compiler` is, and
# take long while `NAME-hangs` is. There is no uv while `no-uv` is there.
STUB = f"""#!/bin/sh
case "$1 $2" in
    *ensurepip*) echo {{stub}}; exit ;;
    *find_nsjail*) [ ! -e jail-lost ]; exit ;;
    -c*) exec {BASE_PYTHON} "$@" ;;
    "-m uv") [ ! -e no-uv ] || exit 1
             [ "$3" != --version ] || exit 0 ;;
esac
echo "$2 $*" | cut -d ' ' -f 1 >>calls
case "$2" in
    venv) mkdir -p .venv/bin && cp "$0" .venv/bin/python
          echo "#!$PWD/.venv/bin/python" >.venv/bin/pip ;;
    uv | pip) [ ! -e "$2-hangs" ] || exec sleep 60
         case "$*" in *requirements/tasks*) [ ! -e no-compiler ]; exit ;; esac
         [ ! -e "$2-fails" ] ;;
esac
"""


class Tree:
    """A copy of what the set-up reads, in a folder of its own."""

    def __init__(self, root: pathlib.Path, stub: pathlib.Path) -> None:
        self.root = root
        self.environment = {**os.environ, "PYTHON": str(stub)}
        shutil.copytree(ROOT / "scripts", root / "scripts")
        shutil.copytree(ROOT / "requirements", root / "requirements")
        for name in ("requirements.txt", "setup.py"):
            shutil.copy(ROOT / name, root)

    def start(self) -> subprocess.Popen[str]:
        # A runner in the background ignores SIGINT and would hand that on. Not by preexec_fn: that
        # forks, of which JAX in the same process warns.
        return subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", "/bin/sh", "scripts/bootstrap.sh"],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set_up(self) -> tuple[int, list[str], str]:
        """Run the set-up; returns its status, which programs it called, and its error line."""
        (self.root / "calls").unlink(missing_ok=True)
        process = self.start()
        _, errors = process.communicate(timeout=PATIENCE)
        calls = self.root / "calls"
        return process.returncode, calls.read_text().split() if calls.exists() else [], errors


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    put(tmp_path / "stub", STUB.format(stub=tmp_path / "stub"))
    (tmp_path / "tree").mkdir()
    return Tree(tmp_path / "tree", tmp_path / "stub")


FULL = [
    "venv",
    "uv",
    "uv",
    "uv",
    "r1ci_jax.sandbox.install.prepare_jail",
    "r1ci_jax.sandbox.install.prepare_jail",
]


def test_a_second_call_does_nothing(tree: Tree) -> None:
    assert tree.set_up() == (0, FULL, "")
    assert tree.set_up() == (0, [], "")


def change_a_pin(root: pathlib.Path) -> None:
    (root / "requirements/run.lock").write_text("numpy\n")


def lose_pip(root: pathlib.Path) -> None:
    (root / ".venv/bin/pip").unlink()
    (root / ".venv/r1ci-stamp").unlink()


def lose_the_jail(root: pathlib.Path) -> None:
    (root / "jail-lost").touch()


@pytest.mark.parametrize(
    ("change", "expected"),
    [(change_a_pin, FULL[1:]), (lose_the_jail, FULL[1:]), (lose_pip, FULL)],
)
def test_only_what_changed_is_done_again(
    tree: Tree, change: Callable[[pathlib.Path], None], expected: list[str]
) -> None:
    tree.set_up()
    change(tree.root)
    assert tree.set_up()[:2] == (0, expected)


def test_a_moved_folder_gets_a_new_environment(tree: Tree) -> None:
    tree.set_up()
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    assert tree.set_up()[:2] == (0, FULL)


def test_a_failed_step_leaves_no_stamp_and_is_tried_again(tree: Tree) -> None:
    for name in ("uv-fails", "pip-fails"):
        (tree.root / name).touch()
    status, calls, errors = tree.set_up()
    assert (status, calls) == (1, ["venv", "uv", "pip"])
    assert (
        errors.startswith("r1ci set-up: the packages could not be installed")
        and errors.count("\n") == 1
    )
    assert not (tree.root / ".venv/r1ci-stamp").exists()
    (tree.root / "uv-fails").unlink()
    assert tree.set_up()[:2] == (0, FULL[1:])


@pytest.mark.parametrize(
    ("state", "installs"),
    [("no-uv", ["pip", "pip", "pip", "pip"]), ("uv-fails", ["uv", "pip", "uv", "pip", "uv"])],
)
def test_pip_installs_the_same_files_where_uv_cannot(
    tree: Tree, state: str, installs: list[str]
) -> None:
    (tree.root / state).touch()
    assert tree.set_up()[:2] == (0, ["venv", *installs, *FULL[-2:]])


def read_pins(name: str) -> dict[str, str]:
    """Read names, in the index's spelling, and versions."""
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package.lower()): version for package, version in pins}


def test_the_lock_files_are_those_of_the_pins() -> None:
    run = read_pins("requirements.txt") | read_pins("requirements/dev.txt")
    tasks = read_pins("requirements/tasks.txt")
    assert read_pins("requirements/run.lock") == run
    locked = read_pins("requirements/tasks.lock")
    assert tasks.items() <= locked.items() <= (run | tasks).items()
    for name in ("run", "tasks", "installer", "nsjail"):
        text = (ROOT / f"requirements/{name}.lock").read_text()
        entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
        assert entries and all("--hash=sha256:" in entry for entry in entries)


def test_without_a_compiler_all_but_one_suite_is_there(tree: Tree) -> None:
    (tree.root / "no-compiler").touch()
    (tree.root / ".cache").mkdir()
    process = tree.start()
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "WITHOUT the 84 Reasoning-Gym tasks" in said + errors
    assert "apt-get install gcc" in said + errors
    assert (tree.root / ".venv/r1ci-stamp").exists()


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_an_interruption_the_environment_is_built_anew(
    tree: Tree, kill: signal.Signals
) -> None:
    (tree.root / "uv-hangs").touch()
    calls = tree.root / "calls"
    with tree.start() as process:
        wait_until(lambda: calls.exists() and "uv" in calls.read_text())
        process.send_signal(kill)
        assert process.wait(timeout=PATIENCE) != 0
    (tree.root / "uv-hangs").unlink()
    if kill == signal.SIGKILL:
        end_orphaned_step(tree.root)
    assert tree.set_up()[:2] == (0, FULL)


def end_orphaned_step(root: pathlib.Path) -> None:
    """End the step that a killed set-up left at work: the next call would wait for its lock."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            here = (entry / "cwd").readlink() == root
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or not ours
            continue
        if here and command[:2] == [b"sleep", b"60"]:
            os.kill(int(entry.name), signal.SIGKILL)
