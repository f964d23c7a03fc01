"""Make the jail's own Python: `python -m r1ci_jax.sandbox.install.prepare_jail`.

The command copies the running interpreter, with its standard library and the shared libraries it
needs, into a directory that becomes the read-only `/` of every jail. It installs numpy and sympy
there, removes the host's paths, and compiles everything to bytecode, because nothing can be written
later. It adds a second
tree of hard links with the scorers' packages, which scripts must not see. It tests both trees by
scripts in real jails, and only then gives the directory its final name. A second call finds the
result and does nothing.
"""

import argparse
import concurrent.futures
import contextlib
import errno
import fcntl
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.host import jail_python, nsjail_binary
from r1ci_jax.sandbox.install import host_paths
from r1ci_jax.sandbox.result import Status
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

VERSION: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
NOT_COPIED: Final = (
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages",
    "dist-packages", "config-*", "EXTERNALLY-MANAGED", "_tkinter.*", "_test*.so", "_ctypes_test.*",
    "_xxtestfuzz.*", "xxlimited*", "xxsubtype.*", "nis.*", "ossaudiodev.*", "__pycache__",
)  # fmt: skip
DIRECTORIES: Final = (
    "scratch", "script", "proc", "cgroup", "dev", "usr", "lib", "lib64", "python/bin", "python/lib",
)  # fmt: skip
HEARTBEAT_SECONDS: Final = 10.0
PROOF: Final = """
import numpy, platform, sympy, sys
assert platform.python_version_tuple()[:2] == tuple(map(str, sys.version_info[:2]))
assert numpy.linalg.inv(numpy.eye(3) * 2)[0, 0] == 0.5
x = sympy.symbols("x")
print(numpy.__version__, sympy.__version__, sympy.solve(x**2 - 4, x))
"""
GRADING_PROOF: Final = """
import math_verify
assert math_verify.verify(*(math_verify.parse(text) for text in ("$1/2$", "$0.5$")))
print("math-verify compares")
"""
STAND_IN: Final = '''"""Stands for a package that makes questions: scorers only import it."""

import sys
import types


class Nothing(types.ModuleType):
    """All names are in it, calls give it back, and it has no items."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments, **named):
        return self

    def __iter__(self):
        return iter(())


sys.modules[__name__].__class__ = Nothing
'''


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; print each step."""
    parser = argparse.ArgumentParser(
        prog="python -m r1ci_jax.sandbox.install.prepare_jail", description=__doc__
    )
    parser.add_argument(
        "--check-binary",
        action="store_true",
        help="only test that an nsjail starts, print its path",
    )
    options = parser.parse_args(arguments)
    try:
        nsjail = nsjail_binary.find_nsjail()
        if options.check_binary:
            print(nsjail)
            return 0
        prepare()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def prepare() -> jail_python.JailPython:
    """Build the interpreter unless it exists already.

    Raises:
        UserError: The copy, the installation or the test failed; no partial result remains.
    """
    for directory in jail_python.directories():
        if python := jail_python.read(directory):
            print(f"sandbox Python ready: {directory}")
            return python
    target = jail_python.build_directory()
    with exclusive(target):
        if python := jail_python.read(target):
            print(f"sandbox Python ready: {target}")
            return python
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(
                f"{target} exists and is no sandbox Python; remove it or set R1CI_JAIL_PREFIX"
            )
        print(f"sandbox Python: building {target}", flush=True)
        begin = time.monotonic()
        building = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            building.chmod(0o755)
            build(building)
            building.rename(target)  # the target is absent or an empty directory
        except OSError as error:
            raise UserError(f"cannot build {target}: {error}; {_cure(error)}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    print(f"sandbox Python ready: {target} ({time.monotonic() - begin:.0f} s)")
    python = jail_python.read(target)
    assert python is not None
    return python


def _cure(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space, or name another place by R1CI_JAIL_PREFIX"
    if isinstance(error, PermissionError):
        return "every file of this Python must be readable for you"
    return "mend that, or name another place by R1CI_JAIL_PREFIX"


@contextlib.contextmanager
def exclusive(target: pathlib.Path) -> Iterator[None]:
    """Hold a lock that admits one builder at a time."""
    try:
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            target.parent.chmod(0o755)  # the jail's nobody must get through, whatever the umask
        lock = os.open(
            target.parent / f".{target.name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        )
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent}: {error.strerror}; to have one of your own: export "
            f"R1CI_JAIL_PREFIX={jail_python.user_directory()}, then `r1ci sandbox setup` and the "
            "same command again"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that builds {target}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def build(directory: pathlib.Path) -> None:
    """Fill `directory`: make the trees, test them, write the stamp."""
    root = directory / "root"
    home = root / "python"
    library = home / "lib" / VERSION
    with step(f"copying {sys.base_prefix}"):
        lay_out(root)
        copy_interpreter(home)
    with step(f"installing {', '.join(jail_python.PACKAGES)}"):
        install_packages(library / "site-packages", jail_python.PACKAGES)
    # The interpreters of Linux distributions search for packages here.
    (library / "dist-packages").symlink_to("site-packages")
    with step("copying shared libraries"):
        copy_shared_libraries(root)
    with step("removing the paths of this host"):
        host_paths.remove(root, own_paths(directory))
    with step("compiling to bytecode"):
        compile_all(library)
    open_to_all(root)
    add_grading(root, directory / "grading")
    python = jail_python.JailPython(
        directory=directory,
        interpreter=f"/python/bin/{VERSION}",
        magic=importlib.util.MAGIC_NUMBER.hex(),
    )
    with step("running numpy, sympy and math-verify in jails"):
        prove(python, "default", PROOF)
        prove(python, "grader", GRADING_PROOF)
    jail_python.write_stamp(directory, python)


def own_paths(building: pathlib.Path) -> dict[str, str]:
    """Return the paths of this host that no file of a tree may contain."""
    return host_paths.of_this_host((building, jail_python.build_directory()))


def add_grading(root: pathlib.Path, grading: pathlib.Path) -> None:
    """Make a second tree of hard links, and add the scorers' packages.

    Raises:
        UserError: math-verify cannot be installed. If reasoning-gym cannot be installed, the
            function prints that and continues.
    """
    with step(
        f"installing {', '.join(jail_python.GRADING + jail_python.GRADING_IF_POSSIBLE)} for scorers"
    ):
        shutil.copytree(root, grading, symlinks=True, copy_function=os.link)
        library = grading / "python/lib" / VERSION
        install_packages(library / "site-packages", jail_python.GRADING)
        try:
            install_packages(library / "site-packages", jail_python.GRADING_IF_POSSIBLE)
        except UserError as error:
            print(f"  WITHOUT scorers for the Reasoning-Gym tasks: {error}", flush=True)
            print(
                f"  For them, remove {jail_python.build_directory()} and run this again.",
                flush=True,
            )
        for name in jail_python.STAND_INS:
            (library / "site-packages" / f"{name}.py").write_text(STAND_IN)
        host_paths.remove(grading, own_paths(grading.parent))
        compile_all(library)
        open_to_all(grading)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step, print signs of life while it runs, and print the time it took."""
    begin = time.monotonic()
    print(f"  {what} …", flush=True)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        done = concurrent.futures.Future[None]()

        def beat() -> None:
            while not concurrent.futures.wait([done], HEARTBEAT_SECONDS).done:
                print(f"  … {time.monotonic() - begin:.0f} s", flush=True)

        executor.submit(beat)
        try:
            yield
        finally:
            done.set_result(None)
    print(f"  … done in {time.monotonic() - begin:.1f} s", flush=True)


def lay_out(root: pathlib.Path) -> None:
    """Make the directories and links that the policy mounts over or that scripts expect."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in ("dev/null", "dev/urandom"):
        (root / name).touch()
    (root / "tmp").symlink_to("/scratch")
    (root / "dev/shm").symlink_to("/scratch")
    (root / "usr/lib").symlink_to("/lib")


def copy_interpreter(home: pathlib.Path) -> None:
    """Copy executable and standard library, without bytecode, which contains the host's paths."""
    executable = pathlib.Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    shutil.copy2(executable, home / "bin" / VERSION)
    for name in ("python3", "python"):
        (home / "bin" / name).symlink_to(VERSION)
    standard = pathlib.Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    ignore = shutil.ignore_patterns(*NOT_COPIED)
    shutil.copytree(standard, home / "lib" / VERSION, ignore=ignore)
    dynamic = pathlib.Path(sysconfig.get_config_var("DESTSHARED") or standard / "lib-dynload")
    if dynamic.is_dir() and not dynamic.is_relative_to(standard):
        shutil.copytree(
            dynamic, home / "lib" / VERSION / "lib-dynload", ignore=ignore, dirs_exist_ok=True
        )


def install_packages(packages: pathlib.Path, wanted: Sequence[str]) -> None:
    """Install into `packages` with pip; leave out the packages' own tests."""
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-compile", "--no-input", "--root-user-action=ignore", "--only-binary=:all:",
        "--no-deps", f"--target={packages}", *wanted,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PIP_USER"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(f"pip could not install {' '.join(wanted)}: {lines[-1]}; check the network")
    for tests in sorted(packages.glob("**/tests")):
        shutil.rmtree(tests)
    for unused in ("bin", "share"):
        shutil.rmtree(packages / unused, ignore_errors=True)


def copy_shared_libraries(root: pathlib.Path) -> None:
    """Copy the libraries that executables below `root` link to, and the loader at its own path."""
    interpreter = root / "python/bin" / VERSION
    objects = [interpreter, *sorted((root / "python/lib").glob("**/*.so*"))]
    listed = subprocess.run(["ldd", *objects], capture_output=True, text=True, check=False).stdout
    found = {pathlib.Path(path) for path in re.findall(r"=> (/\S+) \(0x", listed)}
    found = {path for path in found if not path.is_relative_to(root)}
    libc = next((path for path in found if path.name.startswith("libc.so")), None)
    loaders = {
        pathlib.Path(path) for path in re.findall(r"^\s+(/\S*ld-\S+) \(0x", listed, re.MULTILINE)
    }
    if libc is None or not loaders:
        raise UserError("the running Python is not linked to glibc; run with a glibc Python")
    # libc loads libgcc_s by name when a thread ends; nothing links to it.
    found |= {path for path in [libc.with_name("libgcc_s.so.1")] if path.exists()}
    # Without configuration, the loader searches the directory that contains libc.
    for path in sorted(found):
        _place(path, root / libc.relative_to("/").with_name(path.name))
    for path in sorted(loaders):
        _place(path, root / path.relative_to("/"))


def _place(source: pathlib.Path, destination: pathlib.Path) -> None:
    # On merged systems libc may be listed below /usr/lib, which is a link to /lib in the jail.
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not destination.exists():
        shutil.copy2(source.resolve(), destination)


def compile_all(library: pathlib.Path) -> None:
    """Compile each module that has no bytecode; templates that are not valid Python may fail.

    The bytecode names the path inside the jail, and Python does not compare it with the source.
    """
    missing = (
        path
        for path in sorted(library.glob("**/*.py"))
        if not pathlib.Path(importlib.util.cache_from_source(path)).exists()
    )
    command = [sys.executable, "-m", "compileall", "-q", "-j", str(min(8, os.cpu_count() or 1))]
    command += ["-s", str(library), "-p", f"/python/lib/{VERSION}"]
    command += ["--invalidation-mode", "unchecked-hash", "-i", "-"]
    subprocess.run(
        command, input="\n".join(map(str, missing)), text=True, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def open_to_all(root: pathlib.Path) -> None:
    """Make everything readable for the jail's user nobody, whatever the umask was."""
    for directory, _, files in os.walk(root):
        os.chmod(directory, 0o755)
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) or ".so" in name else 0o644)


def prove(python: jail_python.JailPython, policy: str, script: str) -> None:
    """Import the packages in a jail of that policy, with limits that suit a slow machine."""
    with Sandbox(SandboxConfig(workers=1, policy=policy), python=python) as box:
        result = box.run(script, Limits(cpu_seconds=60.0, wall_seconds=120.0))
    if result.status is not Status.OK:
        last = (result.stderr.strip() or result.detail or "no message").splitlines()[-1]
        raise UserError(f"the jail's packages do not run ({policy}, {result.status}): {last}")
    print(f"  {result.stdout.strip()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
