"""r1ci data: datasets of a run."""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment as experiments
from r1ci_jax.core import progress, rundir
from r1ci_jax.core.progress import Progress
from r1ci_jax.data import builders, prepare, questions, stats
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.tiers import UNSAFE_WARNING
from r1ci_jax.tasks import bbh, loaded, sources


def add_commands(subparsers: Any) -> None:
    """Add `data` and its sub-commands."""
    parser = subparsers.add_parser("data", help="datasets: build, fetch, stats")
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND")

    build = commands.add_parser(
        "build", help="questions and demonstrations of an experiment, as its run would make them"
    )
    build.add_argument("experiment", metavar="EXP", help="experiments/file.py[:variant]")
    build.add_argument("--workdir", type=Path, help="run directory (default runs/NAME)")
    build.add_argument(
        "--questions-only", action="store_true", help="no demonstrations, no sandbox"
    )
    build.set_defaults(run=_build, takes_overrides=True)

    fetch = commands.add_parser(
        "fetch", help="published questions: BIG-Bench-Hard, GSM-Hard, MATH, from the network"
    )
    fetch.add_argument(
        "--data-dir", type=Path, help=f"where to (default ${sources.VARIABLE}, else the cache)"
    )
    fetch.set_defaults(run=_fetch)

    show = commands.add_parser("stats", help="counts, lengths, duplicates, commonest answers")
    show.add_argument("where", metavar="RUN", type=Path, help="run directory, or its data/")
    show.set_defaults(run=_stats)

    for command in (build, fetch, show):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _build(args: argparse.Namespace) -> int:
    experiment = experiments.load(args.experiment, args.overrides)
    path = args.workdir or rundir.default_path(experiment)
    began = time.monotonic()
    with rundir.RunDir.open(path, experiment):
        data_dir = path / "data"
        with Progress("questions", len(experiment.questions.tasks), unit="tasks") as bar:
            prepare.questions(experiment, data_dir, report=lambda done, _: bar.update(done))
        if not args.questions_only:
            if experiment.sandbox.unsafe:
                progress.warn(UNSAFE_WARNING)
            with Sandbox(experiment.sandbox) as sandbox, Progress("demonstrations") as bar:
                prepare.demonstrations(
                    experiment,
                    data_dir,
                    sandbox,
                    report=lambda done, total: _show(bar, done, total),
                )
    if args.json:
        print(
            json.dumps({"data_dir": str(data_dir), "seconds": round(time.monotonic() - began, 1)})
        )
    else:
        print(f"{data_dir}: built in {time.monotonic() - began:.1f} s; see r1ci data stats {path}")
    return 0


def _show(bar: Progress, done: int, total: int) -> None:
    bar.total = total
    bar.update(done)


def _fetch(args: argparse.Namespace) -> int:
    place = sources.folder(args.data_dir)
    files = []
    for remote, fresh in sources.fetch_all(bbh.remotes(), place):
        files.append(remote.path)
        print(f"{remote.path}: {'downloaded' if fresh else 'there'}", file=sys.stderr)
    for name in loaded.NAMES:
        loaded.fetch(name, place)
        files.append(f"symbench/{name}.jsonl")
        print(f"{files[-1]}: written", file=sys.stderr)
    print(json.dumps({"data_dir": str(place), "files": files}) if args.json else f"{place}: filled")
    return 0


def _stats(args: argparse.Namespace) -> int:
    data_dir = args.where / "data" if (args.where / "data").is_dir() else args.where
    names = builders.task_names(data_dir)
    if not names:
        raise UserError(f"{args.where} holds no datasets; build them first (r1ci data build EXP)")
    splits = {
        name: {s: list(builders.load_examples(data_dir, [name], s)) for s in questions.SPLITS}
        for name in names
    }
    rows = [stats.task_stats(name, splits[name]) for name in names]
    by_split = {s: [e for name in names for e in splits[name][s]] for s in questions.SPLITS}
    shared = stats.shared_questions(by_split)
    written = builders.built(data_dir, "r1ci_trajectories")
    kinds = stats.demonstration_counts(builders.load_trajectories(data_dir)) if written else {}
    if args.json:
        tasks = [dataclasses.asdict(row) for row in rows]
        print(json.dumps({"tasks": tasks, "in_two_splits": shared, "demonstrations": kinds}))
    else:
        _print(rows, shared, kinds)
    return 0


def _print(rows: list[stats.TaskStats], shared: int, kinds: dict[str, int]) -> None:
    print(
        f"{'task':<24}{'sft':>6}{'grpo':>6}{'eval':>6}{'chars':>7}{'max':>5}{'answers':>9}{'commonest':>11}"
    )
    for row in rows:
        counts = "".join(f"{row.counts[split]:>6}" for split in questions.SPLITS)
        print(
            f"{row.task:<24}{counts}{row.question_chars_mean:>7}{row.question_chars_max:>5}"
            f"{row.answers:>9}{row.majority_share:>11.1%}"
        )
    repeated = sum(row.duplicates for row in rows)
    print(f"questions in two splits: {shared}; repeated within a task: {repeated}")
    for kind, count in kinds.items():
        print(f"{kind:<28}{count:>6}")
