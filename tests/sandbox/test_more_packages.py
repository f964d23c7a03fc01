"""Packages that a setting adds to the jail: their own tree, and one line when they are missing."""

import dataclasses
import pathlib
import zipfile

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import jail_policy, jail_python
from r1ci_jax.sandbox.install import more_packages, prepare_jail

LIBRARY = pathlib.PurePath("python/lib", prepare_jail.VERSION, "site-packages")
COMMAND = "r1ci sandbox setup --packages scipy pandas networkx"


def wheel(folder: pathlib.Path, name: str) -> str:
    """A package with one module and one file that names this host."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"HOME = '{pathlib.Path.home()}/x'")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        archive.writestr(f"{about}/RECORD", "")
    return str(path)


@pytest.fixture
def python(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> jail_python.JailPython:
    """A prepared directory without an interpreter, and wheels in place of the real packages."""
    directory = tmp_path / "jail"
    prepare_jail.lay_out(directory / "root")
    (directory / "root" / LIBRARY).mkdir(parents=True)
    (directory / "root" / LIBRARY / "there.py").write_text("")
    made = jail_python.JailPython(directory=directory, interpreter="/python/bin/python", magic="")
    known = {name: (wheel(tmp_path, name),) for name in ("one", "two")}
    monkeypatch.setattr(jail_python, "MORE_PACKAGES", known)
    monkeypatch.setattr(prepare_jail, "prepare", lambda: made)
    monkeypatch.setattr(prepare_jail, "copy_shared_libraries", lambda root: None)
    monkeypatch.setattr(more_packages, "prove", lambda python, names: None)
    return made


def modules(python: jail_python.JailPython, tree: str) -> set[str]:
    found = (python.directory / tree / LIBRARY).iterdir()
    return {path.name for path in found if not path.name.startswith("_")} - {"__pycache__"}


def test_packages_get_a_tree_of_their_own(python: jail_python.JailPython) -> None:
    more_packages.add(["one"])
    assert modules(python, "packages") == {"there.py", "one", "one-1.0.dist-info"}
    assert modules(python, "root") == {"there.py"}
    place = python.directory / "packages" / LIBRARY
    assert (place / "there.py").samefile(python.root / LIBRARY / "there.py")
    assert (place / "one/__init__.py").read_text() == "HOME = '/scratch/x'"
    assert list((place / "one/__pycache__").glob("*.pyc"))
    assert [path.name for path in (place / "one-1.0.dist-info").glob("RECORD")] == []


def test_another_choice_replaces_the_tree_and_the_same_one_does_nothing(
    python: jail_python.JailPython, capsys: pytest.CaptureFixture[str]
) -> None:
    more_packages.add(["one"])
    capsys.readouterr()
    more_packages.add(["one"])
    assert "installing" not in capsys.readouterr().out
    more_packages.add(["two"])
    assert modules(python, "packages") == {"there.py", "two", "two-1.0.dist-info"}
    assert not list(python.directory.glob(".packages-*"))


def test_a_package_that_cannot_be_installed_leaves_the_tree_alone(
    python: jail_python.JailPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_packages.add(["one"])
    monkeypatch.setitem(jail_python.MORE_PACKAGES, "three", ("/missing/three.whl",))
    with pytest.raises(UserError, match="pip could not install"):
        more_packages.add(["three"])
    assert modules(python, "packages") == {"there.py", "one", "one-1.0.dist-info"}
    assert not list(python.directory.glob(".packages-*"))


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        more_packages.add(["scipy", "torch"])
    assert str(caught.value) == (
        "no package 'torch' for the jail (known: networkx, pandas, scipy); "
        "add its pinned wheels to MORE_PACKAGES in r1ci_jax/sandbox/host/jail_python.py"
    )


@pytest.mark.parametrize("backend", ["zygote", "cold"])
def test_a_policy_whose_packages_are_missing_names_the_command(
    backend: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "root").mkdir()
    bare = jail_python.JailPython(directory=tmp_path, interpreter="/python/bin/python", magic="")
    config = dataclasses.replace(
        SandboxConfig(policy="packages"), backend=backend  # type: ignore[arg-type]  # a parameter
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        Sandbox(config, python=bare)
    assert COMMAND in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "packages" / LIBRARY / "scipy").mkdir(parents=True)
    config = SandboxConfig(policy="packages")
    with pytest.raises(UserError, match="policy packages needs networkx, pandas in the jail"):
        Sandbox(config, python=bare)


def test_the_policy_loads_what_its_tree_holds_and_changes_no_limit() -> None:
    default, packages = jail_policy.read("default"), jail_policy.read("packages")
    assert set(packages.preload) - set(default.preload) >= {"scipy.stats", "pandas", "networkx"}
    assert set(default.preload) < set(packages.preload)
    same = dataclasses.replace(packages, name="default", preload=default.preload, tree=default.tree)
    assert same == default


def test_scripts_use_them(patient: Limits) -> None:
    if jail_python.missing(
        dataclasses.replace(jail_python.find(), tree="packages"), jail_python.MORE_PACKAGES
    ):
        pytest.skip(f"needs `{COMMAND}`")
    code = """
import scipy.optimize, pandas, networkx
print(round(scipy.optimize.brentq(lambda x: x**2 - 4, 0, 9), 9))
print(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}).sum().to_dict())
print(networkx.shortest_path(networkx.cycle_graph(5), 0, 3))
"""
    with Sandbox(SandboxConfig(workers=1, policy="packages")) as box:
        result = box.run(code, patient)
    assert (result.status, result.stdout) == (Status.OK, "2.0\n{'a': 3, 'b': 7}\n[0, 4, 3]\n"), (
        result
    )
