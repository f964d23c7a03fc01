"""The files of a run that grow line by line: metrics, trajectories, results, potential.

Every line is one JSON object and reaches the operating system before the call returns, so a killed
process loses at most the line it was writing; that half line is cut off when the file is next
opened. The names of all metrics stand in docs/metrics.md.
"""

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """All complete rows of a file; a last line without its newline is still being written.

    A file that does not exist has no rows. Raises UserError for a line that is no JSON object.
    """
    if not path.exists():
        return []
    *lines, _unfinished = path.read_bytes().split(b"\n")
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def column(path: Path, stage: str, name: str) -> list[float]:
    """A metric of a stage, in the order of its rows; rows without it are left out."""
    rows = (row for row in read(path) if row.get("stage") == stage)
    return [row[name] for row in rows if row.get(name) is not None]


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number} is not a JSON object: repair or delete that line")
    return row


class JsonlLog:
    """Appends rows to a JSON-lines file.

    Example:
        with JsonlLog(run.results_path) as log:
            log.append({"model": "sft", "task": "gcd", "n": 40, "correct": 21})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_repaired(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line; on failure (a full disk, say) the file is as it was before."""
        # ASCII only: interpreter output may hold lone surrogates, which UTF-8 cannot encode.
        rest = memoryview(json.dumps(dict(row), allow_nan=False).encode("ascii") + b"\n")
        end = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def keep(self, predicate: Callable[[Record], bool]) -> int:
        """Drop the rows that fail `predicate`, atomically; returns how many went."""
        rows = read(self.path)
        kept = [row for row in rows if predicate(row)]
        if len(kept) == len(rows):
            return 0
        self._file.close()
        try:
            atomic_files.write_atomic(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        finally:
            self._file = _open_repaired(self.path)
        return len(rows) - len(kept)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop rows of `stage` beyond `step`: a resumed stage writes them again."""
        return self.keep(lambda row: row.get("stage") != stage or row.get("step", 0) <= step)

    def close(self) -> None:
        """Close the file; further appends fail."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_repaired(path: Path) -> io.FileIO:
    """Open for appending, after cutting off the half line that a killed writer left."""
    file = io.FileIO(path, "ab")
    complete = path.read_bytes().rfind(b"\n") + 1
    if complete != os.fstat(file.fileno()).st_size:
        file.truncate(complete)
    return file


class MetricsWriter:
    """Writes rows {"stage", "step", "time", **metrics} to metrics.jsonl.

    JSON knows neither NaN nor infinity: such a value becomes null and is named under "non_finite",
    as in {"optim/loss": null, "non_finite": {"optim/loss": "nan"}}.
    """

    def __init__(self, path: Path) -> None:
        self._log = JsonlLog(path)

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Log one step. Values are numbers or arrays of one element."""
        row: Record = {"stage": stage, "step": int(step), "time": round(time.time(), 3)}
        non_finite: dict[str, str] = {}
        for name, value in metrics.items():
            assert name not in ("stage", "step", "time", "non_finite"), f"reserved name: {name}"
            number = _plain(value)
            if not math.isfinite(number):
                non_finite[name] = str(number)
                number = None
            row[name] = number
        if non_finite:
            row["non_finite"] = non_finite
        self._log.append(row)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop rows of `stage` beyond `step`: a resumed stage writes them again."""
        return self._log.truncate_after(stage, step)

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _plain(value: Any) -> int | float:
    """A Python number of a number or a one-element array of any library."""
    if isinstance(value, int | float):
        return value
    number = value.item()
    assert isinstance(number, int | float), f"not a number: {value!r}"
    return number
