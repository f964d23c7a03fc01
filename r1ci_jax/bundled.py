"""The folders `experiments/` and `sandboxes/`, in a checkout and in an installation.

A checkout has them at its top, where they are read and edited. A wheel may put nothing but
`r1ci_jax` at the top of site-packages, so `setup.py` copies them into this package as it builds.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent
_COPIES: Final = _PACKAGE / "_bundled"

ROOT: Final = _COPIES if _COPIES.is_dir() else _PACKAGE.parent
"""Folder that holds both: inside the package when it was installed from a wheel."""
IS_CHECKOUT: Final = ROOT != _COPIES
"""False for an installation from a wheel."""


def import_experiments() -> types.ModuleType:
    """Import the package `experiments`, which lies on no search path of a console script.

    Experiment files import their neighbors as `experiments.name`; a package of that name that is
    imported already, as in the tests of a checkout, is taken.
    """
    if "experiments" in sys.modules:
        return sys.modules["experiments"]
    folder = ROOT / "experiments"
    spec = importlib.util.spec_from_file_location(
        "experiments", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None, f"no package: {folder}"
    package = importlib.util.module_from_spec(spec)
    sys.modules["experiments"] = package
    spec.loader.exec_module(package)
    return package
