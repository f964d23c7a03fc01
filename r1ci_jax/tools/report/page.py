"""Render report.html: one static file with a run's settings, curves, results and trajectories.

Trajectories are hostile text: everything is escaped, the page carries a content policy that allows
its own script only, and that script inserts data as text, never as HTML.
"""

import base64
import errno
import hashlib
import json
import string
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax import utf8
from r1ci_jax.curriculum import potential
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime import atomic_files, metrics, run_dir
from r1ci_jax.runtime.metrics import Record
from r1ci_jax.tools.report import learning_curves, markup, readable_text, sections

MAX_TRAJECTORIES = 400
"""Trajectories in one page; of more, an even sample over the run."""
LAST_STAGE = "eval"
"""After it nothing on the page changes."""


def write(path: Path, to: Path | None = None, *, reload_seconds: int = 0) -> Path:
    """Write the report of a run directory, finished or not; returns its path.

    Args:
        path: Run directory.
        to: File that is written; None: report.html of the run directory.
        reload_seconds: Seconds after which the page of an unfinished run loads itself anew.

    Raises:
        UserError: The run cannot be read, or the file not be written.
    """
    run = run_dir.RunDir.view(path)
    return save(to or run.report_path, render_page(run, reload_seconds=reload_seconds))


def save(path: Path, text: str) -> Path:
    """Write a page; its directory may be read-only, which is the user's to change."""
    try:
        atomic_files.write_atomic(path, text)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror}; name another file with --out FILE"
        ) from error
    return path


def is_finished(run: run_dir.RunDir) -> bool:
    """Return True if nothing on the page will change."""
    return LAST_STAGE in run.finished_stages()


def render_page(run: run_dir.RunDir, *, reload_seconds: int = 0) -> str:
    """Render the full page as text."""
    experiment = run.config["experiment"]
    colors = learning_curves.assign_colors([experiment])
    records = read_records(run)
    results = read_results(run)
    logged = metrics.read(run.trajectories_path)
    shown = [
        readable_text.shorten_record(record) for record in sample_evenly(logged, MAX_TRAJECTORIES)
    ]
    return fill(
        "report.html",
        ("tables.js", "report.js"),
        reload=_reload(run, reload_seconds),
        title=experiment["name"],
        kind="run report",
        state=_state(run, records, reload_seconds),
        facts=_facts(run),
        config=_config(run.config),
        results=sections.NO_RESULTS
        if results is None
        else sections.draw_accuracy(results, colors) + sections.results_tables(results),
        curves=learning_curves.draw_run(records, experiment, colors),
        parts=sections.training_parts(run.diagnostics_path),
        curriculum=sections.curriculum(read_potential(run), experiment["potential"]),
        stops=sections.NO_RESULTS if results is None else sections.stops(results),
        times=stage_times(run, records),
        count=f"{len(shown)} of {len(logged)} logged",
        reward=sections.explain_reward(experiment),
        data=encode_script_json(shown),
    )


def fill(
    body: str, scripts: Sequence[str], *, title: str, kind: str, reload: str = "", **parts: str
) -> str:
    """Fill a page's body into the frame, with its scripts as the only ones that may run.

    `title` names what the page, of this `kind`, is about.
    """
    script = "".join(map(markup.resource, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    text = string.Template(markup.resource("frame.html")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        reload=reload,
        title=markup.escape(title),
        kind=kind,
        style=markup.resource("report.css"),
        body=string.Template(markup.resource(body)).substitute(title=markup.escape(title), **parts),
        script=script,
    )
    # Interpreter output may hold lone surrogates, which no UTF-8 file can.
    return utf8.well_formed(text)


def read_records(run: run_dir.RunDir) -> list[Record]:
    """Read the metrics of a run."""
    return metrics.read(run.metrics_path, required={"stage": str, "step": int})


def read_potential(run: run_dir.RunDir) -> list[Record]:
    """Read the potential of the questions of a run."""
    return metrics.read(run.potential_path, required=potential.RECORD_FIELDS)


def read_results(run: run_dir.RunDir) -> tables.RunResults | None:
    """Read the results of a run; None if it has none."""
    has_some = any(record.get("n") for record in metrics.read(run.results_path))
    return tables.read_run(run.path) if has_some else None


def stage_times(run: run_dir.RunDir, records: Sequence[Record]) -> str:
    """Render where the time of a run went."""
    return sections.times(records, run.finished_stages(), run.config.get("created", 0.0))


def encode_script_json(value: Any) -> str:
    """Encode JSON that is safe inside a <script> element whatever its strings hold."""
    text = json.dumps(value, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def sample_evenly(records: Sequence[Record], max_items: int) -> list[Record]:
    """Sample at most `max_items` records, evenly spaced, the first and the last among them."""
    if len(records) <= max_items:
        return list(records)
    last = len(records) - 1
    return [records[round(index * last / (max_items - 1))] for index in range(max_items)]


def _reload(run: run_dir.RunDir, seconds: int) -> str:
    if not seconds or is_finished(run):
        return ""
    return f'<meta http-equiv="refresh" content="{seconds}">'


def _state(run: run_dir.RunDir, records: Sequence[Record], reload_seconds: int) -> str:
    """Say how far an unfinished run has come; nothing about a finished one."""
    if is_finished(run):
        return ""
    step = ""
    if records:
        last = records[-1]
        logged = time.strftime("%H:%M:%S", time.gmtime(last.get("time", 0.0)))
        step = f" The last step was {last['stage']} {last['step']}, at {logged}."
    again = (
        f"It loads itself anew every {reload_seconds} s while r1ci report --watch goes on."
        if reload_seconds
        else "r1ci report RUN writes it anew, and with --watch goes on doing so."
    )
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"This run is not finished.{step} This page was written at {now}. {again}"
    return f'<p class="note">{markup.escape(text)}</p>'


def list_facts(run: run_dir.RunDir) -> dict[str, str]:
    """List what is known of the run as a whole."""
    config = run.config
    revision = config.get("git_revision")
    changed = " with local changes" if config.get("git_changes") else ""
    packages = config.get("packages", {})
    return {
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(config.get("created", 0))),
        "revision": f"{revision[:12]}{changed}" if revision else "unknown",
        "devices": ", ".join(config.get("devices", [])) or "unknown",
        "sandbox": ", ".join(config.get("sandbox_tier", [])) or "unknown",
        "machine": config.get("machine", "unknown"),
        "versions": ", ".join(f"{k} {packages[k]}" for k in ("jax", "flax") if packages.get(k)),
        "stages finished": ", ".join(run.finished_stages()) or "none yet",
        "command": " ".join(config.get("command", [])),
    }


def _facts(run: run_dir.RunDir) -> str:
    facts = list_facts(run).items()
    return "".join(
        f"<dt>{markup.escape(key)}</dt><dd>{markup.escape(value)}</dd>" for key, value in facts
    )


def _config(config: Mapping[str, Any]) -> str:
    changed = config.get("changes", {})
    rows = [
        (
            f"{key}{' *' if key in changed else ''}",
            json.dumps(value),
            format_file_value(changed.get(key)),
        )
        for key, value in run_dir.flatten(config["experiment"]).items()
    ]
    return markup.table(("setting (* changed on the command line)", "value", "in the file"), rows)


def format_file_value(change: Sequence[Any] | None) -> str:
    """Format the experiment file's value of a (before, after) pair."""
    return json.dumps(change[0]) if change else ""
