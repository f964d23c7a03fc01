"""`r1ci launch EXP --tpu v5p-32` starts a run on TPU pods or on machines reached by ssh."""

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from r1ci_jax.cli.run import SUMMARIES
from r1ci_jax.errors import UserError

if TYPE_CHECKING:  # `r1ci --help` must not load the launchers
    from r1ci_jax.tools.launch.resolve import LaunchOptions


def add_commands(subparsers: Any) -> None:
    """Register `r1ci launch`."""
    parser = subparsers.add_parser(
        "launch",
        help="start a run on TPU pods: XPK, queued resources, or ssh",
        description="Run an experiment on other machines: pack the code, create or reach the "
        "machines, ship and set up, start every worker, and follow the run until it ends. "
        "--dry-run prints every command instead. docs/tpu.md goes from zero to a running job.",
        epilog="--config.a.b=V overrides one setting of the experiment, as in r1ci run.",
        allow_abbrev=False,
    )
    parser.add_argument("exp", metavar="EXP", help="experiments/file.py[:variant]")
    parser.add_argument("--tpu", default="", metavar="T", help="v5p-32, v5litepod-16, v6e-8, ...")
    parser.add_argument(
        "--via",
        default="queued",
        choices=("queued", "xpk", "ssh"),
        help="queued: TPU machines of one's own (default); xpk: a GKE cluster; ssh: --hosts",
    )
    parser.add_argument(
        "--stage", default="run", choices=tuple(SUMMARIES), help="command to run (default: run)"
    )
    parser.add_argument("--workdir", default="", metavar="URL", help="gs://BUCKET/runs/NAME")
    parser.add_argument("--name", default="", help="name of the job; default: the experiment's")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, start nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--dirty", action="store_true", help="ship uncommitted changes too")
    parser.add_argument(
        "--restarts",
        type=_count,
        default=20,
        metavar="N",
        help="restarts after exit status 75: SIGTERM or a lost worker (default: 20)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="environment of the workers; may be repeated",
    )
    _add_target_options(parser)
    parser.set_defaults(run=_run, takes_overrides=True)


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", default="", help="default: gcloud's")
    parser.add_argument("--zone", default="", help="default: gcloud's")
    parser.add_argument("--cluster", default="", help="xpk: the cluster")
    parser.add_argument(
        "--extras", default="", metavar="E,E", help="ssh: extras of setup.py to install, as cuda"
    )
    parser.add_argument("--hosts", default="", metavar="H,H", help="ssh: [user@]host, ...")
    parser.add_argument(
        "--port", type=_count, metavar="P", help="ssh: port of the first host (default: 8476)"
    )
    parser.add_argument(
        "--reuse", action="store_true", help="queued: the machines of this name exist already"
    )
    parser.add_argument(
        "--delete", action="store_true", help="queued: delete the machines after a run that ended"
    )
    parser.add_argument(
        "--create-flags",
        default="",
        metavar="F",
        help="queued, xpk: added to the create command, such as --create-flags=--spot",
    )
    parser.add_argument(
        "--ssh-flags", default="", metavar="F", help="queued, ssh: added to each ssh and scp"
    )


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    from r1ci_jax.cli import experiment_file
    from r1ci_jax.tools.launch import execute, resolve
    from r1ci_jax.tools.launch.job import render_text

    options = _options(args)
    experiment = experiment_file.load(args.exp, args.overrides)
    file = experiment_file.find_file(args.exp.partition(":")[0])
    assert file is not None, "the experiment was just loaded from it"
    launch = resolve.resolve_job(options, experiment, file)
    plan = resolve.make_plan(options, launch.job)
    if launch.problems and not args.dry_run:
        raise UserError(launch.problems[0])
    for problem in launch.problems:
        print(f"before a real launch: {problem}", file=sys.stderr)
    if not args.dry_run:
        execute.check_programs(plan)
        execute.execute(plan, root=launch.root, stream=sys.stderr)
    if args.json:
        print(json.dumps(resolve.describe_launch(options, launch.job, plan)))
    elif args.dry_run:
        print(render_text(plan))
    else:
        print(f"the run has ended; its directory is {launch.job.workdir}", file=sys.stderr)
    return 0


def _options(args: argparse.Namespace) -> "LaunchOptions":
    from r1ci_jax.tools.launch import resolve

    return resolve.LaunchOptions(
        via=args.via,
        stage=args.stage,
        variant=args.exp.partition(":")[2],
        overrides=tuple(args.overrides),
        tpu=args.tpu,
        workdir=args.workdir,
        name=args.name,
        dirty=args.dirty,
        restarts=args.restarts,
        env=tuple(args.env),
        project=args.project,
        zone=args.zone,
        cluster=args.cluster,
        extras=tuple(args.extras.split(",")) if args.extras else (),
        hosts=tuple(args.hosts.split(",")) if args.hosts else (),
        port=resolve.COORDINATOR_PORT if args.port is None else args.port,
        reuse=args.reuse,
        delete=args.delete,
        create_flags=tuple(shlex.split(args.create_flags)),
        ssh_flags=tuple(shlex.split(args.ssh_flags)),
    )
