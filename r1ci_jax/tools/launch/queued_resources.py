"""Launch on a queued resource of the TPU API, through gcloud.

Flags are those of `gcloud compute tpus queued-resources create | describe | scp | ssh | delete`.
"""

import dataclasses
import shlex

from r1ci_jax.runtime.hosts import MULTIHOST_VARIABLE
from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step

_FIRST = ("--node=0", "--worker=0")
_MAX_CONNECTIONS = 16
GCLOUD = ("gcloud", "compute", "tpus", "queued-resources")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueuedResourcesTarget:
    """The queued resource and how it is created; empty values leave gcloud's configuration."""

    project: str = ""
    zone: str = ""
    reuse: bool = False
    """The queued resource of this name exists already."""
    delete: bool = False
    """Delete the machines after a run that ended well."""
    create_flags: Command = ()
    """Further flags, such as --spot or --reserved."""
    ssh_flags: Command = ()
    """Further flags, such as --tunnel-through-iap."""


def make_plan(job: Job, target: QueuedResourcesTarget) -> LaunchPlan:
    """Make the steps from creating the machines to the end of the run."""
    follow = Step(
        description="Show the first worker's log until the run ends; Ctrl-C does not stop it.",
        commands=(_ssh(job, target, "follow", _FIRST), *_wait_commands(job, target)),
        on_failure=(_ssh(job, target, "stop"),),
    )
    delete = Step(
        description="Delete the machines: they cost money until then.",
        commands=((*GCLOUD, "delete", job.name, *_location_flags(target), "--force", "--quiet"),),
    )
    steps = (
        *launch_job.pack_commands(job),
        *(() if target.reuse else _create_steps(job, target)),
        *_start_steps(job, target),
        follow,
        *((delete,) if target.delete else ()),
    )
    follow_up = (
        dataclasses.replace(
            follow, description="Follow the log again.", commands=follow.commands[:1]
        ),
        Step(
            description="Stop it: a checkpoint is saved; the same launch with --reuse resumes.",
            commands=follow.on_failure,
        ),
        *launch_job.collect_commands(job),
    )
    return LaunchPlan(steps=steps, follow_up=follow_up, clean_up=(delete,))


def _create_steps(job: Job, target: QueuedResourcesTarget) -> tuple[Step, ...]:
    assert job.slice is not None, "queued resources are TPUs"
    nodes = (
        (f"--node-id={job.name}",)
        if job.slices == 1
        else (f"--node-count={job.slices}", f"--node-prefix={job.name}")
    )
    create = (
        *(*GCLOUD, "create", job.name, *_location_flags(target), *nodes),
        f"--accelerator-type={job.slice.name}",
        f"--runtime-version={job.slice.image}",
        *(*target.create_flags, "--quiet"),
    )
    what = f"{job.slices} x {job.slice.name}" if job.slices > 1 else job.slice.name
    return (
        Step(
            description=f"Create {what}: {job.slice.chips} chips {job.slice.shape} "
            f"in {job.slice.hosts} machines{' each' if job.slices > 1 else ''}.",
            commands=(create,),
            begins="machines",
        ),
        Step(
            description="Wait for the machines, which can take minutes or days.",
            commands=(("sh", "-c", _wait_loop(job, target)),),
        ),
    )


def _wait_loop(job: Job, target: QueuedResourcesTarget) -> str:
    describe = (
        *GCLOUD,
        "describe",
        job.name,
        *_location_flags(target),
        "--format=value(state.state)",
    )
    return (
        f"while :; do state=$({shlex.join(describe)}) || exit 1; "
        'case "$state" in ACTIVE) exit 0 ;; '
        f'FAILED | SUSPEND* | DELETING) echo "{job.name} is $state" >&2; exit 1 ;; esac; '
        f'echo "{job.name}: $state"; sleep 30; done'
    )


def _start_steps(job: Job, target: QueuedResourcesTarget) -> tuple[Step, ...]:
    archive = f"r1ci-{job.name}.tar.gz"
    num_hosts = job.slice.hosts * job.slices if job.slice else 1
    # On a pod jax.distributed learns addresses and process ids from the machines.
    extra = {MULTIHOST_VARIABLE: "1"} if num_hosts > 1 else {}
    settings = launch_job.worker_environment(job, extra)
    scp = (
        *GCLOUD,
        "scp",
        job.archive,
        f"{job.name}:{archive}",
        *_all_workers(job),
        *_location_flags(target),
    )
    return (
        Step(
            description="Ship the code to every worker.",
            commands=((*scp, *target.ssh_flags, "--quiet"),),
        ),
        Step(
            description="Unpack it there.",
            commands=(_shell(job, target, launch_job.unpack_command(job.folder, archive)),),
        ),
        Step(
            description="Set up every worker: Python, packages, nsjail and its Python (minutes).",
            commands=(
                _shell(job, target, launch_job.remote_command(job.folder, settings, "setup")),
            ),
        ),
        Step(
            description="Start the run on every worker; it survives this connection.",
            commands=(
                _shell(
                    job,
                    target,
                    launch_job.remote_command(job.folder, settings, "start", *job.command),
                ),
            ),
            begins="job",
        ),
    )


def _wait_commands(job: Job, target: QueuedResourcesTarget) -> tuple[Command, ...]:
    """Wait with one connection per worker, to see which one fails; a large pod shares one."""
    assert job.slice is not None
    if job.slice.hosts * job.slices > _MAX_CONNECTIONS:
        return (_ssh(job, target, "wait"),)
    return tuple(
        _ssh(job, target, "wait", (f"--node={node}", f"--worker={worker}"))
        for node in range(job.slices)
        for worker in range(job.slice.hosts)
    )[1:]


def _ssh(job: Job, target: QueuedResourcesTarget, verb: str, which: Command = ()) -> Command:
    return _shell(job, target, launch_job.remote_command(job.folder, {}, verb), which)


def _shell(job: Job, target: QueuedResourcesTarget, line: str, which: Command = ()) -> Command:
    return (
        *(*GCLOUD, "ssh", job.name, *(which or _all_workers(job)), *_location_flags(target)),
        *target.ssh_flags,
        *("--quiet", f"--command={line}"),
    )


def _all_workers(job: Job) -> Command:
    num_hosts = job.slice.hosts * job.slices if job.slice else 1
    return ("--node=all", "--worker=all", f"--batch-size={num_hosts}")


def _location_flags(target: QueuedResourcesTarget) -> Command:
    return (
        *((f"--zone={target.zone}",) if target.zone else ()),
        *((f"--project={target.project}",) if target.project else ()),
    )
