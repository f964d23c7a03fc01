"""`r1ci run EXP` runs all stages; sft, potential, grpo and eval EXP run a single one."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import hosts, preemption, run_dir
from r1ci_jax.runtime.sinks import metric_sinks
from r1ci_jax.sandbox import Sandbox

SUMMARIES = {
    "run": "every stage of an experiment in order: data, sft, potential, grpo, eval, table, report",
    "sft": "supervised fine-tuning on demonstrations",
    "potential": "improvement potential of the questions, measured on the SFT model",
    "grpo": "reinforcement learning of every arm",
    "eval": "accuracy on held-out questions",
}


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Register the commands that take an experiment; `eval`, which takes more, has its own file."""
    for name in SUMMARIES:
        if name != "eval":
            parser = subparsers.add_parser(name, help=SUMMARIES[name], **_descriptions(name))
            _add_arguments(parser)
            if name == "run":
                parser.add_argument(
                    "--dry-run",
                    action="store_true",
                    help="mesh, parameters, memory, steps, tokens and hours by arithmetic; nothing "
                    "is run or written",
                )
            parser.set_defaults(run=run_experiment, parser=parser, takes_overrides=True)


def make_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command that takes an experiment, for its help text."""
    parser = argparse.ArgumentParser(prog=f"r1ci {name}", **_descriptions(name))
    _add_arguments(parser)
    return parser


def _descriptions(name: str) -> dict[str, Any]:
    summary = SUMMARIES[name]
    return {
        "description": f"{summary[0].upper()}{summary[1:]}. A finished stage is skipped, an "
        "interrupted one continues where it stopped.",
        "usage": f"r1ci {name} EXP [--workdir D] [--json]{' [--dry-run]' * (name == 'run')} "
        "[--config.a.b=V ...]",
        "epilog": "--config.a.b=V overrides one setting of the experiment. The settings:",
        "add_help": False,
        "allow_abbrev": False,
    }


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exp", nargs="?", metavar="EXP", help="experiments/file.py[:variant]")
    parser.add_argument("-h", "--help", action="store_true", help="this text, with every setting")
    parser.add_argument(
        "--workdir",
        metavar="D",
        help="run directory, or a URL to keep it at (gs://bucket/runs/NAME); default runs/NAME",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout at the end, nothing else"
    )


def run_experiment(args: argparse.Namespace) -> int:
    """Run all stages of `args.exp`, or the one that `args.command` names."""
    from r1ci_jax.cli import experiment_file as experiments

    if args.help:
        _print_help(args)
        return 0
    if args.exp is None:
        raise UserError(f"name an experiment: r1ci {args.command} experiments/file.py[:variant]")
    if getattr(args, "dry_run", False):
        _print_dry_run(args)
        return 0
    # Library output belongs with the progress on stderr, not in the JSON.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        experiment, changed = experiments.load_changed(args.exp, args.overrides)
        with hosts.distributed():
            agents.get_all(experiment.agents)  # a wrong one is reported before anything is made
            summary = _run_stages(args, experiment, changed)
            answers = hosts.is_first()
    if args.json and answers:
        print(json.dumps(summary))
    return 0


def _print_dry_run(args: argparse.Namespace) -> None:
    """Print what a run would take; nothing is written."""
    from r1ci_jax.cli import experiment_file as experiments
    from r1ci_jax.tools.plan import dry_run
    from r1ci_jax.train import load_model

    with contextlib.redirect_stdout(sys.stderr):
        experiment, changed = experiments.load_changed(args.exp, args.overrides)
        print(experiments.describe(args.exp, changed), file=sys.stderr)
        dry_run.pretend_devices(experiment.mesh.num_devices)
        found = dry_run.examine(experiment, load_model.architecture(experiment))
    print(json.dumps(dry_run.make_report(found)) if args.json else dry_run.render_text(found))


def _run_stages(
    args: argparse.Namespace, experiment: Any, changed: dict[str, Any]
) -> dict[str, Any]:
    """Open the run directory, run the remaining stages, and show the table."""
    from r1ci_jax.cli import experiment_file as experiments

    metric_sinks.require_installed(experiment.sinks)
    path = args.workdir or run_dir.default_path(experiment)
    with (
        run_dir.RunDir.open_together(path, experiment, changes=changed) as directory,
        _open_sandbox(experiment, directory) as sandbox,
        preemption.handle_sigterm(),
    ):
        if hosts.is_first():
            print(experiments.describe(args.exp, changed, directory.location), file=sys.stderr)
        # Import only now: a rejected directory is reported before JAX has started, and the
        # sandbox's fork servers are not children of a process with JAX's threads.
        import jax

        from r1ci_jax import pipeline
        from r1ci_jax.runtime import compilation_cache

        compilation_cache.enable()
        directory.record_environment(
            devices=sorted({device.device_kind for device in jax.devices()})
        )
        only = None if args.command == "run" else args.command
        pipeline.run(experiment, directory, sandbox, only=only)
        summary: dict[str, Any] = {
            "workdir": directory.location,
            "stages": list(directory.finished_stages()),
        }
        if directory.results_path.exists():
            from r1ci_jax.evaluate import tables

            result = tables.build_results_table(tables.read_run(directory.path))
            summary["results"] = list(result.records)
            if args.command in ("run", "eval") and hosts.is_first():
                tables.show(result)
        if directory.report_path.exists() and hosts.is_first():
            summary["report"] = str(directory.report_path)
            print(f"report: {directory.report_path}", file=sys.stderr)
        return summary


@contextlib.contextmanager
def _open_sandbox(experiment: Any, directory: run_dir.RunDir) -> Iterator[Sandbox]:
    """Open the sandbox that runs the run's scripts."""
    try:
        with Sandbox(experiment.sandbox) as sandbox:
            directory.record_environment(sandbox_tier=sandbox.tier)
            yield sandbox
    except UserError:
        directory.remove_if_unused()
        raise


def _print_help(args: argparse.Namespace) -> None:
    from r1ci_jax.cli import experiment_file as experiments

    shown = None
    if args.exp is not None:
        shown = experiments.apply_overrides(experiments.load_default(args.exp), args.overrides)
    print(args.parser.format_help())
    print(experiments.format_knobs(shown))
