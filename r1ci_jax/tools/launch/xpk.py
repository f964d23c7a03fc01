"""Launch a workload on a GKE cluster, through XPK.

Flags are those of `xpk workload create | list | delete` in xpk 1.16. XPK puts the code into a
container image, Kubernetes starts every worker, and restarts all of them when one exits with the
status that means "resume".
"""

import dataclasses

from r1ci_jax.errors import RESUME_EXIT_STATUS, UserError
from r1ci_jax.runtime.hosts import MULTIHOST_VARIABLE
from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step

IMAGE = "python:3.12"
"""Base image with a C compiler, git and apt, which the set-up needs."""
GRACE_SECONDS = 300
"""Time between SIGTERM and SIGKILL for the checkpoint. Spot machines give less."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class XpkTarget:
    """The cluster; an empty project or zone leaves gcloud's configuration."""

    cluster: str
    project: str = ""
    zone: str = ""
    create_flags: Command = ()
    """Further flags, such as --priority=high or --spot."""


def make_plan(job: Job, target: XpkTarget) -> LaunchPlan:
    """Make the steps from packing the code to the end of the workload."""
    assert job.slice is not None, "XPK is for TPUs here"
    if job.slice.pods == 0:
        raise UserError(
            f"XPK does not offer {job.slice.name}; use v5litepod-8 or more, or --via queued"
        )
    folder = f"{launch_job.BUILDS}/{job.name}"
    steps = (
        *launch_job.pack_commands(job),
        Step(
            description="Remove the files of an earlier launch.", commands=(("rm", "-rf", folder),)
        ),
        Step(
            description="Make a folder for the content of the image.",
            commands=(("mkdir", "-p", folder),),
        ),
        Step(description="Unpack there.", commands=(("tar", "-xzf", job.archive, "-C", folder),)),
        Step(
            description="Put the code into an image and queue it on "
            f"{job.slices} x {job.slice.name}: {job.slice.chips} chips {job.slice.shape} in "
            f"{job.slice.pods} machines each.",
            commands=(_create(job, target, folder),),
            begins="job",
        ),
        Step(
            description="Wait until the run has ended; Ctrl-C does not stop it.",
            commands=(
                (
                    "xpk",
                    "workload",
                    "list",
                    *_location_flags(target),
                    f"--wait-for-job-completion={job.name}",
                ),
            ),
        ),
    )
    selector = f"xpk.google.com/workload={job.name}"
    follow_up = (
        Step(
            description="Follow the workers' output (first: gcloud container clusters "
            "get-credentials).",
            commands=(("kubectl", "logs", "--follow", "--prefix", f"--selector={selector}"),),
        ),
        Step(
            description="Stop it: a checkpoint is saved; the same launch resumes.",
            commands=(
                ("xpk", "workload", "delete", f"--workload={job.name}", *_location_flags(target)),
            ),
        ),
        *launch_job.collect_commands(job),
    )
    return LaunchPlan(steps=steps, follow_up=follow_up)


def _create(job: Job, target: XpkTarget, folder: str) -> Command:
    assert job.slice is not None
    pods = job.slice.pods * job.slices
    # Kubernetes restarts all workers together, so none restarts by itself.
    extra = {launch_job.RESTARTS_VARIABLE: "0"}
    if pods > 1:
        extra[MULTIHOST_VARIABLE] = "1"
    settings = launch_job.worker_environment(job, extra)
    for key, value in settings.items():
        if set(value) & set('"\\$'):
            raise UserError(f"XPK cannot pass {key}={value}: leave out quotes, \\ and $")
    # `exec`, so that Kubernetes' SIGTERM reaches the worker's script and not a shell around it.
    line = "exec " + launch_job.worker_script("all", *job.command)
    return (
        *("xpk", "workload", "create", f"--workload={job.name}", *_location_flags(target)),
        f"--tpu-type={job.slice.name}",
        f"--num-slices={job.slices}",
        f"--base-docker-image={IMAGE}",
        f"--script-dir={folder}",
        f"--max-restarts={job.restarts}",
        f"--restart-on-exit-codes={RESUME_EXIT_STATUS}",
        f"--termination-grace-period-seconds={GRACE_SECONDS}",
        *(f"--env={key}={value}" for key, value in settings.items()),
        *target.create_flags,
        f"--command={line}",
    )


def _location_flags(target: XpkTarget) -> Command:
    return (
        f"--cluster={target.cluster}",
        *((f"--zone={target.zone}",) if target.zone else ()),
        *((f"--project={target.project}",) if target.project else ()),
    )
