"""Write the API's pages, HTML from the docstrings: `python scripts/api_pages.py [FOLDER]`.

The folder is by default build/api. The commands are left out. A module that cannot be imported, or
a warning, is an error.
"""

import pkgutil
import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import pdoc

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ("trackio", "trackio.sqlite_storage", "verifiers.v1", "verifiers.v1.harnesses.null")
"""What our modules import from packages that cannot be installed beside the pinned ones."""
UNRESOLVED = ("Error parsing type annotation", "Failed to run TYPE_CHECKING code")
"""pdoc shows the annotations that it cannot resolve, those with type parameters, as they stand."""


def main(folder: Path) -> None:
    """Write the pages of every module but the commands."""
    warnings.simplefilter("error", UserWarning)
    for message in UNRESOLVED:
        warnings.filterwarnings("ignore", message, UserWarning)
    sys.path.insert(0, str(ROOT))
    sys.modules.update({name: MagicMock(__path__=[]) for name in ABSENT})
    import r1ci_jax

    # pdoc takes what __all__ names, and finds it where it has been imported, which Policy is late.
    assert r1ci_jax.Policy is not None
    modules = [f"r1ci_jax.{module.name}" for module in pkgutil.iter_modules(r1ci_jax.__path__)]
    pdoc.render.configure(docformat="google", show_source=False, footer_text="r1ci_jax")
    pdoc.pdoc("r1ci_jax", *modules, "!r1ci_jax.cli", "!r1ci_jax.__main__", output_directory=folder)
    print(f"API pages: {folder}/index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "api")
