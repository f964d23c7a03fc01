"""Pieces of HTML that every page of the report uses; whatever they show is escaped."""

import html
import importlib.resources
from collections.abc import Iterable, Sequence

from r1ci_jax.tools.report import readable_text

MAX_CELL = 2_000
"""Characters of one table cell."""


def escape(text: object) -> str:
    """Return text that is harmless and quick to lay out, whatever it was."""
    return html.escape(readable_text.make_readable(str(text), MAX_CELL), quote=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, total: bool = False) -> str:
    """Render a table; with `total` its last row is set apart."""
    header_row = "".join(f"<th>{escape(text)}</th>" for text in headers)
    lines = ["".join(f"<td>{escape(text)}</td>" for text in row) for row in rows]
    last = len(lines) - 1 if total else -1
    body = "".join(
        f'<tr class="total">{line}</tr>' if index == last else f"<tr>{line}</tr>"
        for index, line in enumerate(lines)
    )
    return f'<div class="wide" tabindex="0"><table><tr>{header_row}</tr>{body}</table></div>'


def bar(label: str, fraction: float, color: int, value: str) -> str:
    """Render a labeled horizontal bar."""
    return (
        f'<div class="bar"><span>{escape(label)}</span>'
        f'<i style="width:{60 * fraction:.2f}%" class="s{color}"></i><b>{escape(value)}</b></div>'
    )


def resource(name: str) -> str:
    """Read a file of this folder."""
    return importlib.resources.files("r1ci_jax.tools.report").joinpath(name).read_text("utf-8")
