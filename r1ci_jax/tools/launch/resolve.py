"""Resolve the options of `r1ci launch` and an experiment into a `Job` and its `LaunchPlan`.

Everything that can be wrong is checked here, before anything that costs money is started.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from r1ci_jax.config import Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.tools import tpu
from r1ci_jax.tools.launch import checks, queued_resources, source, ssh, xpk
from r1ci_jax.tools.launch.job import (
    FETCH_VARIABLE,
    UNSAFE_VARIABLE,
    Command,
    Job,
    LaunchPlan,
    make_report,
)

Via = Literal["queued", "xpk", "ssh"]

COORDINATOR_PORT = 8476
"""Port of JAX's coordinator, unless --port names another."""
WORKDIR_PLACEHOLDER = "gs://BUCKET/runs"
"""Parent of the run directory that a dry run shows when no --workdir is given."""

# Options of one way of launching that do not apply to the others.
_INAPPLICABLE: dict[Via, tuple[str, ...]] = {
    "queued": ("cluster", "extras", "hosts"),
    "xpk": ("extras", "hosts", "reuse", "delete", "ssh_flags"),
    "ssh": ("cluster", "reuse", "delete", "create_flags", "project", "zone"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The command line of `r1ci launch`; empty values were not given."""

    via: Via
    stage: str
    """Command of `r1ci` that the workers run: run, sft, grpo, ..."""
    variant: str = ""
    overrides: tuple[str, ...] = ()
    """Changes to the experiment, as --config.a.b=value."""
    tpu: str = ""
    workdir: str = ""
    name: str = ""
    dirty: bool = False
    restarts: int
    env: tuple[str, ...] = ()
    project: str = ""
    zone: str = ""
    cluster: str = ""
    extras: tuple[str, ...] = ()
    """Extras of setup.py for machines reached by ssh, whose accelerators are unknown."""
    hosts: tuple[str, ...] = ()
    port: int = COORDINATOR_PORT
    reuse: bool = False
    delete: bool = False
    create_flags: Command = ()
    ssh_flags: Command = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedLaunch:
    """A job, the checkout that it is shipped from, and the reasons against a real launch."""

    job: Job
    root: Path
    problems: tuple[str, ...]
    """A dry run shows them as warnings; a real launch stops at the first."""


def resolve_job(options: LaunchOptions, experiment: Experiment, file: Path) -> ResolvedLaunch:
    """Resolve the job that runs `experiment`, which was loaded from `file`.

    Raises:
        UserError: an option, the mesh or the model would be wrong in a dry run too.
    """
    tpu_slice = tpu.find_slice(options.tpu) if options.tpu else None
    _check_options(options, tpu_slice)
    if tpu_slice:
        checks.check_mesh(experiment, tpu_slice)
    checks.check_model(experiment)
    name = options.name or checks.run_name(experiment)
    checks.check_name(name)
    checkout = source.examine_source(file, dirty=options.dirty)
    workdir = options.workdir or f"{WORKDIR_PLACEHOLDER}/{name}"
    shipped = source.relative(file, checkout.root)
    if options.variant:
        shipped = f"{shipped}:{options.variant}"
    job = Job(
        name=name,
        slice=tpu_slice,
        slices=experiment.mesh.slices,
        command=("r1ci", options.stage, shipped, "--workdir", workdir, *options.overrides),
        workdir=workdir,
        commit=checkout.commit,
        revision=checkout.revision,
        extras=(
            *(("tpu",) if tpu_slice else ()),
            *(("gcs",) if workdir.startswith("gs://") else ()),
            *options.extras,
            *experiment.sinks,
        ),
        restarts=options.restarts,
        environment=_environment(options.env, experiment),
    )
    problems = (*checkout.problems, *_find_problems(options, experiment))
    return ResolvedLaunch(job=job, root=checkout.root, problems=problems)


def make_plan(options: LaunchOptions, job: Job) -> LaunchPlan:
    """Turn the job into the steps of the chosen way of launching."""
    if options.via == "xpk":
        return xpk.make_plan(
            job,
            xpk.XpkTarget(
                cluster=options.cluster,
                project=options.project,
                zone=options.zone,
                create_flags=options.create_flags,
            ),
        )
    if options.via == "ssh":
        return ssh.make_plan(
            job,
            ssh.SshTarget(hosts=options.hosts, port=options.port, ssh_flags=options.ssh_flags),
        )
    return queued_resources.make_plan(
        job,
        queued_resources.QueuedResourcesTarget(
            project=options.project,
            zone=options.zone,
            reuse=options.reuse,
            delete=options.delete,
            create_flags=options.create_flags,
            ssh_flags=options.ssh_flags,
        ),
    )


def describe_launch(options: LaunchOptions, job: Job, plan: LaunchPlan) -> dict[str, Any]:
    """Describe the launch as JSON values for other programs."""
    tpu_slice = job.slice
    described = tpu_slice and {
        "type": tpu_slice.name,
        "slices": job.slices,
        "chips": tpu_slice.chips,
        "hosts": tpu_slice.pods if options.via == "xpk" else tpu_slice.hosts,
        "topology": tpu_slice.topology,
    }
    facts = {
        "name": job.name,
        "via": options.via,
        "workdir": job.workdir,
        "revision": job.revision,
        "command": list(job.command),
        "tpu": described,
    }
    return facts | make_report(plan)


def _find_problems(options: LaunchOptions, experiment: Experiment) -> list[str]:
    """Find what a dry run may leave open but a real launch needs."""
    shared_disk = options.via == "ssh"
    workdir_problem = checks.workdir_problem(options.workdir, shared_disk=shared_disk)
    if workdir_problem and options.workdir:
        raise UserError(workdir_problem)
    demonstrations = checks.demonstrations_problem(experiment, shared_disk=shared_disk)
    return [problem for problem in (workdir_problem, demonstrations) if problem]


def _check_options(options: LaunchOptions, tpu_slice: tpu.Slice | None) -> None:
    """Refuse a missing option of the chosen way, and options that do not apply to it."""
    if tpu_slice is None and options.via != "ssh":
        raise UserError("name the TPUs: --tpu v5p-32 (r1ci plan estimates what a run needs)")
    if options.via == "xpk" and not options.cluster:
        raise UserError("XPK needs --cluster NAME; docs/tpu.md says how to make one")
    if options.via == "ssh" and not options.hosts:
        raise UserError("--via ssh needs --hosts host1,host2: the first is the coordinator")
    for option in _INAPPLICABLE[options.via]:
        if getattr(options, option):
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} does not apply to --via {options.via}; leave it out")
    checks.check_extras(options.extras, has_tpu=tpu_slice is not None)
    if options.via == "ssh" and tpu_slice and len(options.hosts) != tpu_slice.hosts:
        raise UserError(
            f"{tpu_slice.name} has {tpu_slice.hosts} machines but --hosts names "
            f"{len(options.hosts)}"
        )


def _environment(pairs: Sequence[str], experiment: Experiment) -> dict[str, str]:
    """Collect the job's environment variables; those of the user win."""
    for pair in pairs:
        if not re.fullmatch(r"[A-Za-z_]\w*=[^\n]*", pair):
            raise UserError(f"--env {pair!r} is not of the form NAME=value")
    flags = {
        UNSAFE_VARIABLE: experiment.sandbox.unsafe,
        FETCH_VARIABLE: checks.needs_published_data(experiment),
    }
    given = dict(pair.split("=", 1) for pair in pairs)
    return {name: "1" for name, is_set in flags.items() if is_set} | given
