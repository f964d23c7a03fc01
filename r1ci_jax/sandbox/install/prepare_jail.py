"""Make the jail's own Python: `python -m r1ci_jax.sandbox.install.prepare_jail`.

Copies the interpreter this runs on, with its standard library and the shared libraries it needs,
into a directory that becomes the read-only `/` of every jail, installs numpy and sympy there,
compiles everything to bytecode (nothing can be written later), adds a second tree of hard links to
it with the scorers' packages, which scripts must not see, proves both by scripts in real jails, and
only then moves it into place. A second call finds it ready.
"""

import argparse
import concurrent.futures
import contextlib
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
from r1ci_jax.sandbox.result import Status
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

VERSION: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
NOT_COPIED: Final = (
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages",
    "dist-packages", "config-*", "EXTERNALLY-MANAGED", "_tkinter.*", "_test*.so", "_ctypes_test.*",
    "_xxtestfuzz.*", "xxlimited*", "xxsubtype.*", "nis.*", "ossaudiodev.*", "*.opt-?.pyc",
)  # fmt: skip
DIRECTORIES: Final = (
    "scratch", "proc", "cgroup", "dev", "usr", "lib", "lib64", "python/bin", "python/lib",
)  # fmt: skip
HEARTBEAT_SECONDS: Final = 10.0
PROOF: Final = """
import numpy, sympy
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
    """Command line; prints what it does."""
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
    """Build the interpreter unless it is there already.

    Raises:
        UserError: the copy, the installation or the proof failed; nothing half-made stays behind.
    """
    for place in jail_python.places():
        if python := jail_python.read(place):
            print(f"sandbox Python ready: {place}")
            return python
    target = jail_python.build_directory()
    with _exclusive(target):
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
            building.rename(target)  # over nothing, or over an empty directory
        except OSError as error:
            raise UserError(
                f"cannot build {target}: {error}; free space or set R1CI_JAIL_PREFIX"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    print(f"sandbox Python ready: {target} ({time.monotonic() - begin:.0f} s)")
    python = jail_python.read(target)
    assert python is not None
    return python


@contextlib.contextmanager
def _exclusive(target: pathlib.Path) -> Iterator[None]:
    """One builder at a time."""
    try:
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            target.parent.chmod(0o755)  # the jail's nobody passes through, whatever the umask
        lock = os.open(
            target.parent / f".{target.name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        )
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent}: {error.strerror}; set R1CI_JAIL_PREFIX"
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
    """Fill `directory`: root, proof, stamp."""
    root = directory / "root"
    home = root / "python"
    library = home / "lib" / VERSION
    with step(f"copying {sys.base_prefix}"):
        lay_out(root)
        copy_interpreter(home)
    with step(f"installing {', '.join(jail_python.PACKAGES)}"):
        install_packages(library / "site-packages", jail_python.PACKAGES)
    # Distributions' interpreters look for packages here.
    (library / "dist-packages").symlink_to("site-packages")
    with step("copying shared libraries"):
        copy_shared_libraries(root)
    with step("compiling to bytecode"):
        compile_all(library)
    _open_to_all(root)
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


def add_grading(root: pathlib.Path, grading: pathlib.Path) -> None:
    """The same tree, of hard links, with the scorers' packages.

    Raises:
        UserError: math-verify cannot be installed. Without reasoning-gym it goes on, and says so.
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
        compile_all(library)  # what is there already is passed over
        _open_to_all(grading)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step, show that it goes on, tell how long it took."""
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
    """The directories and links that the policy mounts over or scripts expect."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in ("dev/null", "dev/urandom"):
        (root / name).touch()
    (root / "tmp").symlink_to("/scratch")
    (root / "dev/shm").symlink_to("/scratch")
    (root / "usr/lib").symlink_to("/lib")


def copy_interpreter(home: pathlib.Path) -> None:
    """Executable and standard library, with their times: bytecode is valid by its source's time."""
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
    """Install into `packages` with pip; their own tests are left out."""
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
    shutil.rmtree(packages / "bin", ignore_errors=True)


def copy_shared_libraries(root: pathlib.Path) -> None:
    """Whatever the executables below `root` link to, and the loader, at its own path."""
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
    # libc loads it by name when a thread ends; nothing links to it.
    found |= {path for path in [libc.with_name("libgcc_s.so.1")] if path.exists()}
    # The loader looks without configuration where libc lies.
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
    """Bytecode for every module; templates that are no valid Python may fail."""
    command = [sys.executable, "-m", "compileall", "-q", "-j", str(min(8, os.cpu_count() or 1))]
    # The path in the bytecode is the one in the jail.
    paths = ["-s", str(library), "-p", f"/python/lib/{VERSION}", str(library)]
    subprocess.run(
        [*command, *paths], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )


def _open_to_all(root: pathlib.Path) -> None:
    """The jail's user is nobody: everything readable, whatever the umask was."""
    for directory, _, files in os.walk(root):
        os.chmod(directory, 0o755)
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) or ".so" in name else 0o644)


def prove(python: jail_python.JailPython, policy: str, script: str) -> None:
    """Import the packages in a jail of that policy, with room for a slow machine."""
    with Sandbox(SandboxConfig(workers=1, policy=policy), python=python) as box:
        result = box.run(script, Limits(cpu_seconds=60.0, wall_seconds=120.0))
    if result.status is not Status.OK:
        last = (result.stderr.strip() or result.detail or "no message").splitlines()[-1]
        raise UserError(f"the jail's packages do not run ({policy}, {result.status}): {last}")
    print(f"  {result.stdout.strip()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
