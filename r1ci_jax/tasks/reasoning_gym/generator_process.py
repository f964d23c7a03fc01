"""The child program in which the package `reasoning-gym` generates questions.

`gym_scoring.GeneratorWorker` starts it as a separate script with an empty environment and a
fixed hash seed, because some data sets iterate over sets of strings. It reads one JSON object
per line from stdin and writes one per line to the original stdout. It never receives an answer.

Where the package's answers are known to be wrong, `MENDS` corrects them or asks for another entry.
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
import re
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


_DATED_TIME = re.compile(r"(\d{4}-\d\d-\d\d) \(\w+\) (\d\d:\d\d:\d\d) ([+-]\d{4})")


def _interval(entry: Any, data: Any) -> Any:
    """Compute a duration exactly; the package cuts milliseconds as floats.

    It also drops the time of day after a weekday in brackets. A time after midnight, or another
    zone, can make the end come first: such a question has no answer.
    """
    del data
    metadata = entry["metadata"]
    dated = _DATED_TIME.findall(entry["question"])
    texts = map("{}T{}{}".format, *zip(*dated, strict=True)) if dated else ()
    start, end = map(
        datetime.datetime.fromisoformat, texts or (metadata["start_time"], metadata["end_time"])
    )
    if end < start:
        return None
    span, form = end - start, metadata["expected_format"]
    day, seconds = datetime.timedelta(days=1), span.seconds
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    clock = f"{hours:02d}:{minutes:02d}"
    if "SS" in form:
        clock += f":{seconds:02d}"
    if "mmm" in form:
        clock += f".{span.microseconds // 1000:03d}"
    if form.startswith("D days"):
        return entry | {"answer": f"{span.days} days" + (f", {clock}" if "HH" in form else "")}
    return entry | {"answer": clock} if span < day else None


def _relative(entry: Any, data: Any) -> Any:
    """Name what the first person is to the second; the package names the reverse for two kinds."""
    woman = entry["metadata"]["person1"] in data.config.female_names
    right = {
        "niece": ("nephew", "niece"),
        "mother-in-law": ("son-in-law", "daughter-in-law"),
    }
    right |= {"nephew": right["niece"], "father-in-law": right["mother-in-law"]}
    answer = entry["answer"]
    return entry | {"answer": right[answer][woman] if answer in right else answer}


def _circle(entry: Any, data: Any) -> Any:
    """Refuse colleagues, whose answer forgets one circle, and brothers of a man from nowhere."""
    del data
    woman = entry["question"].partition(" has ")[0]
    brothers = re.search(r"sisters does (\w+)'s brother have", entry["question"])
    known = brothers is None or brothers[1] == woman
    return entry if known and entry["metadata"]["task_type"] != "colleagues" else None


def _one_year(entry: Any, data: Any) -> Any:
    """Refuse business days over the end of the year: the question gives both dates one year."""
    del data
    metadata = entry["metadata"]
    years = {metadata[key][:4] for key in ("start_date", "end_date") if key in metadata}
    return entry if metadata["task"] != "count_business_days" or len(years) == 1 else None


def _one_reading(entry: Any, data: Any) -> Any:
    """Refuse letters that are another word of the same text too, as those of "form" and "from"."""
    words = {word.casefold() for word in data.words}
    for word in map(str.casefold, entry["metadata"]["original_words"]):
        if any(
            sorted(other) == sorted(word) for other in words - {word} if len(other) == len(word)
        ):
            return None
    return entry


MENDS: dict[str, Callable[[Any, Any], Any]] = {
    "time_intervals": _interval,
    "family_relationships": _relative,
    "aiw": _circle,
    "calendar_arithmetic": _one_year,
    "letter_jumble": _one_reading,
}
"""By data set: what makes the right entry of one that the package made, or None to ask for another.

Each takes the entry and the data set."""


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
        entry = MENDS[name](entry, entries) if name in MENDS else entry
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
