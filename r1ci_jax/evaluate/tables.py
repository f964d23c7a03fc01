"""Build tables from results.jsonl: accuracy per model and task, and ours next to the paper's.

An accuracy of a model is the mean over tasks of the accuracy on each task, as in the paper, so a
task with more questions does not weigh more.
"""

import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import rich.box
import rich.console
import rich.table
import rich.text

from r1ci_jax import renamed
from r1ci_jax.config import ARM_PREFIX, BASE_MODELS
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, metrics, run_dir

PAPER_AGENT = "code_agent"
"""The paper's results use this agent: the model itself chooses between text and code."""

RESULT_KEY = ("model", "agent", "task")
"""Keys that identify a record of results.jsonl."""

MAX_TASK_COLUMNS = 8
"""Most tasks that get a column each; more get a table with a line per task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One line of results.jsonl: one model with one agent on one task."""

    model: str
    agent: str
    """code_agent, all_text, all_code or codesteer."""
    task: str
    n: int
    """Number of scored trajectories."""
    correct: int
    suite: str = ""
    split: str = "test"
    """train or test."""
    stops: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of trajectories by stop reason."""
    code_calls_per_trajectory: float | None = None
    used_code_fraction: float | None = None
    difficulty: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def percent(self) -> float:
        """Return the accuracy in percent."""
        return 100 * self.correct / self.n


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResults:
    """Results of one run, and the paper's group that they are compared with."""

    path: Path
    name: str
    paper_row: str
    recipe: str
    """Config without name and seed, as text; runs with the same one are repetitions."""
    results: tuple[Result, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """One number of the paper, which may be unknown."""

    row: str
    """3b, 7b, 14b or a baseline."""
    model: str
    """Our model that it is compared with, else the baseline's name."""
    value: float | None
    """Percent unless `unit` is set; None: no source has it."""
    location: str
    """Table, figure or section of the paper."""
    grade: str = ""
    """A is two independent notes or a primary source, B one detailed note, C weak or derived."""
    source: str = ""
    """Keys of SOURCES in experiments/paper_numbers.py."""
    suite: str = "all"
    split: str = "test"
    unit: str = "%"
    note: str = ""

    @property
    def missing(self) -> bool:
        """Return True if the number is in the paper but we have no source for it."""
        return self.value is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A finished table has cells to show, and records with the same facts as plain values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[dict[str, Any], ...]
    note: str = ""


def read_run(path: Path) -> RunResults:
    """Read the results of a run directory; the last of several records of a key counts.

    Raises:
        UserError: There are no results, or an earlier version wrote them.
    """
    run = run_dir.RunDir.view(path)
    # A task whose every trajectory lost its interpreter has no accuracy.
    records = [record for record in metrics.read(run.results_path) if record.get("n") != 0]
    if not records:
        raise UserError(f"{path} has no results yet: finish it with r1ci run or r1ci eval")
    latest = {tuple(record.get(key) for key in RESULT_KEY): record for record in records}
    results = [_parse_result(run.results_path, record) for record in latest.values()]
    config = run.config["experiment"]
    order = {model: index for index, model in enumerate(list_models(config))}
    results.sort(key=lambda result: order.get(result.model, len(order)))
    recipe = {key: value for key, value in config.items() if key not in ("name", "seed")}
    return RunResults(
        path=path,
        name=config["name"],
        paper_row=config.get("paper_row", ""),
        recipe=json.dumps(recipe, sort_keys=True),
        results=tuple(results),
    )


def _parse_result(path: Path, record: Mapping[str, Any]) -> Result:
    for old, new in renamed.RESULT_KEYS.items():
        if old in record:
            advice = f"write the new key into every record of {path}, or repeat the evaluation"
            raise UserError(renamed.explain(f'"{old}"', f'"{new}"', advice))
    known = {field.name for field in dataclasses.fields(Result)}
    try:
        result = Result(**{key: value for key, value in record.items() if key in known})
    except TypeError as error:
        raise UserError(f"{path}: a record lacks keys ({error}); repeat the evaluation") from None
    if not 0 <= result.correct <= result.n:
        raise UserError(
            f"{path}: {result.correct} of {result.n} correct cannot be; repeat the evaluation"
        )
    return result


def build_results_table(run: RunResults) -> Table:
    """Build a line per model and agent: mean over tasks, use of code, and a column per task."""
    tasks = list(dict.fromkeys(result.task for result in run.results))
    shown = tasks if len(tasks) <= MAX_TASK_COLUMNS else []
    agents = len({result.agent for result in run.results}) > 1
    splits = len({result.split for result in run.results}) > 1
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for (model, agent, split), results in _group_by_model_and_split(run.results).items():
        by_task = {result.task: result for result in results}
        mean, error = mean_over_tasks(results)
        code = _weighted_mean(results, "used_code_fraction")
        calls = _weighted_mean(results, "code_calls_per_trajectory")
        rows.append(
            (
                model_name(model),
                *((agent,) if agents else ()),
                *((f"{split} tasks",) if splits else ()),
                f"{mean:.1f} ± {error:.1f}",
                "-" if code is None else f"{100 * code:.0f}",
                "-" if calls is None else f"{calls:.2f}",
                *(f"{by_task[task].percent:.1f}" if task in by_task else "-" for task in shown),
            )
        )
        records.append(
            {
                "model": model,
                "agent": agent,
                "split": split,
                "tasks": len(results),
                "questions": sum(result.n for result in results),
                "accuracy": round(mean / 100, 6),
                "standard_error": round(error / 100, 6),
                "used_code_fraction": code,
                "code_calls_per_trajectory": calls,
                "per_task": {result.task: result.correct / result.n for result in results},
            }
        )
    return Table(
        title=f"{run.name}: held-out accuracy, %",
        columns=(
            "model",
            *(("agent",) if agents else ()),
            *(("of",) if splits else ()),
            "mean",
            "uses code",
            "calls",
            *shown,
        ),
        rows=tuple(rows),
        records=tuple(records),
        note=f"Mean over {len(tasks)} tasks ± standard error of sampling; uses code: % of "
        "trajectories with a code call; calls: code calls per trajectory.",
    )


def build_tasks_table(run: RunResults) -> Table:
    """Build a line per task, with a column per model and agent."""
    columns = _group_by_model(run.results)
    cells = {key: {result.task: result for result in results} for key, results in columns.items()}
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for task in dict.fromkeys(result.task for result in run.results):
        found = {key: by_task.get(task) for key, by_task in cells.items()}
        rows.append((task, *("-" if r is None else f"{r.percent:.1f}" for r in found.values())))
        records.append({"task": task} | {"/".join(k): r and r.percent for k, r in found.items()})
    agents = len({agent for _, agent in columns}) > 1
    heads = (f"{model_name(m)} ({how})" if agents else model_name(m) for m, how in columns)
    return Table(
        title=f"{run.name}: held-out accuracy by task, %",
        columns=("task", *heads),
        rows=tuple(rows),
        records=tuple(records),
    )


def model_name(model: str) -> str:
    """Return the name of a model in tables: grpo_uniform is SFT + GRPO, uniform."""
    if model.startswith(ARM_PREFIX):
        return f"SFT + GRPO, {model.removeprefix(ARM_PREFIX).replace('_', ' ')}"
    return "SFT" if model == "sft" else model


def list_models(experiment: Mapping[str, Any]) -> list[str]:
    """List the models of an experiment as config.json holds it, in the order of training."""
    return [*BASE_MODELS, *(arm["name"] for arm in experiment.get("arms", ()))]


def mean_over_tasks(results: Sequence[Result]) -> tuple[float, float]:
    """Compute mean accuracy over tasks in percent, and its standard error of sampling."""
    mean = statistics.fmean(result.percent for result in results)
    variance = sum(r.percent * (100 - r.percent) / r.n for r in results) / len(results) ** 2
    return mean, math.sqrt(variance)


def _group_by_model(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Group results by (model, agent), in the order of `RunResults.results`."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.model, result.agent), []).append(result)
    return found


def _group_by_model_and_split(
    results: Iterable[Result],
) -> dict[tuple[str, str, str], list[Result]]:
    """Group results so that tasks trained on and tasks never seen are averaged apart."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for (model, agent), members in _group_by_model(results).items():
        for result in members:
            found.setdefault((model, agent, result.split), []).append(result)
    return found


def _weighted_mean(results: Sequence[Result], field: str) -> float | None:
    """Average a metric over all trajectories; return None if a task lacks it."""
    values = [getattr(result, field) for result in results]
    if any(value is None for value in values):
        return None
    total = sum(result.n for result in results)
    return sum(value * result.n for value, result in zip(values, results, strict=True)) / total


def compare(title: str, runs: Sequence[RunResults], published: Sequence[Published]) -> Table:
    """Compare ours | paper | difference. Runs of one recipe are repetitions: mean ± spread.

    The spread is the sample standard deviation over the runs.
    """
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for group in _group_by_recipe(runs):
        for record in _compare_group(group, published):
            records.append(record)
            rows.append(_format_cells(record))
    paper_rows = {run.paper_row for run in runs if run.paper_row}
    if paper_rows:
        baselines = [entry for entry in published if entry.row == "baseline"]
        extra = [_paper_only_record(entry) for entry in baselines]
        records += extra
        rows += [_format_cells(record) for record in extra]
    alone = [run.path.name for run in runs if not run.paper_row]
    notes = [f"{', '.join(alone)}: no paper counterpart."] if alone else []
    if paper_rows:
        notes.append(
            "Letters: confidence in the paper's number (A, B, C), see experiments/paper_numbers.py."
        )
    return Table(
        title=title,
        columns=("run", "model", "split", "tasks", "ours", "paper", "difference"),
        rows=tuple(rows),
        records=tuple(records),
        note=" ".join(notes),
    )


def _group_by_recipe(runs: Sequence[RunResults]) -> list[list[RunResults]]:
    groups: dict[str, list[RunResults]] = {}
    for run in runs:
        groups.setdefault(run.recipe, []).append(run)
    return list(groups.values())


def _compare_group(
    group: Sequence[RunResults], published: Sequence[Published]
) -> Iterable[dict[str, Any]]:
    """Yield a record per model, agent, suite and split that our runs or the paper have."""
    row = group[0].paper_row
    known = {entry.row for entry in published}
    if row and row not in known:
        raise UserError(
            f"{group[0].path}: paper_row {row!r} is unknown; there are: {', '.join(sorted(known))}"
        )
    theirs = {
        (entry.model, PAPER_AGENT, entry.suite, entry.split): entry
        for entry in published
        if row and entry.row == row
    }
    ours = [_mean_per_cell(run) for run in group]
    keys = list(dict.fromkeys([*(key for means in ours for key in means), *theirs]))
    for key in keys:
        values = [means[key][0] for means in ours if key in means]
        entry = theirs.get(key)
        mine = statistics.fmean(values) if values else None
        paper = entry.value if entry else None
        model, agent, suite, split = key
        yield {
            "run": ", ".join(run.path.name for run in group),
            "model": model,
            "agent": agent,
            "suite": suite,
            "split": split,
            "tasks": max((means[key][1] for means in ours if key in means), default=0),
            "runs": len(values),
            "ours": mine,
            "spread": statistics.stdev(values) if len(values) > 1 else None,
            "paper": paper,
            "paper_status": "none" if entry is None else "missing" if entry.missing else "known",
            "grade": entry.grade if entry else "",
            "place": entry.location if entry else "",
            "difference": mine - paper if mine is not None and paper is not None else None,
        }


def _mean_per_cell(run: RunResults) -> dict[tuple[str, str, str, str], tuple[float, int]]:
    """Map (model, agent, suite, split) to the mean over tasks in percent and their number."""
    cells: dict[tuple[str, str, str, str], list[Result]] = {}
    for (model, agent), results in _group_by_model(run.results).items():
        for result in results:
            for suite in dict.fromkeys(("all", result.suite or "all")):
                cells.setdefault((model, agent, suite, result.split), []).append(result)
    return {key: (mean_over_tasks(results)[0], len(results)) for key, results in cells.items()}


def _paper_only_record(entry: Published) -> dict[str, Any]:
    return {
        "run": "",
        "model": entry.model,
        "agent": "",
        "suite": entry.suite,
        "split": entry.split,
        "tasks": 0,
        "runs": 0,
        "ours": None,
        "spread": None,
        "paper": entry.value,
        "paper_status": "missing" if entry.missing else "known",
        "grade": entry.grade,
        "place": entry.location,
        "difference": None,
    }


def _format_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    ours = "-" if record["ours"] is None else f"{record['ours']:.1f}"
    if record["spread"] is not None:
        ours += f" ± {record['spread']:.1f} ({record['runs']} runs)"
    paper = {"none": "-", "missing": "missing"}.get(record["paper_status"])
    agent = record["agent"]
    named = model_name(record["model"])
    where = record["split"] if record["suite"] == "all" else f"{record['suite']} {record['split']}"
    return (
        record["run"],
        named if agent in ("", PAPER_AGENT) else f"{named} ({agent})",
        where,
        str(record["tasks"] or "-"),
        ours,
        paper or f"{record['paper']:.1f} {record['grade']}",
        "-" if record["difference"] is None else f"{record['difference']:+.1f}",
    )


def to_markdown(table: Table) -> str:
    """Render the table as Markdown, with its title and note."""
    lines = [f"# {_escape(table.title)}", ""]
    lines.append("| " + " | ".join(_escape(column) for column in table.columns) + " |")
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in table.rows]
    if table.note:
        lines += ["", _escape(table.note)]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def write(table: Table, directory: Path, name: str) -> Path:
    """Write `directory/name.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.md"
    # Names may hold half characters, which no UTF-8 file can.
    text = to_markdown(table).encode("utf-8", "backslashreplace")
    atomic_files.write_atomic(path, text)
    return path


def write_results(path: Path) -> Table:
    """Write tables/results.md and tables/tasks.md of a run directory; return the first."""
    run = read_run(path)
    folder = run_dir.RunDir.view(path).tables
    table = build_results_table(run)
    write(table, folder, "results")
    write(build_tasks_table(run), folder, "tasks")
    return table


_NUMBER_STARTS = tuple("+-0123456789")


def show(table: Table, stream: TextIO | None = None) -> None:
    """Print a table for people, to stdout unless `stream` is given."""
    console = rich.console.Console(file=stream or sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    view = rich.table.Table(
        title=rich.text.Text(table.title), box=rich.box.SIMPLE_HEAD, title_justify="left"
    )
    for index, column in enumerate(table.columns):
        is_number = any(row[index][:1] in _NUMBER_STARTS for row in table.rows)
        view.add_column(rich.text.Text(column), justify="right" if is_number else "left")
    for row in table.rows:
        view.add_row(*(rich.text.Text(cell) for cell in row))
    console.print(view)
    if table.note:
        console.print(rich.text.Text(table.note))
