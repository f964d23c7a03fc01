"""A source distribution and the wheel built from it work in an environment without the checkout."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from r1ci_jax import install_advice
from tests.load import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ("r1ci_jax", "experiments", "sandboxes")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
BUILD_SOURCES = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def run(words: list[str], folder: pathlib.Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "R1CI_"))}
    done = subprocess.run(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel of the source distribution of a copy: a build writes beside its sources."""
    copy = tmp_path_factory.mktemp("sources")
    skip = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    (copy / "experiments/__pycache__").mkdir()
    (copy / "experiments/__pycache__/toy.cpython-312.pyc").write_bytes(b"stale")
    built = tmp_path_factory.mktemp("built")
    run([sys.executable, "-c", BUILD_SOURCES, str(built)], copy)
    (archive,) = built.iterdir()
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run([*pip, "--no-index", "-w", str(built), str(archive)], built)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An environment with the wheel; other packages are seen, editable installs among them not."""
    place = tmp_path_factory.mktemp("installed") / "env"
    run([sys.executable, "-m", "venv", "--without-pip", str(place)], wheel.parent)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "-q"]
    run([*pip, "--no-deps", "--no-index", str(wheel)], wheel.parent)
    return place


def test_nothing_but_the_package_is_at_the_top(wheel: pathlib.Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"r1ci_jax"}
    for folder in ("experiments", "sandboxes"):
        files = (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc")
        wanted = {f"r1ci_jax/_bundled/{path.relative_to(ROOT).as_posix()}" for path in files}
        bundled = {name for name in names if name.startswith(f"r1ci_jax/_bundled/{folder}/")}
        assert bundled == wanted
    assert "r1ci_jax/tools/report/report.html" in names
    (sources,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "setup.py", "experiments/toy.py", "sandboxes/default.toml"} <= held


def test_the_commands_work_away_from_the_checkout(
    environment: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    command = str(environment / "bin/r1ci")
    assert "tasks" in run([command, "--help"], tmp_path)
    assert "toy_gcd_lcm" in run([command, "tasks", "list"], tmp_path)
    # It imports its neighbors as experiments.name, at three levels.
    spec = "experiments/smollm2_135m.py:smoke"
    assert "--config.sft.lr" in run([command, "run", spec, "--help"], tmp_path)
    assert "--config.seed" in run([command, "run", "experiments/toy.py:smoke", "--help"], tmp_path)


PROBE = """
import json, sys
import r1ci_jax
from r1ci_jax import bundled
from r1ci_jax.sandbox.host import jail_policy
from r1ci_jax.sandbox import jail_policy_file
found = "experiments" in sys.modules
package = bundled.import_experiments()
policies = {name: sorted(jail_policy_file.content(name)) for name in jail_policy_file.names()}
print(json.dumps([r1ci_jax.__file__, str(bundled.ROOT), found, package.__file__, policies]))
"""


def test_policies_and_experiments_are_those_inside_the_package(
    environment: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    answer = run([str(environment / "bin/python"), "-c", PROBE], tmp_path)
    package, root, found, experiments, policies = json.loads(answer)
    assert pathlib.Path(package).is_relative_to(environment.resolve())
    assert pathlib.Path(root) == pathlib.Path(package).parent / "_bundled"
    assert not found and pathlib.Path(experiments) == pathlib.Path(root) / "experiments/__init__.py"
    assert sorted(policies) == sorted(path.stem for path in ROOT.glob("sandboxes/*.toml"))
    assert all("limits" in keys for name, keys in policies.items() if name != "packages")


def test_advice_to_install_fits_the_place(
    environment: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A wheel has no checkout, and a bare `pip` may be another environment's."""
    python = str(environment / "bin/python")
    program = (
        "from r1ci_jax.install_advice import install_extra as f; "
        "print(f('serve'), f('trackio'), f('plan', requirements='requirements/plan.txt'))"
    )
    wanted = (
        f"{python} -m pip install 'starlette>=1.10' 'uvicorn>=0.54' "
        f"{python} -m pip install 'trackio>=0.43' {python} -m pip install 'libtpu'"
    )
    assert run([python, "-c", program], tmp_path).strip() == wanted
    here = install_advice.install_extra("serve").split(" -m ")
    assert pathlib.Path(here[0]).absolute() == pathlib.Path(sys.executable)
    assert here[1] == "pip install -e '.[serve]'"


def test_a_checkout_is_read_in_place() -> None:
    from r1ci_jax import bundled

    assert ROOT.resolve() == bundled.ROOT
    assert not (ROOT / "r1ci_jax/_bundled").exists()
