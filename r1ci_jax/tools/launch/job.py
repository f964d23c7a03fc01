"""What is launched, in words that each way of launching understands.

`Job` is resolved by `launch_checks`; `launch_xpk`, `launch_queued` and `launch_ssh` turn it into
`Step`s, and `launch_run` carries these out or they are printed. Nothing here starts anything.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from r1ci_jax.tools.tpu import Slice

Command = tuple[str, ...]

WORKER_SCRIPT = "scripts/launch_worker.sh"
BUILDS = ".cache/launch"
"""Where archives are made, in the checkout; git ignores it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run on other machines."""

    name: str
    """Of the queued resource, the workload, and the folder on the workers."""
    slice: Slice | None
    """None: machines reached by ssh whose accelerators are not known here."""
    slices: int
    command: Command
    """What every worker runs, from the root of the shipped code."""
    workdir: str
    commit: str
    """What git archives."""
    revision: str
    """What config.json of the run says: the commit, `+changes` behind it when there were any."""
    extras: tuple[str, ...]
    """Extras of setup.py that the workers install."""
    restarts: int
    """How often a worker whose command exits 75 starts it again."""
    environment: Mapping[str, str]
    """What the user adds; it wins over ours."""

    @property
    def archive(self) -> str:
        """Where the code is packed."""
        return f"{BUILDS}/{self.name}.tar.gz"

    @property
    def folder(self) -> str:
        """Where a worker keeps it, from its home directory."""
        return f"r1ci/{self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Commands that run side by side, and a sentence on why."""

    description: str
    commands: tuple[Command, ...]
    on_failure: tuple[Command, ...] = ()
    """What is run when one of them has failed, so that nothing goes on unseen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """All steps of a launch, and what a person may want to do later."""

    steps: tuple[Step, ...]
    follow_up: tuple[Step, ...]


def pack_commands(job: Job) -> tuple[Step, ...]:
    """The first steps of every way."""
    return (
        Step(description="A folder for what is packed.", commands=(("mkdir", "-p", BUILDS),)),
        Step(
            description=f"Pack the tracked files of {job.revision}.",
            commands=(
                ("git", "archive", "--format=tar.gz", f"--output={job.archive}", job.commit),
            ),
        ),
    )


def collect_commands(job: Job) -> tuple[Step, ...]:
    """Bringing the run home from a bucket; checkpoints stay there."""
    if not job.workdir.startswith("gs://"):
        return ()
    command = ("gcloud", "storage", "rsync", "--recursive", "--exclude=^checkpoints/.*")
    return (
        Step(
            description="Copy the run here, without its checkpoints, to look at it or make a report.",
            commands=((*command, job.workdir, f"runs/{job.name}"),),
        ),
    )


def environment(job: Job, extra: Mapping[str, str]) -> dict[str, str]:
    """What the worker's processes see: ours, `extra` of the way, then the user's."""
    ours = {
        "PYTHONUNBUFFERED": "1",
        "R1CI_REVISION": job.revision,
        "R1CI_EXTRAS": ",".join(job.extras),
        "R1CI_RESTARTS": str(job.restarts),
    }
    return {**ours, **extra, **job.environment}


def remote(folder: str, environment: Mapping[str, str], *words: str) -> str:
    """One line for the shell of a worker: a command of the worker's script in its folder."""
    settings = [f"{key}={value}" for key, value in environment.items()]
    prefix = f"{shlex.join(['env', *settings])} " if settings else ""
    return f"cd {shlex.quote(folder)} && {prefix}{worker_script(*words)}"


def worker_script(*words: str) -> str:
    """A command of the worker's script, for a shell in the shipped code."""
    return shlex.join(["sh", WORKER_SCRIPT, *words])


def unpack_command(folder: str, archive: str) -> str:
    """One line for the shell of a worker: new code in place of the old, unless that still runs.

    What earlier set-ups made (.venv, .cache) and the state of the job (.job) stay.
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


def render_text(recipe: LaunchPlan) -> str:
    """The recipe for a person, and for a shell: comments, and commands to copy."""
    lines: list[str] = []
    for number, step in enumerate(recipe.steps, start=1):
        lines += [f"# {number}. {step.description}", *_shown(step.commands), ""]
    lines += ["# Later:"]
    for step in recipe.follow_up:
        lines += [
            f"# {step.description}",
            *(f"#   {line}" for line in map(shlex.join, step.commands)),
        ]
    return "\n".join(lines)


def make_report(recipe: LaunchPlan) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "steps": [_plain(step) for step in recipe.steps],
        "later": [_plain(step) for step in recipe.follow_up],
    }


def _shown(commands: Sequence[Command]) -> list[str]:
    """Several commands of one step run side by side, in a shell too."""
    lines = [shlex.join(command) for command in commands]
    return lines if len(lines) == 1 else [*(f"{line} &" for line in lines), "wait"]


def _plain(step: Step) -> dict[str, Any]:
    plain: dict[str, Any] = {"why": step.description, "commands": [list(c) for c in step.commands]}
    return plain | ({"on_failure": [list(c) for c in step.on_failure]} if step.on_failure else {})
