"""No file that a script can read names a directory of the host."""

import os
import pathlib
import platform
import sys

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Limits, Sandbox, Status
from r1ci_jax.sandbox.host import jail_python
from r1ci_jax.sandbox.install import host_paths, prepare_jail

PATHS = {"/home/me": "/scratch", "/home/me/.pyenv/3.12": "/python", "/root": "/scratch"}


@pytest.mark.parametrize("tree", ["root", "grading"])
def test_the_prepared_trees_name_no_directory_of_this_host(tree: str) -> None:
    root = jail_python.find().directory / tree
    words = [os.fsencode(path) + b"/" for path in host_paths.of_this_host(())]
    files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) > 1000
    hits = [(file, word) for file in files for word in words if word in file.read_bytes()]
    assert hits == []


def test_bytecode_names_the_jail_and_is_not_compared_with_its_source() -> None:
    root = jail_python.find().root
    cached = sorted((root / "python/lib" / prepare_jail.VERSION).rglob("*.pyc"))
    assert len(cached) > 1000
    # The second word of a file is 1: checked by a hash of the source, and that never (PEP 552).
    assert {path.read_bytes()[4:8] for path in cached} == {(1).to_bytes(4, "little")}


def test_a_script_sees_paths_of_the_jail(box: Sandbox, patient: Limits) -> None:
    code = """
import json, platform, sys, sysconfig, numpy
print(sys.version)
print(platform.python_version(), platform.python_implementation())
print(json.loads.__code__.co_filename, numpy.mean.__wrapped__.__code__.co_filename)
print(sysconfig.get_config_var("prefix"), sysconfig.get_path("stdlib"), sys.executable)
import importlib.metadata
print(importlib.metadata.version("numpy") == numpy.__version__)
"""
    result = box.run(code, patient)
    library = f"/python/lib/{prepare_jail.VERSION}"
    numpy_file = f"{library}/site-packages/numpy/_core/fromnumeric.py"
    assert result.status is Status.OK, result
    assert result.stdout.splitlines() == [
        *sys.version.splitlines(),
        f"{platform.python_version()} CPython",
        f"{library}/json/__init__.py {numpy_file}",
        f"/python {library} /python/bin/{prepare_jail.VERSION}",
        "True",
    ]


def test_text_gets_the_path_inside_the_jail() -> None:
    text = b"--prefix=/home/me/.pyenv/3.12 -I/home/me/.pyenv/3.12/include\n/home/me/x '/home/me'\n"
    expected = b"--prefix=/python -I/python/include\n/scratch/x '/scratch'\n"
    assert host_paths.replaced(text, PATHS) == expected


def test_a_binary_file_keeps_every_other_byte_in_its_place() -> None:
    data = b"\x7fELF\0/home/me/.pyenv/3.12/lib\0-L/root/lib\0/home/me\0end"
    changed = host_paths.replaced(data, PATHS)
    assert changed == b"\x7fELF\0////////////////3.12/lib\0-L//////lib\0////////\0end"
    assert len(changed) == len(data)


@pytest.mark.parametrize(
    "text", ["tree/root/leaf", "/rootfinder", "/root.txt", "/home/mean", "{}/root", "/home/me-too"]
)
def test_other_names_stay(text: str) -> None:
    assert host_paths.replaced(text.encode(), PATHS) == text.encode()


def test_directories_of_every_machine_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interpreter of the distribution, `/usr` says nothing and must not be changed."""
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setenv("HOME", "/")
    found = host_paths.of_this_host([pathlib.Path("/tmp"), pathlib.Path("/a/place")])
    assert "/a/place" in found and not {"/", "/usr", "/tmp", ""} & set(found)


def test_a_hard_link_of_another_tree_is_left_alone(tmp_path: pathlib.Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    records = root / "p.dist-info"
    records.mkdir(parents=True)
    other.mkdir()
    for name in (*host_paths.RECORDS, "METADATA"):
        (records / name).write_text("x")
    program = root / "program"
    program.write_bytes(b"#!/home/me/python\n")
    program.chmod(0o755)
    os.link(program, other / "program")
    (root / "link").symlink_to("/home/me")
    host_paths.remove(root, PATHS)
    assert program.read_bytes() == b"#!/scratch/python\n" and os.access(program, os.X_OK)
    assert (other / "program").read_bytes() == b"#!/home/me/python\n"
    assert [path.name for path in records.iterdir()] == ["METADATA"]
    assert sorted(path.name for path in root.iterdir()) == ["link", "p.dist-info", "program"]


def test_a_path_that_stays_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("/a/home/x")
    with pytest.raises(UserError, match="file still names a directory of this host"):
        host_paths.remove(tmp_path, {"/a/home": "/a/home"})
