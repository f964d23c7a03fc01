"""The scorers' tree: what it adds, what it leaves alone, and what happens without reasoning-gym."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Sandbox, SandboxConfig
from r1ci_jax.sandbox.host import jail_policy, jail_python
from r1ci_jax.sandbox.install import prepare_jail

PACKAGES = pathlib.PurePath("python/lib", prepare_jail.VERSION, "site-packages")


def wheel(folder: pathlib.Path, name: str) -> str:
    """A package of one empty module."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        archive.writestr(f"{about}/RECORD", "")
    return str(path)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "root"
    prepare_jail.lay_out(root)
    (root / PACKAGES).mkdir(parents=True)
    (root / PACKAGES / "there.py").write_text("")
    return root


def test_scorers_packages_are_added_beside_the_scripts_tree(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jail_python, "GRADING", (wheel(root.parent, "needed"),))
    monkeypatch.setattr(jail_python, "GRADING_IF_POSSIBLE", (str(root.parent / "missing.whl"),))
    monkeypatch.setattr(jail_python, "STAND_INS", ("stands",))
    grading = root.parent / "grading"
    prepare_jail.add_grading(root, grading)
    said = capsys.readouterr().out
    assert "WITHOUT scorers for the Reasoning-Gym tasks: pip could not install" in said
    assert f"remove {jail_python.build_directory()} and run this again" in said
    found = {path.name for path in (grading / PACKAGES).glob("*.py")}
    assert found == {"there.py", "needed.py", "stands.py"}
    assert {path.name for path in (root / PACKAGES).glob("*.py")} == {"there.py"}
    assert (root / PACKAGES / "there.py").samefile(grading / PACKAGES / "there.py")
    assert os.readlink(grading / "tmp") == "/scratch"
    code = "import stands; from stands import any; print(list(any().thing(1)), stands.x is stands)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=grading / PACKAGES, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "[] True\n"


def test_math_verify_is_needed(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail_python, "GRADING", (str(root.parent / "missing.whl"),))
    with pytest.raises(UserError, match="pip could not install"):
        prepare_jail.add_grading(root, root.parent / "grading")


def test_only_the_policy_of_scorers_has_it() -> None:
    trees = {name: jail_policy.read(name).tree for name in ("default", "scientific", "grader")}
    assert trees == {"default": "root", "scientific": "root", "grader": "grading"}


def test_a_python_without_the_tree_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "root").mkdir()
    older = jail_python.JailPython(directory=tmp_path, interpreter="/python/bin/python", magic="")
    with pytest.raises(UserError, match=r"has no 'grading'.*remove it and run `make setup`"):
        Sandbox(SandboxConfig(policy="grader"), python=older)
