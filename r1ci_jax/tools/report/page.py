"""Render report.html: one static file with a run's settings, curves, results and trajectories.

Trajectories are hostile text: everything is escaped, the page carries a content policy that allows
its own script only, and that script inserts data as text, never as HTML.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import string
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r1ci_jax.config import PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime import atomic_files, metrics, run_dir
from r1ci_jax.runtime.metrics import Record
from r1ci_jax.runtime.progress import format_duration
from r1ci_jax.tools.report import batch_parts, readable_text
from r1ci_jax.tools.report.charts import Mark, Series, draw_line_chart

MAX_TRAJECTORIES = 400
"""Trajectories in one page; of more, an even sample over the run."""
MAX_CELL = 2_000
"""Characters of one table cell."""


class Chart(NamedTuple):
    """A figure of the page: one line per training."""

    title: str
    stage: str
    """Beginning of the stage's name."""
    metric: str
    percent: bool = False
    """True for a fraction shown in percent."""
    expected: str = ""
    """Metric drawn beside it as a dashed line."""


CHARTS = (
    Chart("SFT: loss on sampled tokens", "sft", "optim/loss"),
    Chart("GRPO: mean reward", "grpo", "reward/mean"),
    Chart("GRPO: accuracy on training questions", "grpo", "accuracy", percent=True),
    Chart(
        "GRPO: groups with signal; dashed: expected of pass rates",
        "grpo",
        "group/signal_fraction",
        percent=True,
        expected="group/expected_signal_fraction",
    ),
    Chart("GRPO: code calls per trajectory", "grpo", "tool/calls_per_traj"),
    Chart("GRPO: code calls that failed", "grpo", "tool/error_rate", percent=True),
    Chart("GRPO: trajectories with a self-check", "grpo", "tool/self_check_rate", percent=True),
    Chart("GRPO: trajectories that end with an answer", "grpo", "stop/answer", percent=True),
    Chart("GRPO: tokens per trajectory", "grpo", "len/tokens"),
    Chart("GRPO: KL to the SFT model", "grpo", "optim/kl"),
    Chart("GRPO: gradient norm", "grpo", "optim/grad_norm"),
    Chart(
        "GRPO: sampler against trainer, log-probability difference",
        "grpo",
        "check/sampler_trainer_logprob_diff",
    ),
)

NUM_COLORS = 5
"""Colors of the page's palette; models take them in turn."""


def write(path: Path) -> Path:
    """Write report.html of a run directory, finished or not; returns its path."""
    run = run_dir.RunDir.view(path)
    atomic_files.write_atomic(run.report_path, render_page(run))
    return run.report_path


def render_page(run: run_dir.RunDir) -> str:
    """Render the full page as text."""
    experiment = run.config["experiment"]
    models = tables.list_models(experiment)
    colors = {model: index % NUM_COLORS for index, model in enumerate(models)}
    records = metrics.read(run.metrics_path, required={"stage": str, "step": int})
    results = tables.read_run(run.path) if _has_results(run) else None
    logged = metrics.read(run.trajectories_path)
    shown = [
        readable_text.shorten_record(record) for record in sample_evenly(logged, MAX_TRAJECTORIES)
    ]
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    text = string.Template(_resource("report.html")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=_resource("report.css"),
        script=script,
        title=_e(experiment["name"]),
        facts=_facts(run),
        config=_config(run.config),
        results=_results(results, colors),
        curves=_curves(records, experiment, colors),
        parts=_parts(run.diagnostics_path),
        curriculum=_curriculum(
            metrics.read(run.potential_path, required=potential.RECORD_FIELDS),
            _grouping(experiment["potential"]),
        ),
        stops=_stops(results),
        times=_times(records),
        count=f"{len(shown)} of {len(logged)} logged",
        data=encode_script_json(shown),
    )
    # Interpreter output may hold lone surrogates, which no UTF-8 file can.
    return text.encode("utf-8", "replace").decode("utf-8")


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


def _has_results(run: run_dir.RunDir) -> bool:
    return any(record.get("n") for record in metrics.read(run.results_path))


def _resource(name: str) -> str:
    return importlib.resources.files("r1ci_jax.tools.report").joinpath(name).read_text("utf-8")


def _facts(run: run_dir.RunDir) -> str:
    config = run.config
    revision = config.get("git_revision")
    changed = " with local changes" if config.get("git_changes") else ""
    packages = config.get("packages", {})
    facts = {
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(config.get("created", 0))),
        "revision": f"{revision[:12]}{changed}" if revision else "unknown",
        "devices": ", ".join(config.get("devices", [])) or "unknown",
        "sandbox": ", ".join(config.get("sandbox_tier", [])) or "unknown",
        "machine": config.get("machine", "unknown"),
        "versions": ", ".join(f"{k} {packages[k]}" for k in ("jax", "flax") if packages.get(k)),
        "stages finished": ", ".join(run.finished_stages()) or "none yet",
        "command": " ".join(config.get("command", [])),
    }
    return "".join(f"<dt>{_e(key)}</dt><dd>{_e(value)}</dd>" for key, value in facts.items())


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
    return _table(("setting (* changed on the command line)", "value", "in the file"), rows)


def format_file_value(change: Sequence[Any] | None) -> str:
    """Format the experiment file's value of a (before, after) pair."""
    return json.dumps(change[0]) if change else ""


def _results(results: tables.RunResults | None, colors: Mapping[str, int]) -> str:
    if results is None:
        return "<p>No results yet.</p>"
    main, by_task = tables.build_results_table(results), tables.build_tasks_table(results)
    bars = "".join(
        f'<div class="bar"><span>{_e(tables.model_name(record["model"]))}'
        f'{_agent_suffix(record["agent"])}</span><i style="width:{60 * record["accuracy"]:.2f}%" '
        f'class="s{colors.get(record["model"], NUM_COLORS - 1)}"></i>'
        f"<b>{100 * record['accuracy']:.1f} %</b></div>"
        for record in main.records
    )
    return (
        f"{bars}{_table(main.columns, main.rows)}<p>{_e(main.note)}</p>"
        f"<details><summary>By task</summary>{_table(by_task.columns, by_task.rows)}</details>"
        f"{_difficulty(results)}"
    )


def _agent_suffix(agent: str) -> str:
    return "" if agent == tables.PAPER_AGENT else _e(f" ({agent})")


def _difficulty(results: tables.RunResults) -> str:
    """Render accuracy by difficulty level over all tasks; nothing when the records have none."""
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results.results:
        if result.agent == tables.PAPER_AGENT:
            for level, counts in result.difficulty.items():
                sums[result.model, level].update(n=counts["n"], correct=counts["correct"])
    levels = sorted({level for _, level in sums}, key=lambda level: (len(level), level))
    if not levels:
        return ""
    rows = []
    for model in dict.fromkeys(model for model, _ in sums):
        cells = (sums[model, level] for level in levels)
        fractions = (f"{100 * c['correct'] / c['n']:.1f}" if c["n"] else "-" for c in cells)
        rows.append((tables.model_name(model), *fractions))
    heads = ("model", *(f"level {level}" for level in levels))
    return f"<details><summary>By difficulty</summary>{_table(heads, rows)}</details>"


def _curves(
    records: Sequence[Record], experiment: Mapping[str, Any], colors: Mapping[str, int]
) -> str:
    marks = _stage_marks(records, experiment)
    figures = [
        draw_line_chart(
            chart.title,
            [
                *_series(records, chart.stage, chart.metric, colors),
                *_series(records, chart.stage, chart.expected, colors, is_dashed=True),
            ],
            marks=marks if chart.stage == "grpo" else (),
            percent=chart.percent,
        )
        for chart in CHARTS
    ]
    return "".join(figures) or "<p>No steps logged yet.</p>"


def _series(
    records: Sequence[Record],
    stage: str,
    metric: str,
    colors: Mapping[str, int],
    *,
    is_dashed: bool = False,
) -> list[Series]:
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record["stage"].startswith(stage) and record.get(metric) is not None:
            found.setdefault(record["stage"], []).append((record["step"], record[metric]))
    return [
        Series(
            name=tables.model_name(name) + ", expected" * is_dashed,
            color=colors.get(name, NUM_COLORS - 1),
            points=tuple(sorted(points)),
            is_dashed=is_dashed,
        )
        for name, points in found.items()
    ]


def _stage_marks(records: Sequence[Record], experiment: Mapping[str, Any]) -> list[Mark]:
    """Mark the first step of each curriculum stage, for arms that have a curriculum."""
    arms = {arm["name"] for arm in experiment.get("arms", ()) if arm["order"] != "uniform"}
    first: dict[int, float] = {}
    for record in records:
        number = record.get("curriculum/stage")
        if record["stage"] in arms and number is not None:
            first[int(number)] = min(record["step"], first.get(int(number), record["step"]))
    return [Mark(x=step, label=f"stage {number}") for number, step in sorted(first.items())]


def _parts(path: Path) -> str:
    """Render what the last steps of each training were like, by kind of part."""
    return "".join(
        f"<details><summary>By {_e(kind.replace('_', ' '))}, last {batch_parts.STEPS} steps"
        f"</summary>{_table(batch_parts.HEADERS, rows)}</details>"
        for kind, rows in batch_parts.read_tables(path, tables.model_name).items()
    )


def _grouping(settings: Mapping[str, Any]) -> PotentialConfig:
    """Return those settings that decide on groups; an earlier version's lack some others."""
    return PotentialConfig(
        lower_bounds=tuple(settings["lower_bounds"]),
        chance_corrected=settings.get("chance_corrected", False),
    )


def _curriculum(records: Sequence[Record], config: PotentialConfig) -> str:
    if not records:
        return "<p>No potential measured yet.</p>"
    groups = sorted({record["group"] for record in records})
    sizes = Counter(record["group"] for record in records)
    by_task: dict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        by_task[record["task"]][record["group"]] += 1
    bars = "".join(
        f'<div class="bar"><span>group {_e(group)}</span>'
        f'<i style="width:{60 * sizes[group] / len(records):.2f}%" class="s3"></i>'
        f"<b>{sizes[group]} questions</b></div>"
        for group in groups
    )
    headers = ("task", *(f"group {group}" for group in groups), "mean p", "mean potential")
    body = [
        (
            task,
            *(str(counts[group]) for group in groups),
            *(
                _mean(record[key] for record in records if record["task"] == task)
                for key in ("p", "potential")
            ),
        )
        for task, counts in by_task.items()
    ]
    return (
        "<p>Potential 4p(1-p) of a question, p its fraction of correct answers by the SFT model. "
        f"Stage s trains on groups 1 to s.</p>{bars}{_uncertainty(records, config)}"
        f"{_table(headers, body)}"
    )


def _uncertainty(records: Sequence[Record], config: PotentialConfig) -> str:
    """Show how far few answers decide on p and the group; nothing for records without intervals."""
    rows = []
    for group in sorted({record["group"] for record in records}):
        members = [r for r in records if r["group"] == group and {"p_low", "p_high"} <= r.keys()]
        if not members:
            continue
        spans = [
            potential.possible_groups(
                record["p_low"], record["p_high"], config, chance=record.get("chance", 0.0)
            )
            for record in members
        ]
        rows.append(
            (
                f"group {group}",
                str(len(members)),
                *(_mean(record[key] for record in members) for key in ("p", "p_low", "p_high")),
                str(sum(first < last for first, last in spans)),
            )
        )
    if not rows:
        return ""
    heads = ("group", "questions", "mean p", "mean low", "mean high", "may be of another group")
    return (
        "<p>The 95 % interval of p (Wilson's, from a question's answers): mean ends by group, and "
        f"the questions whose interval reaches into another group.</p>{_table(heads, rows)}"
    )


def _mean(values: Iterable[float]) -> str:
    numbers = list(values)
    return f"{sum(numbers) / len(numbers):.2f}"


def _stops(results: tables.RunResults | None) -> str:
    if results is None:
        return "<p>No results yet.</p>"
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results.results:
        sums[result.model, result.agent].update(result.stops)
    reasons = list(dict.fromkeys(reason for counts in sums.values() for reason in counts))
    body = [
        (
            tables.model_name(model),
            agent,
            *(f"{100 * counts[reason] / max(1, counts.total()):.1f}" for reason in reasons),
        )
        for (model, agent), counts in sums.items()
    ]
    return _table(("model", "agent", *(f"{reason}, %" for reason in reasons)), body)


def _times(records: Sequence[Record]) -> str:
    """Sum the logged seconds by stage and kind."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        spent = {k: v for k, v in record.items() if k.startswith("time/") and v is not None}
        sums[record["stage"]].update(spent)
    kinds = list(dict.fromkeys(kind for counts in sums.values() for kind in counts))
    if not kinds:
        return "<p>No times logged yet.</p>"
    body = [
        (stage, *(format_duration(counts[kind]) if kind in counts else "-" for kind in kinds))
        for stage, counts in sums.items()
    ]
    return _table(("stage", *(kind.removeprefix("time/") for kind in kinds)), body)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    header_row = "".join(f"<th>{_e(text)}</th>" for text in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{_e(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{header_row}</tr>{body}</table></div>'


def _e(text: object) -> str:
    return html.escape(readable_text.make_readable(str(text), MAX_CELL), quote=True)
