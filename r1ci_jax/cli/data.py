"""The command `r1ci data`: datasets of a run."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.cli import import_conversations
from r1ci_jax.config import Experiment
from r1ci_jax.data import (
    build,
    datasets,
    demonstration_stats,
    question_splits,
    question_workers,
    stats,
)
from r1ci_jax.data.scripted import coverage
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import progress, run_dir
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.tasks import published_files
from r1ci_jax.tasks.bbh import bbh_tasks
from r1ci_jax.tasks.math import math_tasks
from r1ci_jax.tasks.ood import ood_tasks
from r1ci_jax.text import tokenizer as tokenizers


def add_commands(subparsers: Any) -> None:
    """Add `data` and its subcommands."""
    parser = subparsers.add_parser("data", help="datasets: build, fetch, import, stats")
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND")

    build_parser = commands.add_parser(
        "build", help="questions and demonstrations of an experiment, as its run would make them"
    )
    build_parser.add_argument("experiment", metavar="EXP", help="experiments/file.py[:variant]")
    build_parser.add_argument("--workdir", type=Path, help="run directory (default runs/NAME)")
    build_parser.add_argument(
        "--questions-only", action="store_true", help="no demonstrations, no sandbox"
    )
    build_parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that generate questions (default: one per core, but none for fewer than "
        f"{question_workers.TASKS_PER_PROCESS} tasks); the datasets are the same for any number",
    )
    build_parser.set_defaults(run=_build, takes_overrides=True)

    fetch = commands.add_parser(
        "fetch", help="published questions: BIG-Bench-Hard, GSM-Hard, MATH, from the network"
    )
    fetch.add_argument(
        "--data-dir",
        type=Path,
        help=f"where to (default ${published_files.VARIABLE}, else the cache)",
    )
    fetch.add_argument(
        "--ood",
        action="store_true",
        help="also AIME 2024 and 2025, and GPQA Diamond, whose conditions you accept on the hub",
    )
    fetch.set_defaults(run=_fetch)

    show = commands.add_parser("stats", help="counts, lengths, duplicates, commonest answers")
    show.add_argument("where", metavar="RUN", type=Path, help="run directory, or its data/")
    show.add_argument(
        "--tokenizer",
        metavar="DIR_OR_HUB_ID",
        help="count tokens with this one (default: the experiment's)",
    )
    show.add_argument(
        "--teachers",
        action="store_true",
        help="Markdown: what each scripted teacher has, and what came of it here: docs/teachers.md",
    )
    show.set_defaults(run=_stats)

    import_conversations.add_command(commands)

    for command in (build_parser, fetch, show):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _build(args: argparse.Namespace) -> int:
    experiment = experiments.load(args.experiment, args.overrides)
    names = experiment.dataset.tasks
    jobs = question_workers.num_processes(len(names), args.jobs)
    path = args.workdir or run_dir.default_path(experiment)
    if not args.questions_only:
        build.require_demonstrations(experiment)
    began = time.monotonic()
    with run_dir.RunDir.open(path, experiment):
        data_dir = path / "data"
        with Progress("questions", len(names), unit="tasks") as bar:
            by_task = build.build_questions(
                experiment, data_dir, jobs=jobs, report=lambda done, _: bar.update(done)
            )
        if not args.questions_only:
            _demonstrate(experiment, data_dir)
    seconds = round(time.monotonic() - began, 1)
    fewer = datasets.short_splits(data_dir, names)
    if args.json:
        facts = {"data_dir": str(data_dir), "seconds": seconds, "jobs": jobs}
        by_task = {name: round(taken, 2) for name, taken in by_task.items()}
        print(
            json.dumps(facts | {"tasks": len(names), "generation_seconds": by_task, "fewer": fewer})
        )
        return 0
    for name, splits in fewer.items():
        there = ", ".join(
            f"{split} {have} of {requested}" for split, (have, requested) in splits.items()
        )
        print(f"{name}: fewer questions than requested: {there}")
    print(f"{data_dir}: {len(names)} tasks built in {seconds} s; see r1ci data stats {path}")
    return 0


def _demonstrate(experiment: Experiment, data_dir: Path) -> None:
    if experiment.sandbox.unsafe:
        progress.warn(UNSAFE_WARNING)
    with Sandbox(experiment.sandbox) as sandbox, Progress("demonstrations") as bar:
        build.build_demonstrations(
            experiment,
            data_dir,
            sandbox,
            report=lambda done, total: _show(bar, done, total),
        )


def _show(bar: Progress, done: int, total: int) -> None:
    bar.total = total
    bar.update(done)


def _fetch(args: argparse.Namespace) -> int:
    folder = published_files.data_folder(args.data_dir)
    files = []
    for remote, fresh in published_files.fetch_all(bbh_tasks.remotes(), folder):
        files.append(remote.path)
        print(f"{remote.path}: {'downloaded' if fresh else 'there'}", file=sys.stderr)
    for name in math_tasks.NAMES:
        math_tasks.fetch(name, folder)
        files.append(f"symbench/{name}.jsonl")
        print(f"{files[-1]}: written", file=sys.stderr)
    for name in reversed(ood_tasks.NAMES) if args.ood else ():  # the gated one last
        ood_tasks.fetch(name, folder)
        files.append(ood_tasks.path(name))
        print(f"{files[-1]}: written", file=sys.stderr)
    print(
        json.dumps({"data_dir": str(folder), "files": files}) if args.json else f"{folder}: filled"
    )
    return 0


def _stats(args: argparse.Namespace) -> int:
    if args.teachers and args.json:
        raise UserError("--teachers prints a page of Markdown; leave --json out")
    data_dir = args.where / "data" if (args.where / "data").is_dir() else args.where
    names = datasets.task_names(data_dir)
    if not names:
        raise UserError(f"{args.where} holds no datasets; build them first (r1ci data build EXP)")
    tokenizer = args.tokenizer or _own_tokenizer(data_dir.parent)
    try:
        count = _counter(tokenizer) if tokenizer else None
    except UserError:
        if args.tokenizer:
            raise
        progress.warn(f"{tokenizer} cannot be reached: lengths are in characters")
        tokenizer = count = None
    if args.teachers:
        print(coverage.render_markdown(data_dir.parent / "demonstrations", count or len), end="")
        return 0
    rows, owners = [], stats.Owners()
    with Progress("stats", len(names), unit="tasks") as bar:
        for done, name in enumerate(names, start=1):
            splits = {
                s: list(datasets.load_examples(data_dir, [name], s)) for s in question_splits.SPLITS
            }
            requested = datasets.stored_metadata(data_dir, name)
            rows.append(stats.task_stats(name, splits, requested=requested, tokens=count))
            owners.add(splits)
            bar.update(done)
    written = datasets.is_built(data_dir, "r1ci_trajectories")
    kinds = stats.demonstration_counts(datasets.load_trajectories(data_dir)) if written else {}
    shown = (
        demonstration_stats.by_task(datasets.load_trajectories(data_dir), count or len)
        if written
        else []
    )
    if args.json:
        tasks = [dataclasses.asdict(row) for row in rows]
        facts = {"tasks": tasks, "in_two_splits": owners.shared(), "demonstrations": kinds}
        facts["demonstrations_by_task"] = [dataclasses.asdict(row) for row in shown]
        print(json.dumps(facts | {"tokenizer": tokenizer}))
    else:
        _print(rows, owners.shared(), kinds, tokenizer)
        _print_demonstrations(shown)
    return 0


def _own_tokenizer(run: Path) -> str | None:
    """Return the tokenizer of the run directory's experiment; None if there is none yet."""
    if not (run / "config.json").is_file():
        return None
    model = run_dir.RunDir.view(run).config["experiment"]["model"]
    trained = str(run / "tokenizer") if (run / "tokenizer").is_dir() else None
    return model["tokenizer"] or model["checkpoint"] or trained


def _counter(name: str) -> Callable[[str], int]:
    loaded_tokenizer = tokenizers.load(name)
    return lambda text: len(loaded_tokenizer.encode(text))


def _print(
    rows: list[stats.TaskStats], shared: int, kinds: dict[str, int], tokenizer: str | None
) -> None:
    unit = "tokens" if tokenizer else "chars"
    print(
        f"{'task':<36}{'sft':>6}{'grpo':>6}{'eval':>6}{unit:>9}{'max':>7}{'answers':>9}"
        f"{'commonest':>11}{'repeated':>10}"
    )
    for row in rows:
        counts = "".join(f"{row.counts[split]:>6}" for split in question_splits.SPLITS)
        lengths = row.question_tokens or row.question_chars
        print(
            f"{row.task:<36}{counts}{lengths.mean:>9}{lengths.max:>7}{row.answers:>9}"
            f"{row.majority_fraction:>11.1%}{row.duplicates:>10}"
        )
    for row in rows:
        for split, requested in row.is_short.items():
            print(f"{row.task}: {split} has {row.counts[split]} questions of {requested} requested")
    total = sum(sum(row.counts.values()) for row in rows)
    print(f"{len(rows)} tasks, {total} questions; questions in two splits: {shared}")
    print(
        f"lengths of the question in tokens of {tokenizer}"
        if tokenizer
        else "lengths in characters: the run's tokenizer is not here; name one by --tokenizer"
    )
    for kind, count in kinds.items():
        print(f"{kind:<36}{count:>6}")


def _print_demonstrations(rows: Sequence[demonstration_stats.DemonstrationStats]) -> None:
    if not rows:
        return
    print(
        f"{'demonstrations':<36}{'count':>6}{'kinds':>6}{'turns':>7}{'median':>8}{'max':>7}"
        f"{'failed':>8}{'repeated':>10}"
    )
    for row in rows:
        print(
            f"{row.task:<36}{row.count:>6}{len(row.strategies):>6}{row.mean_turns:>7}"
            f"{row.median_length:>8}{row.max_length:>7}{row.failed_fraction:>8.1%}"
            f"{row.duplicates:>10}"
        )
    print("strategies of the demonstrations")
    for row in rows:
        shown = (f"{name.removeprefix('code_agent/')} {n}" for name, n in row.strategies.items())
        print(f"{row.task:<36}{', '.join(shown)}")
    scripts, failed = sum(r.scripts for r in rows), sum(r.failed_scripts for r in rows)
    print(
        f"{sum(row.count for row in rows)} demonstrations of {len(rows)} tasks; "
        f"{failed} of {scripts} scripts failed"
    )
