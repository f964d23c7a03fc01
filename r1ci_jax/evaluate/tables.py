"""Build tables from results.jsonl: accuracy per model and task, and ours next to the paper's.

An accuracy of a model is the mean over tasks of the accuracy on each task, as in the paper, so a
task with more questions does not weigh more.
"""

import dataclasses
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import rich.box
import rich.console
import rich.table
import rich.text

from r1ci_jax.errors import UserError
from r1ci_jax.evaluate.results import (
    Result,
    RunResults,
    group_by_model,
    group_by_model_and_split,
    list_models,
    mean_majority,
    mean_over_tasks,
    model_name,
    read_run,
    weighted_mean,
)
from r1ci_jax.runtime import atomic_files, run_dir

__all__ = ["Published", "Result", "RunResults", "Table", "list_models", "model_name", "read_run"]

PAPER_AGENT = "code_agent"
"""The paper's results use this agent: the model itself chooses between text and code."""

NOT_COMPARABLE = "not comparable"
"""Cell in place of a difference between means over different tasks."""

CONSTANT_ANSWER = "constant answer"
"""Name of the line or column of majority shares."""

MAX_TASK_COLUMNS = 8
"""Most tasks that get a column each; more get a table with a line per task."""


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
    tasks: frozenset[str] | None = None
    """Tasks that our mean must be over to be compared; None: not known, nothing is compared."""
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


def build_results_table(run: RunResults) -> Table:
    """Build a line per model and agent: mean over tasks, use of code, and a column per task."""
    tasks = list(dict.fromkeys(result.task for result in run.results))
    shown = tasks if len(tasks) <= MAX_TASK_COLUMNS else []
    has_agents = len({result.agent for result in run.results}) > 1
    groups = group_by_model_and_split(run.results)
    splits = {split: _tasks_of_split(run, split) for _, _, split in groups}
    has_splits = len(splits) > 1
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for (model, agent, split), results in groups.items():
        record = _summarize(model, agent, split, results)
        records.append(record)
        code, calls = record["used_code_fraction"], record["code_calls_per_trajectory"]
        estimate, by_task = mean_over_tasks(results), {result.task: result for result in results}
        rows.append(
            (
                model_name(model),
                *((agent,) if has_agents else ()),
                *((f"{split} tasks",) if has_splits else ()),
                f"{estimate.mean:.1f}" + ("*" if len(results) < len(splits[split]) else ""),
                estimate.interval,
                str(record["void"]),
                "-" if code is None else f"{100 * code:.0f}",
                "-" if calls is None else f"{calls:.2f}",
                *(f"{by_task[task].percent:.1f}" if task in by_task else "-" for task in shown),
            )
        )
    for split, known in splits.items():
        if (mean := mean_majority(known.values())) is not None:
            rows.append(
                (
                    CONSTANT_ANSWER,
                    *(("-",) if has_agents else ()),
                    *((f"{split} tasks",) if has_splits else ()),
                    f"{mean:.1f}",
                    *("-",) * 4,
                    *(_format_majority(known.get(task)) for task in shown),
                )
            )
    return Table(
        title=f"{run.name}: held-out accuracy, %",
        columns=(
            "model",
            *(("agent",) if has_agents else ()),
            *(("of",) if has_splits else ()),
            "mean",
            "95 % interval",
            "void",
            "uses code",
            "calls",
            *shown,
        ),
        rows=tuple(rows),
        records=tuple(records),
        note=_results_note(run, len(tasks), any("*" in cell for row in rows for cell in row)),
    )


def _summarize(model: str, agent: str, split: str, results: Sequence[Result]) -> dict[str, Any]:
    """Make the record of one model and agent on the tasks of one split."""
    estimate, majority = mean_over_tasks(results), mean_majority(results)
    return {
        "model": model,
        "agent": agent,
        "split": split,
        "tasks": len(results),
        "questions": sum(result.n for result in results),
        "void": sum(result.void for result in results),
        "accuracy": round(estimate.mean / 100, 6),
        "standard_error": round(estimate.standard_error / 100, 6),
        "interval": [round(estimate.low / 100, 6), round(estimate.high / 100, 6)],
        "constant_answer": None if majority is None else round(majority / 100, 6),
        "used_code_fraction": weighted_mean(results, "used_code_fraction"),
        "code_calls_per_trajectory": weighted_mean(results, "code_calls_per_trajectory"),
        "per_task": {result.task: result.correct / result.n for result in results},
        "per_task_constant_answer": {result.task: result.majority for result in results},
    }


def _tasks_of_split(run: RunResults, split: str) -> dict[str, Result]:
    """Return one result of each task of a split: all of a task have the same questions."""
    return {result.task: result for result in run.results if result.part == split}


def _results_note(run: RunResults, num_tasks: int, has_marks: bool) -> str:
    sentences = [
        f"Mean over {num_tasks} tasks, with its interval (answers to one question count as "
        "dependent); void: trajectories whose interpreter failed, left out; uses code: % of "
        "trajectories with a code call; calls: code calls per trajectory."
    ]
    if any(result.majority is not None for result in run.results):
        sentences.append(
            f"{CONSTANT_ANSWER.capitalize()}: what the most common gold scores on every question."
        )
    if has_marks:
        sentences.append("*: over fewer tasks than others of this table, so not comparable.")
    return " ".join([*sentences, run.note]).strip()


def _format_majority(result: Result | None) -> str:
    return "-" if result is None or result.majority is None else f"{100 * result.majority:.1f}"


def build_tasks_table(run: RunResults) -> Table:
    """Build a line per task, with a column per model and agent, and one of constant answers."""
    columns = group_by_model(run.results)
    cells = {key: {result.task: result for result in results} for key, results in columns.items()}
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    any_result = {result.task: result for result in run.results}
    for task in dict.fromkeys(result.task for result in run.results):
        found = {key: by_task.get(task) for key, by_task in cells.items()}
        rows.append(
            (
                task,
                *("-" if r is None else str(mean_over_tasks([r])) for r in found.values()),
                _format_majority(any_result[task]),
            )
        )
        records.append(
            {"task": task, CONSTANT_ANSWER: any_result[task].majority}
            | {"/".join(key): each and each.percent for key, each in found.items()}
        )
    agents = len({agent for _, agent in columns}) > 1
    heads = (f"{model_name(m)} ({how})" if agents else model_name(m) for m, how in columns)
    return Table(
        title=f"{run.name}: held-out accuracy by task, % (95 % interval)",
        columns=("task", *heads, CONSTANT_ANSWER),
        rows=tuple(rows),
        records=tuple(records),
        note=run.note,
    )


def compare(title: str, runs: Sequence[RunResults], published: Sequence[Published]) -> Table:
    """Compare ours | paper | difference. Of repetitions: mean ± spread.

    The spread is the sample standard deviation over the runs.
    """
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for group in group_repetitions(runs):
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
    if any(record["comparable"] is False for record in records):
        notes.append(f"{NOT_COMPARABLE}: ours is not the mean over all tasks of the paper's.")
    notes += [record["note"] for record in records if record["note"]]
    notes += [run.note for run in runs if run.note]
    return Table(
        title=title,
        columns=(
            "run",
            "model",
            "split",
            "tasks",
            "ours",
            "void",
            CONSTANT_ANSWER,
            "paper",
            "difference",
        ),
        rows=tuple(rows),
        records=tuple(records),
        note=" ".join(notes),
    )


def group_repetitions(runs: Sequence[RunResults]) -> list[list[RunResults]]:
    """Group runs that differ by name and seeds only; some may have more arms than others."""
    groups: list[list[RunResults]] = []
    for run in runs:
        for group in groups:
            if all(run.repeats(other) for other in group):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


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
    ours = [_results_per_cell(run) for run in group]
    keys = list(dict.fromkeys([*(key for cells in ours for key in cells), *theirs]))
    for key in keys:
        yield _compare_cell(
            key,
            ", ".join(run.path.name for run in group),
            [cells[key] for cells in ours if key in cells],
            theirs.get(key),
        )


type _Cell = tuple[str, str, str, str]
"""Model, agent, suite and split."""


def _compare_cell(
    key: _Cell, run: str, ours: Sequence[Mapping[str, Result]], entry: Published | None
) -> dict[str, Any]:
    """Make the record of one cell, from the results of each run by task."""
    # Repetitions are averaged over the tasks that all of them have.
    tasks = [task for task in ours[0] if all(task in each for each in ours)] if ours else []
    means = [mean_over_tasks([each[task] for task in tasks]) for each in ours if tasks]
    mine = statistics.fmean(mean.mean for mean in means) if means else None
    comparable, difference = None, None
    if mine is not None and entry is not None and entry.value is not None:
        comparable = entry.tasks == set(tasks)
        difference = mine - entry.value if comparable else None
    model, agent, suite, split = key
    return {
        "run": run,
        "model": model,
        "agent": agent,
        "suite": suite,
        "split": split,
        "tasks": len(tasks),
        "tasks_of_paper": len(entry.tasks) if entry and entry.tasks else None,
        "runs": len(means),
        "ours": mine,
        "interval": [means[0].low, means[0].high] if len(means) == 1 else None,
        "spread": statistics.stdev(mean.mean for mean in means) if len(means) > 1 else None,
        "void": sum(result.void for each in ours for result in each.values()),
        "constant_answer": mean_majority(ours[0][task] for task in tasks) if tasks else None,
        "paper": entry.value if entry else None,
        "paper_status": "none" if entry is None else "missing" if entry.missing else "known",
        "grade": entry.grade if entry else "",
        "place": entry.location if entry else "",
        "note": _note_on(entry),
        "comparable": comparable,
        "difference": difference,
    }


def _note_on(entry: Published | None) -> str:
    """Say what is known of a number of the paper beyond its value."""
    if entry is None or entry.missing or not entry.note:
        return ""
    return f"{model_name(entry.model)} {entry.value}: {entry.note}."


def _results_per_cell(run: RunResults) -> dict[_Cell, dict[str, Result]]:
    """Map each cell to its results by task; a task counts for its suite and for all."""
    cells: dict[_Cell, dict[str, Result]] = {}
    for (model, agent), results in group_by_model(run.results).items():
        for result in results:
            for suite in dict.fromkeys(("all", result.suite or "all")):
                cells.setdefault((model, agent, suite, result.part), {})[result.task] = result
    return cells


def _paper_only_record(entry: Published) -> dict[str, Any]:
    return _compare_cell((entry.model, "", entry.suite, entry.split), "", [], entry)


def _format_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    ours = "-" if record["ours"] is None else f"{record['ours']:.1f}"
    if record["interval"] is not None:
        low, high = record["interval"]
        ours += f" ({low:.1f} to {high:.1f})"
    if record["spread"] is not None:
        ours += f" ± {record['spread']:.1f} ({record['runs']} runs)"
    paper = {"none": "-", "missing": "missing"}.get(record["paper_status"])
    agent, majority = record["agent"], record["constant_answer"]
    named = model_name(record["model"])
    where = record["split"] if record["suite"] == "all" else f"{record['suite']} {record['split']}"
    tasks = str(record["tasks"] or "-")
    if record["comparable"] is False:
        tasks += f" of {record['tasks_of_paper'] or '?'}"
    return (
        record["run"],
        named if agent in ("", PAPER_AGENT) else f"{named} ({agent})",
        where,
        tasks,
        ours,
        str(record["void"]) if record["tasks"] else "-",
        "-" if majority is None else f"{majority:.1f}",
        paper or f"{record['paper']:.1f} {record['grade']}",
        _format_difference(record),
    )


def _format_difference(record: Mapping[str, Any]) -> str:
    if record["comparable"] is False:
        return NOT_COMPARABLE
    return "-" if record["difference"] is None else f"{record['difference']:+.1f}"


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
