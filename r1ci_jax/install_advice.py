"""The commands that install what is missing, for error lines.

A bare `pip` is often another environment's: `.venv/bin/r1ci` runs without an active one. So every
command names the Python of this very process. A wheel has no checkout, whose extras and requirement
files could be named; there the packages are.
"""

import importlib.metadata
import sys
from pathlib import Path

from r1ci_jax import bundled


def pip_install(what: str) -> str:
    """Return the command that installs into the environment of this process."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{python} -m pip install {what}"


def install_extra(name: str, *, requirements: str = "") -> str:
    """Return the command that installs an extra of setup.py.

    `requirements` is the checkout's file of it, where the versions must fit others.
    """
    if not bundled.IS_CHECKOUT:
        required = importlib.metadata.requires("r1ci_jax") or ()
        packages = [each.partition(";")[0].strip() for each in required if f'"{name}"' in each]
        return pip_install(" ".join(f"'{each}'" for each in packages))
    return pip_install(f"-r {requirements}" if requirements else f"-e '.[{name}]'")
