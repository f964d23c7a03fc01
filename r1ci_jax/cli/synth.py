"""The command `r1ci synth`: demonstrations of an experiment's questions, made by a teacher."""

import argparse
import collections
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.cli import import_conversations, other_teachers
from r1ci_jax.data import build, datasets
from r1ci_jax.data.external import selection
from r1ci_jax.data.scripted import taught_tasks
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import progress, run_dir
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING


def add_commands(subparsers: Any) -> None:
    """Add `synth`."""
    parser = subparsers.add_parser(
        "synth",
        help="demonstrations of the sft split, by a teacher",
        description="Questions, then demonstrations: every script runs in the jail, every answer "
        "is scored, what is not kept is counted by reason. An interrupted run continues with the "
        "next task. The result is a dataset of the run, and a file that demonstrations.path reads.",
    )
    parser.add_argument("experiment", metavar="EXP", help="experiments/file.py[:variant]")
    parser.add_argument(
        "--teacher",
        choices=("scripted", "model", "endpoint"),
        default="scripted",
        help="scripted: rules per task, offline (default); a model of ours; an endpoint",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="scripts that run at a time, and processes that generate questions (default: one per "
        "core); the result is the same for any number",
    )
    parser.add_argument("--workdir", type=Path, help="run directory (default runs/NAME)")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="JSON lines (default: demonstrations.jsonl in the run directory; made_by_model.jsonl, "
        "made_by_endpoint.jsonl by the other teachers)",
    )
    import_conversations.add_tokenizer(
        parser,
        "measures demonstrations. scripted: by demonstrations.max_tokens and median_tokens "
        "(default: the experiment's tokenizer); others: leave out what has more than "
        "sft.sequence_length tokens",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    other_teachers.add_arguments(parser)
    parser.set_defaults(run=_synthesize, takes_overrides=True)


def _synthesize(args: argparse.Namespace) -> int:
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: at least one is needed")
    return _scripted(args) if args.teacher == "scripted" else other_teachers.synthesize(args)


def _scripted(args: argparse.Namespace) -> int:
    experiment = experiments.load(args.experiment, args.overrides)
    if experiment.demonstrations.path:
        raise UserError(
            "demonstrations.path names a file already; leave it out to let teachers write"
        )
    taught_tasks.without_teacher(experiment)  # is refused before questions are generated
    names = experiment.dataset.tasks
    path = args.workdir or run_dir.default_path(experiment)
    out = args.out or path / "demonstrations.jsonl"
    jobs = args.jobs or len(os.sched_getaffinity(0))
    sandbox_config = dataclasses.replace(experiment.sandbox, workers=jobs)
    with run_dir.RunDir.open(path, experiment):
        with Progress("questions", len(names), unit="tasks") as bar:
            build.build_questions(
                experiment, path / "data", jobs=args.jobs, report=lambda done, _: bar.update(done)
            )
        if experiment.sandbox.unsafe:
            progress.warn(UNSAFE_WARNING)
        began = time.monotonic()
        with Sandbox(sandbox_config) as sandbox, Progress("scripted", unit="questions") as bar:
            made = build.write_scripted(
                experiment,
                path / "data",
                sandbox,
                tokenizer=args.tokenizer,
                report=lambda done, total: _show(bar, done, total),
            )
        selection.write(out, made.demonstrations)
        datasets.replace_trajectories(made.demonstrations, data_dir=path / "data")
    if not args.json:
        per_task = collections.Counter(each.task for each in made.demonstrations)
        seconds = time.monotonic() - began
        print(f"{len(per_task)} tasks in {seconds:.0f} s; see r1ci data stats {path}")
    import_conversations.show(made, out, as_json=args.json)
    return 0


def _show(bar: Progress, done: int, total: int) -> None:
    bar.total = total
    bar.update(done)
