"""`r1ci launch EXP --tpu v5p-32`: a run on TPU pods, or on machines reached by ssh."""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from r1ci_jax.cli.run import SUMMARIES
from r1ci_jax.errors import UserError

PORT = 8476
"""Of JAX's coordinator, unless --port names another."""
PLACEHOLDER = "gs://BUCKET/runs"
"""Printed by a dry run that was told no place."""


def add_commands(subparsers: Any) -> None:
    """Register `r1ci launch`."""
    parser = subparsers.add_parser(
        "launch",
        help="a run on TPU pods: XPK, queued resources, or ssh",
        description="Run an experiment on other machines: pack the code, order or reach the "
        "machines, ship and set up, start every worker, and follow the run until it ends. "
        "--dry-run prints every command instead. docs/tpu.md goes from zero to a running job.",
        epilog="--config.a.b=V overrides one knob of the experiment, as in r1ci run.",
        allow_abbrev=False,
    )
    parser.add_argument("exp", metavar="EXP", help="experiments/file.py[:variant]")
    parser.add_argument("--tpu", metavar="T", help="v5p-32, v5litepod-16, v6e-8, ...")
    parser.add_argument(
        "--via",
        default="queued",
        choices=("queued", "xpk", "ssh"),
        help="queued: TPU machines of one's own (default); xpk: a GKE cluster; ssh: --hosts",
    )
    parser.add_argument(
        "--stage", default="run", choices=tuple(SUMMARIES), help="what is run (default: run)"
    )
    parser.add_argument("--workdir", default="", metavar="URL", help="gs://BUCKET/runs/NAME")
    parser.add_argument("--name", default="", help="of the job; default: the experiment's")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, start nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--dirty", action="store_true", help="ship uncommitted changes too")
    parser.add_argument(
        "--restarts",
        type=_count,
        default=20,
        metavar="N",
        help="starts again after exit status 75: SIGTERM or a lost worker (default: 20)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="environment of the workers; may be repeated",
    )
    _add_places(parser)
    parser.set_defaults(run=_run, takes_overrides=True)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", default="", help="default: gcloud's")
    parser.add_argument("--zone", default="", help="default: gcloud's")
    parser.add_argument("--cluster", default="", help="xpk: the cluster")
    parser.add_argument("--hosts", default="", metavar="H,H", help="ssh: [user@]host, ...")
    parser.add_argument(
        "--port", type=_count, default=PORT, help=f"ssh: of the first host (default: {PORT})"
    )
    parser.add_argument(
        "--reuse", action="store_true", help="queued: the machines of this name are there"
    )
    parser.add_argument(
        "--delete", action="store_true", help="queued: give the machines back after a good end"
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
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    from r1ci_jax.tools.launch import execute
    from r1ci_jax.tools.launch import job as launch_job

    job, root, problems = _job(args)
    recipe = _recipe(args, job)
    if problems and not args.dry_run:
        raise UserError(problems[0])
    for problem in problems:
        print(f"before a real launch: {problem}", file=sys.stderr)
    if args.dry_run:
        print(
            json.dumps(_facts(args, job, recipe)) if args.json else launch_job.render_text(recipe)
        )
        return 0
    execute.check_programs(recipe)
    execute.execute(recipe, root=root, stream=sys.stderr)
    if args.json:
        print(json.dumps(_facts(args, job, recipe)))
    else:
        print(f"the run has ended; it is at {job.workdir}", file=sys.stderr)
    return 0


def _job(args: argparse.Namespace) -> tuple[Any, Path, list[str]]:
    """The job, the checkout it is shipped from, and what stands against a real launch.

    What would be wrong everywhere raises UserError at once.
    """
    from r1ci_jax.cli import experiment_file as experiments
    from r1ci_jax.tools import tpu as launch_tpu
    from r1ci_jax.tools.launch import checks
    from r1ci_jax.tools.launch import job as launch_job
    from r1ci_jax.tools.launch import source as launch_source

    tpu = launch_tpu.find(args.tpu) if args.tpu else None
    _check_places(args, tpu)
    experiment = experiments.load(args.exp, args.overrides)
    if tpu:
        checks.check_mesh(experiment, tpu)
    checks.check_model(experiment)
    name = args.name or checks.run_name(experiment)
    checks.check_name(name)
    file_name, _, variant = args.exp.partition(":")
    file = experiments.find_file(file_name)
    assert file is not None, "the experiment was just loaded from it"
    source = launch_source.examine_source(file, dirty=args.dirty)
    problems = list(source.problems)
    trouble = checks.workdir_problem(args.workdir, shared_disk=args.via == "ssh")
    if trouble and args.workdir:
        raise UserError(trouble)
    if trouble:
        problems.append(trouble)
    untaught = checks.demonstrations_problem(experiment, shared_disk=args.via == "ssh")
    if untaught:
        problems.append(untaught)
    workdir = args.workdir or f"{PLACEHOLDER}/{name}"
    shipped = launch_source.relative(file, source.root) + (f":{variant}" if variant else "")
    job = launch_job.Job(
        name=name,
        slice=tpu,
        slices=experiment.mesh.slices,
        command=("r1ci", args.stage, shipped, "--workdir", workdir, *args.overrides),
        workdir=workdir,
        commit=source.commit,
        revision=source.revision,
        extras=(
            *(("tpu",) if tpu else ()),
            *(("gcs",) if workdir.startswith("gs://") else ()),
        ),
        restarts=args.restarts,
        environment=_environment(
            args.env,
            unsafe=experiment.sandbox.unsafe,
            fetches=checks.needs_published_data(experiment),
        ),
    )
    return job, source.root, problems


def _check_places(args: argparse.Namespace, tpu: Any) -> None:
    """Options that the way of launching needs, and those that mean nothing to it."""
    if tpu is None and args.via != "ssh":
        raise UserError("name the TPUs: --tpu v5p-32 (r1ci plan tells what an experiment needs)")
    if args.via == "xpk" and not args.cluster:
        raise UserError("XPK needs --cluster NAME; docs/tpu.md says how to make one")
    if args.via == "ssh" and not args.hosts:
        raise UserError("--via ssh needs --hosts host1,host2: the first is the coordinator")
    foreign = {
        "queued": ("cluster", "hosts"),
        "xpk": ("hosts", "reuse", "delete", "ssh_flags"),
        "ssh": ("cluster", "reuse", "delete", "create_flags", "project", "zone"),
    }
    for option in foreign[args.via]:
        if getattr(args, option):
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} means nothing to --via {args.via}; leave it out")
    hosts = len(args.hosts.split(","))
    if args.via == "ssh" and tpu and hosts != tpu.hosts:
        raise UserError(f"{tpu.name} has {tpu.hosts} machines but --hosts names {hosts}")


def _environment(pairs: list[str], *, unsafe: bool, fetches: bool) -> dict[str, str]:
    for pair in pairs:
        if not re.fullmatch(r"[A-Za-z_]\w*=[^\n]*", pair):
            raise UserError(f"--env {pair!r} is not of the form NAME=value")
    given = dict(pair.split("=", 1) for pair in pairs)
    ours = {"R1CI_UNSAFE": unsafe, "R1CI_FETCH": fetches}
    return {name: "1" for name, is_set in ours.items() if is_set} | given


def _recipe(args: argparse.Namespace, job: Any) -> Any:
    from r1ci_jax.tools.launch import queued_resources, xpk
    from r1ci_jax.tools.launch import ssh as launch_ssh

    create, ssh = tuple(shlex.split(args.create_flags)), tuple(shlex.split(args.ssh_flags))
    if args.via == "xpk":
        return xpk.make_plan(
            job,
            xpk.XpkTarget(
                cluster=args.cluster, project=args.project, zone=args.zone, create_flags=create
            ),
        )
    if args.via == "ssh":
        hosts = tuple(args.hosts.split(","))
        return launch_ssh.make_plan(
            job, launch_ssh.SshTarget(hosts=hosts, port=args.port, ssh_flags=ssh)
        )
    return queued_resources.make_plan(
        job,
        queued_resources.QueuedResourcesTarget(
            project=args.project,
            zone=args.zone,
            reuse=args.reuse,
            delete=args.delete,
            create_flags=create,
            ssh_flags=ssh,
        ),
    )


def _facts(args: argparse.Namespace, job: Any, recipe: Any) -> dict[str, Any]:
    """What a program wants to know of a launch."""
    from r1ci_jax.tools.launch import job as launch_job

    tpu = job.slice
    shown = (
        {
            "type": tpu.name,
            "slices": job.slices,
            "chips": tpu.chips,
            "hosts": tpu.pods if args.via == "xpk" else tpu.hosts,
            "topology": tpu.topology,
        }
        if tpu
        else None
    )
    facts = {
        "name": job.name,
        "via": args.via,
        "workdir": job.workdir,
        "revision": job.revision,
        "command": list(job.command),
        "tpu": shown,
    }
    return facts | launch_job.make_report(recipe)
