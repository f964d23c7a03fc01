"""The job of a launch, and the steps that start it.

`resolve` makes the `Job`; `xpk`, `queued_resources` and `ssh` turn it into a `LaunchPlan` of
`Step`s; `execute` runs them, or they are printed. Nothing here starts anything.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from r1ci_jax.runtime.run_dir import REVISION_VARIABLE
from r1ci_jax.tools.tpu import Slice

Command = tuple[str, ...]

WORKER_SCRIPT = "scripts/launch_worker.sh"
BUILDS = ".cache/launch"
"""Directory of archives in the checkout; git ignores it."""

EXTRAS_VARIABLE: Final = "R1CI_EXTRAS"
"""Environment of the worker's script: extras of setup.py that it installs."""
RESTARTS_VARIABLE: Final = "R1CI_RESTARTS"
"""Environment of the worker's script: restarts after the exit status that means "resume"."""
UNSAFE_VARIABLE: Final = "R1CI_UNSAFE"
"""Environment of the worker's script: set when the run needs no jails."""
FETCH_VARIABLE: Final = "R1CI_FETCH"
"""Environment of the worker's script: set when published questions must be downloaded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run on other machines."""

    name: str
    """Name of the queued resource, the workload, and the folder on the workers."""
    slice: Slice | None
    """None: machines reached by ssh, whose accelerators are unknown."""
    slices: int
    command: Command
    """Command that every worker runs, from the root of the shipped code."""
    workdir: str
    commit: str
    """Commit that git archives."""
    revision: str
    """Revision recorded in the run's config.json: the commit, then `+changes` if there were any."""
    extras: tuple[str, ...]
    """Extras of setup.py that the workers install."""
    restarts: int
    """Restarts of a worker's command that exits with status 75."""
    environment: Mapping[str, str]
    """Variables that the user adds; they win over ours."""

    @property
    def archive(self) -> str:
        """Path of the packed code in the checkout."""
        return f"{BUILDS}/{self.name}.tar.gz"

    @property
    def folder(self) -> str:
        """Folder of the code on a worker, relative to its home directory."""
        return f"r1ci/{self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Commands that run in parallel, and a sentence that explains them."""

    description: str
    commands: tuple[Command, ...]
    on_failure: tuple[Command, ...] = ()
    """Commands to run when one has failed, so that no worker continues unseen."""
    begins: Literal["", "machines", "job"] = ""
    """What may exist from this step on, also if it fails: machines that cost money, or the job."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """All steps of a launch, and commands that a person may want afterwards."""

    steps: tuple[Step, ...]
    follow_up: tuple[Step, ...]
    """About the job."""
    clean_up: tuple[Step, ...] = ()
    """About the machines; they may be among the steps too."""

    def after(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Return what a person may want after these steps, the last of which may have failed."""
        missing = {step.begins for step in self.steps} - {step.begins for step in steps}
        return (
            *(self.follow_up if "job" not in missing else ()),
            *(self.clean_up if "machines" not in missing else ()),
        )

    @property
    def later(self) -> tuple[Step, ...]:
        """What a person may want after a launch that went well."""
        return (*self.follow_up, *(step for step in self.clean_up if step not in self.steps))


def pack_commands(job: Job) -> tuple[Step, ...]:
    """Pack the code: the first steps of every launch."""
    return (
        Step(description="Make a folder for the archive.", commands=(("mkdir", "-p", BUILDS),)),
        Step(
            description=f"Pack the tracked files of {job.revision}.",
            commands=(
                ("git", "archive", "--format=tar.gz", f"--output={job.archive}", job.commit),
            ),
        ),
    )


def collect_commands(job: Job) -> tuple[Step, ...]:
    """Copy the run from its bucket; checkpoints stay there."""
    if not job.workdir.startswith("gs://"):
        return ()
    command = ("gcloud", "storage", "rsync", "--recursive", "--exclude=^checkpoints/.*")
    return (
        Step(
            description="Copy the run here without its checkpoints, to read it or make a report.",
            commands=((*command, job.workdir, f"runs/{job.name}"),),
        ),
    )


def worker_environment(job: Job, extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of a worker: ours, then `extra` of the way of launching, then the user's."""
    ours = {
        "PYTHONUNBUFFERED": "1",
        REVISION_VARIABLE: job.revision,
        EXTRAS_VARIABLE: ",".join(job.extras),
        RESTARTS_VARIABLE: str(job.restarts),
    }
    return {**ours, **extra, **job.environment}


def remote_command(folder: str, environment: Mapping[str, str], *words: str) -> str:
    """Make a line for a worker's shell: a command of the worker's script in its folder."""
    settings = [f"{key}={value}" for key, value in environment.items()]
    prefix = f"{shlex.join(['env', *settings])} " if settings else ""
    return f"cd {shlex.quote(folder)} && {prefix}{worker_script(*words)}"


def worker_script(*words: str) -> str:
    """Make a command of the worker's script, for a shell in the shipped code."""
    return shlex.join(["sh", WORKER_SCRIPT, *words])


def unpack_command(folder: str, archive: str) -> str:
    """Make a line for a worker's shell: replace the old code, unless its job still runs.

    The results of earlier set-ups (.venv, .cache) and the state of the job (.job) stay.
    """
    quoted, packed = shlex.quote(folder), shlex.quote(archive)
    keep = " ".join(f"! -name {name}" for name in (".venv", ".cache", ".job", "runs"))
    return (
        f"mkdir -p {quoted} && cd {quoted} && "
        'if grep -qs launch_worker.sh "/proc/$(cat .job/pid 2>/dev/null)/cmdline"; then '
        f"echo 'the job in {folder} still runs: stop it first' >&2; exit 1; fi && "
        f"find . -mindepth 1 -maxdepth 1 {keep} -exec rm -rf {{}} + && "
        f'tar -xzf "$HOME"/{packed}'
    )


def render_text(plan: LaunchPlan) -> str:
    """Render the plan as shell commands with comments, to read or to copy."""
    lines: list[str] = []
    for number, step in enumerate(plan.steps, start=1):
        lines += [f"# {number}. {step.description}", *_shown(step.commands), ""]
    lines += ["# Later:"]
    for step in plan.later:
        lines += [
            f"# {step.description}",
            *(f"#   {line}" for line in map(shlex.join, step.commands)),
        ]
    return "\n".join(lines)


def make_report(plan: LaunchPlan) -> dict[str, Any]:
    """Describe the plan as JSON values."""
    return {
        "steps": [_plain(step) for step in plan.steps],
        "follow_up": [_plain(step) for step in plan.later],
    }


def _shown(commands: Sequence[Command]) -> list[str]:
    """Render the commands of one step; several run in parallel, in a shell too."""
    lines = [shlex.join(command) for command in commands]
    return lines if len(lines) == 1 else [*(f"{line} &" for line in lines), "wait"]


def _plain(step: Step) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "description": step.description,
        "commands": [list(command) for command in step.commands],
    }
    if step.on_failure:
        plain["on_failure"] = [list(command) for command in step.on_failure]
    return plain
