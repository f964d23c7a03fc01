"""JSON-lines files of a run: metrics, trajectories, results, potential.

A line is one record, a JSON object, and reaches the operating system before the call returns, so a
killed process loses at most the record it was writing; that half line is removed when the file is
opened next. docs/metrics.md lists all metrics.
"""

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, json_reader

Record = dict[str, Any]


def read(
    path: Path, *, required: Mapping[str, type | tuple[type, ...]] | None = None
) -> list[Record]:
    """Read all complete records; a last line without its newline is still being written.

    A file that does not exist has none. `required` are fields of every record, with their types.

    Raises:
        UserError: A line is not a JSON object, or a required field is missing or of another type.
    """
    return list(stream(path, required=required))


def stream(
    path: Path, *, required: Mapping[str, type | tuple[type, ...]] | None = None
) -> Iterator[Record]:
    """Yield the records of `read` one after the other, for files that are large.

    Raises:
        UserError: As `read` does, at that line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record = _parse(path, number, line.removesuffix(b"\n"))
            for field, kind in (required or {}).items():
                if not isinstance(record.get(field), kind):
                    raise UserError(
                        f"{path}, line {number} has no right {field!r}: repair or delete that line"
                    )
            yield record


def column(path: Path, stage: str, name: str) -> list[float]:
    """Read one metric of a stage, in order; records without it are left out."""
    records = (record for record in read(path) if record.get("stage") == stage)
    return [record[name] for record in records if record.get(name) is not None]


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        # Our own logs may hold half characters: whatever a script printed.
        record = json_reader.parse(line, path, allow_surrogates=True)
    except json_reader.JsonError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path}, line {number} is not a JSON object: repair or delete that line")
    return record


class JsonlLog:
    """Appends records to a JSON-lines file; a context manager.

    Example:
        with JsonlLog(run.results_path) as log:
            log.append({"model": "sft", "task": "gcd", "n": 40, "correct": 21})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_repaired(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; on failure (a full disk, say) the file is unchanged."""
        # ASCII only: interpreter output may hold lone surrogates, which UTF-8 cannot encode.
        rest = memoryview(json.dumps(dict(record), allow_nan=False).encode("ascii") + b"\n")
        end = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def keep(self, predicate: Callable[[Record], bool]) -> int:
        """Drop the records that fail `predicate`, atomically; returns their number."""
        records = read(self.path)
        kept = [record for record in records if predicate(record)]
        if len(kept) == len(records):
            return 0
        self._file.close()
        try:
            atomic_files.write_atomic(self.path, "".join(f"{json.dumps(each)}\n" for each in kept))
        finally:
            self._file = _open_repaired(self.path)
        return len(records) - len(kept)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop records of `stage` after `step`: a resumed stage writes them again."""
        return self.keep(lambda each: each.get("stage") != stage or each.get("step", 0) <= step)

    def close(self) -> None:
        """Close the file; further appends fail."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_repaired(path: Path) -> io.FileIO:
    """Open for appending, after removing the half line that a killed writer left."""
    file = io.FileIO(path, "ab")
    complete = path.read_bytes().rfind(b"\n") + 1
    if complete != os.fstat(file.fileno()).st_size:
        file.truncate(complete)
    return file


class Follower(Protocol):
    """Shows the records of metrics.jsonl elsewhere (runtime/sinks)."""

    def follow(self, records: Sequence[Record]) -> None:
        """Take all records that the file has now, of which some may be known and some be gone."""
        ...

    def write(self, record: Record) -> None:
        """Take the next record."""
        ...


class MetricsWriter:
    """Writes records {"stage", "step", "time", **metrics} to metrics.jsonl; a context manager.

    JSON has neither NaN nor infinity: such a value becomes null and is listed under "non_finite",
    as in {"optim/loss": null, "non_finite": {"optim/loss": "nan"}}. Followers get each record once
    it is in the file.
    """

    def __init__(self, path: Path, followers: Sequence[Follower] = ()) -> None:
        self._log = JsonlLog(path)
        self._followers = followers

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Log one step. Values are numbers or arrays of one element."""
        record: Record = {"stage": stage, "step": int(step), "time": round(time.time(), 3)}
        non_finite: dict[str, str] = {}
        for name, value in metrics.items():
            assert name not in ("stage", "step", "time", "non_finite"), f"reserved name: {name}"
            number = _plain(value)
            if not math.isfinite(number):
                non_finite[name] = str(number)
                number = None
            record[name] = number
        if non_finite:
            record["non_finite"] = non_finite
        self._log.append(record)
        for follower in self._followers:
            follower.write(record)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop records of `stage` after `step`: a resumed stage writes them again."""
        dropped = self._log.truncate_after(stage, step)
        for follower in self._followers if dropped else ():
            follower.follow(read(self._log.path))
        return dropped

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(value: Any) -> int | float:
    """Convert a number, or a one-element array of any library, to a Python number."""
    if isinstance(value, int | float):
        return value
    number = value.item()
    assert isinstance(number, int | float), f"not a number: {value!r}"
    return number
