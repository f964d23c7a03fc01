"""Machines that are there already and let one in by ssh: one process each, joined by addresses."""

import dataclasses
from collections.abc import Iterator

from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshTarget:
    """The machines, the first of which the others report to."""

    hosts: tuple[str, ...]
    """Names or addresses, each perhaps with `user@` before it."""
    port: int
    """Of the coordinator, open between the machines."""
    ssh_flags: Command = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Worker:
    """One machine's part."""

    host: str
    folder: str
    archive: str
    """In its home directory."""
    settings: dict[str, str]


def make_plan(job: Job, target: SshTarget) -> LaunchPlan:
    """From the code to the end of the run."""
    workers = tuple(_workers(job, target))
    shell = _Shell(target)
    stop = tuple(shell.verb(worker, "stop") for worker in workers)
    follow = tuple(
        shell.verb(worker, "wait" if number else "follow") for number, worker in enumerate(workers)
    )
    steps = (
        *launch_job.pack_commands(job),
        Step(
            description="Ship the code to every worker.",
            commands=tuple(shell.copy(job, worker) for worker in workers),
        ),
        Step(
            description="Unpack it there.",
            commands=tuple(
                shell.run(worker, launch_job.unpack_command(worker.folder, worker.archive))
                for worker in workers
            ),
        ),
        Step(
            description="Set every worker up: Python, packages, nsjail and the jail's Python (minutes).",
            commands=tuple(shell.verb(worker, "setup", worker.settings) for worker in workers),
        ),
        Step(
            description="Start the run on every worker; it outlives this connection.",
            commands=tuple(
                shell.verb(worker, "start", worker.settings, *job.command) for worker in workers
            ),
            on_failure=stop,
        ),
        Step(
            description="Show the first worker's log until the run ends; Ctrl-C leaves the run going.",
            commands=follow,
            on_failure=stop,
        ),
    )
    later = (
        Step(description="Watch it again.", commands=follow[:1]),
        Step(
            description="Stop it: a checkpoint is saved, and the same launch goes on.",
            commands=stop,
        ),
        *launch_job.collect_commands(job),
    )
    return LaunchPlan(steps=steps, follow_up=later)


def _workers(job: Job, place: SshTarget) -> Iterator[_Worker]:
    coordinator = f"{place.hosts[0].rpartition('@')[2]}:{place.port}"
    for number, host in enumerate(place.hosts):
        joined = {
            "R1CI_COORDINATOR": coordinator,
            "R1CI_PROCESSES": str(len(place.hosts)),
            "R1CI_PROCESS_ID": str(number),
        }
        yield _Worker(
            host=host,
            # A name of its own: the machines may share one home directory.
            folder=f"{job.folder}-{number}",
            archive=f"r1ci-{job.name}-{number}.tar.gz",
            settings=launch_job.environment(job, joined if len(place.hosts) > 1 else {}),
        )


@dataclasses.dataclass(frozen=True)
class _Shell:
    """Commands that reach a machine; they never ask for a password."""

    place: SshTarget

    def copy(self, job: Job, worker: _Worker) -> Command:
        target = f"{worker.host}:{worker.archive}"
        return ("scp", "-q", "-o", "BatchMode=yes", *self.place.ssh_flags, job.archive, target)

    def run(self, worker: _Worker, line: str) -> Command:
        return ("ssh", "-o", "BatchMode=yes", *self.place.ssh_flags, worker.host, line)

    def verb(
        self, worker: _Worker, verb: str, settings: dict[str, str] | None = None, *words: str
    ) -> Command:
        line = launch_job.remote(worker.folder, settings or {}, verb, *words)
        return self.run(worker, line)
