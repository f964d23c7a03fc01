"""Modules of a user, such as agents and tasks of one's own, that lie beside the experiment's file.

One folder at a time is searched for them, after all that is installed: no file of a user takes the
place of a module that the program needs. When another folder is chosen, the modules that came from
the folder before it are forgotten, so two experiments may both have a module of one name.

A mistake in such a file is the user's: it ends in one line with the file and the line number.
"""

import contextlib
import dataclasses
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from r1ci_jax.errors import UserError, find_close

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_INSTALLED: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_LONGEST_MESSAGE: Final = 300
"""Characters of an exception's message that are shown."""


@dataclasses.dataclass(frozen=True)
class _Folder:
    """The folder that is searched, and the modules that were there before it was."""

    path: str
    earlier: frozenset[str]
    is_added: bool
    """False: the user's own PYTHONPATH has it, so it stays."""


_chosen: _Folder | None = None


def search(folder: Path) -> None:
    """Let the modules of a folder be imported, and those of the folder before it no longer."""
    global _chosen
    path = str(folder.resolve())
    if _chosen is not None and _chosen.path == path:
        return
    if _chosen is not None:
        _forget(_chosen)
    is_added = path not in sys.path
    if is_added:
        sys.path.append(path)
    importlib.invalidate_caches()  # its files may be younger than the last look at the folder
    _chosen = _Folder(path, frozenset(sys.modules), is_added)


def _forget(folder: _Folder) -> None:
    """Search a folder no longer, and drop the modules that were found there."""
    if not folder.is_added:
        return
    with contextlib.suppress(ValueError):
        sys.path.remove(folder.path)
    found = {name for name in sys.modules if name.partition(".")[0] not in folder.earlier}
    ours = {name for name in found if _lies_in(name.partition(".")[0], folder.path)}
    for name in ours:
        del sys.modules[name]


def _lies_in(name: str, folder: str) -> bool:
    """Return True if the file or the package of a top-level module lies directly in the folder."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    places = [file] if file else [*getattr(module, "__path__", ())]
    parents = {str(parent) for place in places for parent in Path(place).parents[:2]}
    return folder in parents


def load(place: str, *, what: str) -> Any:
    """Import the object that `package.module:Name` is the place of; `what` it is, for messages.

    Raises:
        UserError: There is no such module or name, or the module has a mistake.
    """
    name, _, attribute = place.partition(":")
    try:
        with explain(name):
            module = importlib.import_module(name)
    except UserError as error:
        cause = error.__cause__
        absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if absent and f"{name}.".startswith(f"{absent}."):
            raise UserError(
                f"there is no module {absent} for {what} {place}; it must lie in the folder of "
                "the experiment's file, without one in the working directory, or be installed"
            ) from cause
        raise
    if not hasattr(module, attribute):
        close = find_close(attribute, vars(module))
        hint = f"; did you mean {name}:{close}?" if close else ""
        raise UserError(f"{getattr(module, '__file__', name)} has no {attribute} for {what}{hint}")
    return getattr(module, attribute)


@contextlib.contextmanager
def explain(source: Path | str) -> Generator[None]:
    """Raise a UserError with file and line number for any exception of a user's code.

    `source` is named where no line of the user's is known.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        words = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        text = f"{type(error).__name__}: {words}" if words else type(error).__name__
        raise UserError(
            f"{_place(error, source)}: {text[:_LONGEST_MESSAGE]}; correct that line "
            "(--debug shows the whole traceback)"
        ) from error


def _place(error: BaseException, source: Path | str) -> str:
    """Return the file and the line of the user's that raised an exception, or led to it."""
    if isinstance(error, SyntaxError) and error.filename and error.filename[0] != "<":
        return f"{_shorten(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_of_user(frame.filename)]
    return f"{_shorten(own[-1].filename)}:{own[-1].lineno}" if own else _shorten(str(source))


def _is_of_user(file: str) -> bool:
    if file[0] == "<":
        return False
    path = Path(file).resolve()
    return not any(path.is_relative_to(place) for place in (_PACKAGE, *_INSTALLED))


def _shorten(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
