"""TPU machines of one's own: a queued resource of the TPU API, reached through gcloud.

Flags are those of `gcloud compute tpus queued-resources create | describe | scp | ssh | delete`.
"""

import dataclasses
import shlex

from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step

_FIRST = ("--node=0", "--worker=0")
_MAX_CONNECTIONS = 16
GCLOUD = ("gcloud", "compute", "tpus", "queued-resources")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueuedResourcesTarget:
    """Where and how the machines are had; empty: what gcloud is configured for."""

    project: str = ""
    zone: str = ""
    reuse: bool = False
    """The queued resource of this name is there already."""
    delete: bool = False
    """Give the machines back when the run has ended well."""
    create_flags: Command = ()
    """Such as --spot or --reserved."""
    ssh_flags: Command = ()
    """Such as --tunnel-through-iap."""


def make_plan(job: Job, target: QueuedResourcesTarget) -> LaunchPlan:
    """From an order for machines to the end of the run."""
    follow = Step(
        description="Show the first worker's log until the run ends; Ctrl-C leaves the run going.",
        commands=(_ssh(job, target, "follow", _FIRST), *_waits(job, target)),
        on_failure=(_ssh(job, target, "stop"),),
    )
    delete = Step(
        description="Give the machines back: they cost money until then.",
        commands=((*GCLOUD, "delete", job.name, *_where(target), "--force", "--quiet"),),
    )
    steps = (
        *launch_job.pack_commands(job),
        *(() if target.reuse else _order(job, target)),
        *_prepare(job, target),
        follow,
        *((delete,) if target.delete else ()),
    )
    later = (
        dataclasses.replace(follow, description="Watch it again.", commands=follow.commands[:1]),
        Step(
            description="Stop it: a checkpoint is saved, and the same launch with --reuse goes on.",
            commands=follow.on_failure,
        ),
        *launch_job.collect_commands(job),
        *(() if target.delete else (delete,)),
    )
    return LaunchPlan(steps=steps, follow_up=later)


def _order(job: Job, place: QueuedResourcesTarget) -> tuple[Step, ...]:
    assert job.slice is not None, "queued resources are TPUs"
    nodes = (
        (f"--node-id={job.name}",)
        if job.slices == 1
        else (f"--node-count={job.slices}", f"--node-prefix={job.name}")
    )
    create = (
        *(*GCLOUD, "create", job.name, *_where(place), *nodes),
        f"--accelerator-type={job.slice.name}",
        f"--runtime-version={job.slice.image}",
        *(*place.create_flags, "--quiet"),
    )
    what = f"{job.slices} x {job.slice.name}" if job.slices > 1 else job.slice.name
    return (
        Step(
            description=f"Order {what}: {job.slice.chips} chips {job.slice.shape} "
            f"in {job.slice.hosts} machines{' each' if job.slices > 1 else ''}.",
            commands=(create,),
        ),
        Step(
            description="Wait for the machines, which can take minutes or days.",
            commands=(("sh", "-c", _waiting(job, place)),),
        ),
    )


def _waiting(job: Job, place: QueuedResourcesTarget) -> str:
    describe = (*GCLOUD, "describe", job.name, *_where(place), "--format=value(state.state)")
    return (
        f"while :; do state=$({shlex.join(describe)}) || exit 1; "
        'case "$state" in ACTIVE) exit 0 ;; '
        f'FAILED | SUSPEND* | DELETING) echo "{job.name} is $state" >&2; exit 1 ;; esac; '
        f'echo "{job.name}: $state"; sleep 30; done'
    )


def _prepare(job: Job, place: QueuedResourcesTarget) -> tuple[Step, ...]:
    archive = f"r1ci-{job.name}.tar.gz"
    hosts = job.slice.hosts * job.slices if job.slice else 1
    # On a pod jax.distributed learns addresses and numbers from the machines themselves.
    extra = {"R1CI_MULTIHOST": "1"} if hosts > 1 else {}
    settings = launch_job.environment(job, extra)
    scp = (*GCLOUD, "scp", job.archive, f"{job.name}:{archive}", *_everywhere(job), *_where(place))
    return (
        Step(
            description="Ship the code to every worker.",
            commands=((*scp, *place.ssh_flags, "--quiet"),),
        ),
        Step(
            description="Unpack it there.",
            commands=(_shell(job, place, launch_job.unpack_command(job.folder, archive)),),
        ),
        Step(
            description="Set every worker up: Python, packages, nsjail and the jail's Python (minutes).",
            commands=(_shell(job, place, launch_job.remote(job.folder, settings, "setup")),),
        ),
        Step(
            description="Start the run on every worker; it outlives this connection.",
            commands=(
                _shell(job, place, launch_job.remote(job.folder, settings, "start", *job.command)),
            ),
        ),
    )


def _waits(job: Job, place: QueuedResourcesTarget) -> tuple[Command, ...]:
    """One connection a worker tells which one failed, at once; a big pod shares one."""
    assert job.slice is not None
    if job.slice.hosts * job.slices > _MAX_CONNECTIONS:
        return (_ssh(job, place, "wait"),)
    return tuple(
        _ssh(job, place, "wait", (f"--node={node}", f"--worker={worker}"))
        for node in range(job.slices)
        for worker in range(job.slice.hosts)
    )[1:]


def _ssh(job: Job, place: QueuedResourcesTarget, verb: str, which: Command = ()) -> Command:
    return _shell(job, place, launch_job.remote(job.folder, {}, verb), which)


def _shell(job: Job, place: QueuedResourcesTarget, line: str, which: Command = ()) -> Command:
    return (
        *(*GCLOUD, "ssh", job.name, *(which or _everywhere(job)), *_where(place)),
        *place.ssh_flags,
        *("--quiet", f"--command={line}"),
    )


def _everywhere(job: Job) -> Command:
    hosts = job.slice.hosts * job.slices if job.slice else 1
    return ("--node=all", "--worker=all", f"--batch-size={hosts}")


def _where(place: QueuedResourcesTarget) -> Command:
    return (
        *((f"--zone={place.zone}",) if place.zone else ()),
        *((f"--project={place.project}",) if place.project else ()),
    )
