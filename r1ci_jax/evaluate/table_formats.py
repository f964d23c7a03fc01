"""Tables as CSV, for programs, and as LaTeX, for papers; Markdown is that of `tables`."""

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from r1ci_jax.evaluate import tables
from r1ci_jax.evaluate.tables import Table
from r1ci_jax.runtime import atomic_files

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SPECIAL: Final = re.compile("|".join(re.escape(character) for character in _LATEX))
_NUMBER: Final = re.compile(r"[-+]?\d")


def to_csv(table: Table) -> str:
    """Render the columns and cells, without title and note, with line feeds (RFC 4180 quoting)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def to_latex(table: Table) -> str:
    """Render a `table` environment; its lines are those of the package booktabs."""
    right = [
        any(_NUMBER.match(row[index]) for row in table.rows) for index in range(len(table.columns))
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if each else 'l' for each in right)}}}",
        r"\toprule",
        _line(table.columns),
        r"\midrule",
        *map(_line, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\smallskip\footnotesize {_escape(table.note)}"] if table.note else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _LATEX[found[0]], text.replace("\n", " "))


FORMATS: Final[Mapping[str, tuple[Callable[[Table], str], str]]] = {
    "markdown": (tables.to_markdown, ".md"),
    "csv": (to_csv, ".csv"),
    "latex": (to_latex, ".tex"),
}
"""Renderer and file ending of each format."""


def render(table: Table, form: str) -> str:
    """Render a table in one of `FORMATS`."""
    return FORMATS[form][0](table)


def write(table: Table, directory: Path, name: str, form: str) -> Path:
    """Write the table to `directory`, with the ending of its format."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}{FORMATS[form][1]}"
    # Names may hold half characters, which no UTF-8 file can.
    atomic_files.write_atomic(path, render(table, form).encode("utf-8", "backslashreplace"))
    return path
