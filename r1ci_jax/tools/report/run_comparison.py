"""Render one page about two runs: their curves over each other, their tables beside each other."""

import json
from pathlib import Path
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime import run_dir
from r1ci_jax.tools.report import learning_curves, markup, page, sections

MAX_SETTING = 160
"""Characters of a setting's value; the page of the run alone has it whole."""


def write(left: Path, right: Path, to: Path) -> Path:
    """Write the page about two run directories to a file; returns the file.

    Raises:
        UserError: A run cannot be read, both are the same, or the file cannot be written.
    """
    if left.resolve() == right.resolve():
        raise UserError(f"{left} and {right} are the same run; name two")
    return page.save(to, render(run_dir.RunDir.view(left), run_dir.RunDir.view(right)))


def render(left: run_dir.RunDir, right: run_dir.RunDir) -> str:
    """Render the full page as text."""
    runs = {_label(left, right): left, _label(right, left): right}
    colors = learning_curves.assign_colors([run.config["experiment"] for run in runs.values()])
    records = {label: page.read_records(run) for label, run in runs.items()}
    results = {label: page.read_results(run) for label, run in runs.items()}
    bars = "".join(
        sections.draw_accuracy(found, colors, prefix=f"{label}: ")
        for label, found in results.items()
        if found is not None
    )
    return page.fill(
        "comparison.html",
        ("tables.js",),
        title=" | ".join(runs),
        kind="two runs",
        facts=_facts(runs),
        settings=_settings(runs),
        results=bars + _beside({label: _results(found) for label, found in results.items()}),
        curves=learning_curves.draw_pair([*records.items()], colors),
        curriculum=_beside(
            {
                label: sections.curriculum(
                    page.read_potential(run), run.config["experiment"]["potential"]
                )
                for label, run in runs.items()
            }
        ),
        stops=_beside(
            {
                label: sections.NO_RESULTS if found is None else sections.stops(found)
                for label, found in results.items()
            }
        ),
        times=_beside(
            {label: page.stage_times(run, records[label]) for label, run in runs.items()}
        ),
    )


def _label(run: run_dir.RunDir, other: run_dir.RunDir) -> str:
    """Return the shortest text that tells a run from the other."""
    return run.path.name if run.path.name != other.path.name else str(run.path)


def _results(results: tables.RunResults | None) -> str:
    return sections.NO_RESULTS if results is None else sections.results_tables(results)


def _beside(parts: dict[str, str]) -> str:
    """Put the parts of two runs beside each other; below each other on a phone."""
    columns = "".join(
        f"<div><h3>{markup.escape(label)}</h3>{part}</div>" for label, part in parts.items()
    )
    return f'<div class="pair">{columns}</div>'


def _facts(runs: dict[str, run_dir.RunDir]) -> str:
    left, right = (page.list_facts(run) for run in runs.values())
    return markup.table(("", *runs), [(key, left[key], right[key]) for key in left])


def _settings(runs: dict[str, run_dir.RunDir]) -> str:
    """List the settings that differ."""
    left, right = (_arms_by_name(run.config["experiment"]) for run in runs.values())
    rows = [
        (key, _shorten(a), _shorten(b))
        for key, (a, b) in run_dir.find_differences(left, right).items()
    ]
    return markup.table(("setting", *runs), rows) if rows else "<p>All settings are the same.</p>"


def _arms_by_name(experiment: dict[str, Any]) -> dict[str, Any]:
    """Return the settings so that arms of the same name are compared."""
    return experiment | {"arms": {arm["name"]: arm for arm in experiment["arms"]}}


def _shorten(value: Any) -> str:
    text = "-" if value is None else json.dumps(value)
    return text if len(text) <= MAX_SETTING else f"{text[:MAX_SETTING]} …"
