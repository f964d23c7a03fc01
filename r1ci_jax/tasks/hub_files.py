"""Published files of the Hugging Face hub: download them, and read the rows they hold."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.runtime.quiet_hub import quiet_hub
from r1ci_jax.tasks import published_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a data set on the Hugging Face hub."""

    repository: str
    revision: str
    file: str
    count: int
    """Its number of rows."""


Download = Callable[[HubFile], pathlib.Path]
"""A function that downloads a file of the hub."""


def from_hub(source: HubFile) -> pathlib.Path:
    """Download through `huggingface_hub`, which keeps its own cache.

    Raises:
        UserError: There is no connection, or the data set's conditions are not accepted.
    """
    # This import is local: it takes half a second, and only `fetch` needs it.
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        with quiet_hub():
            found = huggingface_hub.hf_hub_download(
                source.repository, source.file, repo_type="dataset", revision=source.revision
            )
    except GatedRepoError:
        raise UserError(
            f"{source.repository} is given to those who accept its conditions: do so at "
            f"https://huggingface.co/datasets/{source.repository}, log in by `hf auth login`, and "
            "run the same command again"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot download {source.file} of {source.repository}: {why}; run "
            f"{published_files.FETCH} where there is a network, or set "
            f"${published_files.VARIABLE} to a filled folder"
        ) from None
    return pathlib.Path(found)


def read_rows(path: pathlib.Path, place: str) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file, of comma-separated values or of JSON lines."""
    if path.suffix == ".parquet":
        import pyarrow.parquet  # Only a download needs it.

        return pyarrow.parquet.read_table(path).to_pylist()
    return parse_rows(path.read_bytes(), place)


def parse_rows(content: bytes, place: str) -> list[dict[str, Any]]:
    """Parse comma-separated values with a heading, or JSON lines; `place` names the file.

    Raises:
        UserError: It is neither.
    """
    text = content.decode(errors="replace")
    if place.endswith(".csv"):
        try:
            return list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise _broken(place, f"is no table of comma-separated values ({error})") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json_reader.parse(line, place)
        except json_reader.JsonError:
            row = None
        if not isinstance(row, dict):
            raise _broken(f"{place}, line {number}", "is no JSON object")
        rows.append(row)
    return rows


def _broken(where: str, what: str) -> UserError:
    return UserError(f"{where} {what}; delete the file and run {published_files.FETCH}")
