"""Add packages for scripts to a prepared jail: `r1ci sandbox setup --packages scipy pandas`.

They lie in a third tree of hard links, `packages`, which the policy of the same name uses. The tree
of the default policy stays as it is, so a script finds a package only where a policy says so.
"""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.host import jail_python
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.install import host_paths, prepare_jail
from r1ci_jax.sandbox.result import Status
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

STAMP: Final = "packages.json"


def add(names: Sequence[str]) -> None:
    """Make the tree with these packages, in place of one with others; print each step.

    Raises:
        UserError: A name is unknown, or a package cannot be installed or imported.
    """
    wanted = pins(names)
    python = prepare_jail.prepare()
    stamp, tree = python.directory / STAMP, python.directory / jail_python.PACKAGES_TREE
    with prepare_jail.exclusive(python.directory):
        if tree.is_dir() and stamp.is_file() and json.loads(stamp.read_text()) == wanted:
            print(f"packages ready: {', '.join(wanted)}")
            return
        try:
            _replace(python, wanted)
            prove(python, names)
            stamp.write_text(json.dumps(wanted))
        except OSError as error:
            raise UserError(
                f"cannot change {python.directory}: {error}; run as the user who made it"
            ) from error
    print(f"packages ready: {', '.join(wanted)}; policy {jail_python.PACKAGES_TREE!r}")


def pins(names: Sequence[str]) -> list[str]:
    """Return the pinned requirements of the packages."""
    for name in names:
        if name not in jail_python.MORE_PACKAGES:
            known = ", ".join(sorted(jail_python.MORE_PACKAGES))
            raise UserError(f"no package {name!r} for the jail (known: {known})")
    return sorted({pin for name in names for pin in jail_python.MORE_PACKAGES[name]})


def _replace(python: JailPython, wanted: Sequence[str]) -> None:
    """Build the tree beside the old one, then exchange them."""
    tree, stamp = python.directory / jail_python.PACKAGES_TREE, python.directory / STAMP
    building = pathlib.Path(tempfile.mkdtemp(prefix=".packages-", dir=python.directory))
    try:
        new = building / "new"
        with prepare_jail.step(f"installing {', '.join(wanted)}"):
            shutil.copytree(python.directory / "root", new, symlinks=True, copy_function=os.link)
            library = new / "python/lib" / prepare_jail.VERSION
            prepare_jail.install_packages(library / "site-packages", wanted)
            prepare_jail.copy_shared_libraries(new)
            host_paths.remove(new, prepare_jail.own_paths(building))
        with prepare_jail.step("compiling to bytecode"):
            prepare_jail.compile_all(library)
        prepare_jail.open_to_all(new)
        stamp.unlink(missing_ok=True)
        if tree.exists():
            tree.rename(building / "old")
        new.rename(tree)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def prove(python: JailPython, names: Sequence[str]) -> None:
    """Import the packages in a cold jail, which loads nothing in advance."""
    config = SandboxConfig(workers=1, policy=jail_python.PACKAGES_TREE, backend="cold")
    limits = Limits(cpu_seconds=120.0, wall_seconds=240.0)
    step = prepare_jail.step(f"importing {', '.join(names)} in a jail")
    with step, Sandbox(config, python=python) as box:
        result = box.run(f"import {', '.join(names)}", limits)
    if result.status is not Status.OK:
        last = (result.stderr.strip() or result.detail or "no message").splitlines()[-1]
        raise UserError(f"the packages do not run in a jail ({result.status}): {last}")
