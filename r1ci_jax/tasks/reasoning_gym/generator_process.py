"""The child program in which the package `reasoning-gym` generates questions.

`gym_scoring.GeneratorWorker` starts it as a separate script with an empty environment and a
fixed hash seed, because some data sets iterate over sets of strings. It reads one JSON object
per line from stdin and writes one per line to the original stdout. It never receives an answer.

Entries that the package makes wrongly are corrected or replaced, see `entry_corrections`.
"""

import datetime
import decimal
import enum
import functools
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import sys
import types
from collections.abc import Callable
from typing import Any, Self

SIZE = 2**62
"""The size of virtual datasets, which serve any index below it."""
_RETRY = 2**40
"""Distance of the index that replaces one without a usable question."""
_TRIES = 20


class _Anything(types.ModuleType):
    """A stand-in for the modules of matplotlib and for their contents."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


class NoPlots(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook that blocks matplotlib, which dependencies import for unused plots.

    The import would cost a second in every child and write to the home directory.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Claim the modules."""
        if fullname.partition(".")[0] in {"matplotlib", "mpl_toolkits"}:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        """Make the stand-in."""
        return _Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the stand-in has no code to run."""


def plain(value: Any) -> Any:
    """Convert the value to JSON types; values that JSON cannot hold become text."""
    match value:
        case None | bool() | int() | float():
            return value
        case enum.Enum():
            return plain(value.value)
        case str():
            return str(value)
        case dict():
            return {_key(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=repr)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
    if hasattr(value, "tolist"):  # The value is from numpy.
        return plain(value.tolist())
    return str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(plain(key))


@functools.cache
def corrections() -> dict[str, Callable[[Any, Any], Any]]:
    """Import the module beside this file, whose folder is not on the path (-P): it is put last."""
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    return importlib.import_module("entry_corrections").CORRECTIONS


_DAY = datetime.datetime(2025, 1, 1)
"""The day on which questions are made."""


class _FixedDate(datetime.date):
    """The date type for a module that asks for today."""

    @classmethod
    def today(cls) -> Self:
        """Return the same day always."""
        return cls(_DAY.year, _DAY.month, _DAY.day)


def package() -> Any:
    """Import the package's registry by name, since a module next to this file has the same name."""
    registry = importlib.import_module("reasoning_gym.factory")
    # One data set draws times of today, and reads times as those of today. Only its module gets
    # these replacements.
    names = vars(importlib.import_module("reasoning_gym.arithmetic.time_intervals"))
    parse = importlib.import_module("dateutil.parser").parse
    names["date"] = _FixedDate
    names["parser"] = types.SimpleNamespace(parse=functools.partial(parse, default=_DAY))
    return registry


@functools.lru_cache(maxsize=32)
def dataset(name: str, config: str, seed: int, size: int) -> Any:
    """Return the package's dataset object; few are kept, because some hold megabytes of words."""
    return package().create_dataset(name, **json.loads(config), seed=seed, size=size)


def generate(request: dict[str, Any]) -> dict[str, Any]:
    """Generate the entry of that index; use another where the package fails or the answer is blank.

    Args:
        request: The `dataset`, its `config` and `seed`, the `index` of the entry, `refused`, a
            text that a useful answer lacks, and `chunk`: 0 where any index is served, otherwise
            the size of the datasets to sample from, because this one generates all items at once.
    """
    name, config, seed = request["dataset"], request["config"], request["seed"]
    chunk, refused = request["chunk"], request["refused"]
    for attempt in range(_TRIES):
        number = request["index"] + attempt * _RETRY
        part, number = divmod(number, chunk) if chunk else (0, number)
        try:
            entries = dataset(name, config, seed + part * 2**33, chunk or SIZE)
            # One data set (list_functions) also uses the global generator.
            random.seed(f"{name}/{seed}/{part}/{number}")
            entry = entries[number]
        except (ValueError, RuntimeError, IndexError, ArithmeticError):
            continue
        if (correct := corrections().get(name)) is not None:
            entry = correct(entry, entries)
        if entry is None:
            continue
        answer = entry["answer"]
        if answer is None or (str(answer).strip() and (not refused or refused not in str(answer))):
            return plain(entry)
    raise RuntimeError(f"{name}: no usable entry in {_TRIES} tries")


def serve(lines: Any, reply: Callable[[str], None]) -> None:
    """Answer requests until the other side closes."""
    for line in lines:
        try:
            answer = {"entry": generate(json.loads(line))}
        except Exception as error:  # The package raises all kinds of errors.
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        reply(json.dumps(answer) + "\n")


def main() -> None:
    """Set up and serve. Prints of the package must not mix with the replies."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    sys.meta_path.insert(0, NoPlots())
    registered = len(package().DATASETS)  # The parent process reads this error.
    os.dup2(silence, 2)

    def reply(text: str) -> None:
        replies.write(text)
        replies.flush()

    reply(json.dumps({"ready": registered}) + "\n")
    serve(sys.stdin, reply)


if __name__ == "__main__":
    main()
