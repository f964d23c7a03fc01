"""A workload on a GKE cluster, through XPK.

Flags are those of `xpk workload create | list | delete` in xpk 1.16. XPK puts the code into a
container's image, Kubernetes starts every worker, and starts all of them again when one exits with
a status that is named here.
"""

import dataclasses

from r1ci_jax.errors import UserError
from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step

RESUME_ME = 75
"""A worker's exit status after SIGTERM or the loss of another worker: start me again."""
IMAGE = "python:3.12"
"""Brings a C compiler, git and apt, which the set-up needs."""
GRACE_SECONDS = 300
"""Between SIGTERM and SIGKILL, for the checkpoint. Spot machines give less."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class XpkTarget:
    """Where the workload goes; empty project or zone: what gcloud is configured for."""

    cluster: str
    project: str = ""
    zone: str = ""
    create_flags: Command = ()
    """Such as --priority=high or --spot."""


def make_plan(job: Job, target: XpkTarget) -> LaunchPlan:
    """From the code to the end of the workload."""
    assert job.slice is not None, "XPK is for TPUs here"
    if job.slice.pods == 0:
        raise UserError(
            f"XPK does not offer {job.slice.name}; use v5litepod-8 or more, or --via queued"
        )
    folder = f"{launch_job.BUILDS}/{job.name}"
    steps = (
        *launch_job.pack_commands(job),
        Step(description="No files of an earlier launch.", commands=(("rm", "-rf", folder),)),
        Step(description="A folder for the image's content.", commands=(("mkdir", "-p", folder),)),
        Step(description="Unpack there.", commands=(("tar", "-xzf", job.archive, "-C", folder),)),
        Step(
            description=f"Put the code into an image and queue it on {job.slices} x {job.slice.name}: "
            f"{job.slice.chips} chips {job.slice.shape} in {job.slice.pods} machines each.",
            commands=(_create(job, target, folder),),
        ),
        Step(
            description="Wait until it has ended; Ctrl-C leaves it going.",
            commands=(
                (
                    "xpk",
                    "workload",
                    "list",
                    *_where(target),
                    f"--wait-for-job-completion={job.name}",
                ),
            ),
        ),
    )
    selector = f"xpk.google.com/workload={job.name}"
    later = (
        Step(
            description="Watch the workers' output (after: gcloud container clusters get-credentials).",
            commands=(("kubectl", "logs", "--follow", "--prefix", f"--selector={selector}"),),
        ),
        Step(
            description="Stop it: a checkpoint is saved, and the same launch goes on from there.",
            commands=(("xpk", "workload", "delete", f"--workload={job.name}", *_where(target)),),
        ),
        *launch_job.collect_commands(job),
    )
    return LaunchPlan(steps=steps, follow_up=later)


def _create(job: Job, place: XpkTarget, folder: str) -> Command:
    assert job.slice is not None
    pods = job.slice.pods * job.slices
    # Kubernetes starts all workers again together, so none does it by itself.
    extra = {"R1CI_RESTARTS": "0"} | ({"R1CI_MULTIHOST": "1"} if pods > 1 else {})
    settings = launch_job.environment(job, extra)
    for key, value in settings.items():
        if set(value) & set('"\\$'):
            raise UserError(f"XPK cannot pass on {key}={value}: leave out quotes, \\ and $")
    # `exec`, so that Kubernetes' SIGTERM reaches the worker's script and not a shell around it.
    line = "exec " + launch_job.worker_script("all", *job.command)
    return (
        *("xpk", "workload", "create", f"--workload={job.name}", *_where(place)),
        f"--tpu-type={job.slice.name}",
        f"--num-slices={job.slices}",
        f"--base-docker-image={IMAGE}",
        f"--script-dir={folder}",
        f"--max-restarts={job.restarts}",
        f"--restart-on-exit-codes={RESUME_ME}",
        f"--termination-grace-period-seconds={GRACE_SECONDS}",
        *(f"--env={key}={value}" for key, value in settings.items()),
        *place.create_flags,
        f"--command={line}",
    )


def _where(place: XpkTarget) -> Command:
    return (
        f"--cluster={place.cluster}",
        *((f"--zone={place.zone}",) if place.zone else ()),
        *((f"--project={place.project}",) if place.project else ()),
    )
