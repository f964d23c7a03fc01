"""The hostile cases once more as a user without any privilege: the jail is to be the same.

Where the tests themselves do not run as root there is nothing to repeat.
"""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from r1ci_jax.sandbox.host import jail_python, nsjail_binary

REPOSITORY = pathlib.Path(__file__).parents[2]
USER = 54321
PACKAGES = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
FILES = (
    *("test_isolation.py", "test_kernel_surface.py", "test_channel.py", "test_limits.py"),
    "test_neighbors.py",
)
LEFT_OUT = "t7 or t8 or m9 or m10 or user_of_its_own or do_not_shrink"
"""Slow, about the interpreter rather than about the jail, or for root alone."""


@pytest.fixture(scope="module")
def place() -> Iterator[pathlib.Path]:
    """What that user needs; neither checkout nor virtual environment need be open to it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        directory = pathlib.Path(made)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copy(nsjail_binary.find_nsjail(), directory / "nsjail")
        for name in ("r1ci_jax", "sandboxes"):
            shutil.copytree(REPOSITORY / name, directory / name, ignore=ignore)
        (directory / "tests/sandbox").mkdir(parents=True)
        for name in ("conftest.py", "load.py"):
            shutil.copy(REPOSITORY / "tests" / name, directory / "tests")
        shutil.copy(REPOSITORY / "pyproject.toml", directory)
        for name in ("conftest.py", *FILES):
            shutil.copy(REPOSITORY / "tests/sandbox" / name, directory / "tests/sandbox")
        (directory / "packages").mkdir()
        for package in PACKAGES:
            found = importlib.util.find_spec(package)
            assert found is not None and found.origin is not None
            source = pathlib.Path(found.origin)
            if source.name == "__init__.py":
                shutil.copytree(source.parent, directory / "packages" / package, ignore=ignore)
            else:
                shutil.copy(source, directory / "packages")
        (directory / "lib").mkdir()
        for library in (jail_python.find().root / "lib").glob("**/libpython*"):
            shutil.copy(library, directory / "lib")
        for path in (directory, *directory.glob("**/*")):
            path.chmod(0o755)
        (directory / "home").mkdir()
        os.chown(directory / "home", USER, USER)
        yield directory


def run_as_user(place: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    python = jail_python.find()
    environment = {
        "R1CI_NSJAIL": str(place / "nsjail"),
        "R1CI_JAIL_PREFIX": str(python.directory),
        "LD_LIBRARY_PATH": str(place / "lib"),
        "PYTHONPATH": f"{place}:{place / 'packages'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "home"),
    }
    return subprocess.run(
        [f"{python.root}{python.interpreter}", *words],
        user=USER, group=USER, extra_groups=[], cwd=place, env=environment,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


SAME_JAIL = """
import json, os, sys
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig
codes = ["import os; print(os.getuid())", "1/0", "while 1: pass",
         "import os; os.listdir('/root')", "import socket; socket.socket()",
         "import numpy; print(numpy.arange(3).sum())"]
with Sandbox(SandboxConfig(workers=2, backend=sys.argv[1])) as box:
    results = [f.result() for f in [box.submit(c, Limits(cpu_seconds=1.0)) for c in codes]]
    state = ""
    if sys.argv[1] == "zygote":
        with box.session() as session:
            session.run("x = 41")
            state = session.run("x + 1").stdout
    print(json.dumps([os.getuid(), box.tier, state, [(r.status, r.stdout) for r in results]]))
"""


@pytest.mark.parametrize("backend", ["zygote", "cold"])
def test_an_ordinary_user_has_the_same_jail(place: pathlib.Path, backend: str) -> None:
    if os.geteuid() != 0:
        return  # every other test here is this one
    done = run_as_user(place, "-c", SAME_JAIL, backend)
    assert done.returncode == 0, done.stderr
    uid, tier, state, results = json.loads(done.stdout)
    assert (uid, tier) == (USER, "nsjail + rlimits")
    assert state == ("42\n" if backend == "zygote" else "")
    assert results == [
        ["ok", "65534\n"], ["exception", ""], ["timeout_cpu", ""],
        ["exception", ""], ["exception", ""], ["ok", "3\n"],
    ]  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_an_ordinary_user_passes(place: pathlib.Path, file: str) -> None:
    """The acceptance cases of a file, on the fork server."""
    if os.geteuid() != 0:
        return  # every other test here is this one
    only = f"zygote and not ({LEFT_OUT})"
    done = run_as_user(
        place, "-m", "pytest", f"tests/sandbox/{file}", "-k", only, "-q", "-p", "no:cacheprovider"
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout
