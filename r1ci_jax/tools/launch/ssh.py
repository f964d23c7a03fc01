"""Launch on existing machines by ssh: one process per machine, joined by the first's address."""

import dataclasses
from collections.abc import Iterator

from r1ci_jax.runtime import hosts
from r1ci_jax.tools.launch import job as launch_job
from r1ci_jax.tools.launch.job import Command, Job, LaunchPlan, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshTarget:
    """The machines; the first is the coordinator."""

    hosts: tuple[str, ...]
    """Names or addresses, with an optional `user@`."""
    port: int
    """Port of the coordinator, open between the machines."""
    ssh_flags: Command = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Worker:
    """Folder, archive and environment of one machine."""

    host: str
    folder: str
    archive: str
    """File name in its home directory."""
    settings: dict[str, str]


def make_plan(job: Job, target: SshTarget) -> LaunchPlan:
    """Make the steps from packing the code to the end of the run."""
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
            description="Set up every worker: Python, packages, nsjail and its Python (minutes).",
            commands=tuple(shell.verb(worker, "setup", worker.settings) for worker in workers),
        ),
        Step(
            description="Start the run on every worker; it survives this connection.",
            commands=tuple(
                shell.verb(worker, "start", worker.settings, *job.command) for worker in workers
            ),
            on_failure=stop,
            begins="job",
        ),
        Step(
            description="Show the first worker's log until the run ends; Ctrl-C does not stop it.",
            commands=follow,
            on_failure=stop,
        ),
    )
    follow_up = (
        Step(description="Follow the log again.", commands=follow[:1]),
        Step(
            description="Stop it: a checkpoint is saved; the same launch resumes.",
            commands=stop,
        ),
        *launch_job.collect_commands(job),
    )
    return LaunchPlan(steps=steps, follow_up=follow_up)


def _workers(job: Job, target: SshTarget) -> Iterator[_Worker]:
    coordinator = f"{target.hosts[0].rpartition('@')[2]}:{target.port}"
    for number, host in enumerate(target.hosts):
        distributed = {
            hosts.COORDINATOR_VARIABLE: coordinator,
            hosts.NUM_PROCESSES_VARIABLE: str(len(target.hosts)),
            hosts.PROCESS_ID_VARIABLE: str(number),
        }
        yield _Worker(
            host=host,
            # A name of its own: the machines may share one home directory.
            folder=f"{job.folder}-{number}",
            archive=f"r1ci-{job.name}-{number}.tar.gz",
            settings=launch_job.worker_environment(
                job, distributed if len(target.hosts) > 1 else {}
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Shell:
    """Commands that reach a machine; they never ask for a password."""

    target: SshTarget

    def copy(self, job: Job, worker: _Worker) -> Command:
        destination = f"{worker.host}:{worker.archive}"
        flags = ("-q", "-o", "BatchMode=yes", *self.target.ssh_flags)
        return ("scp", *flags, job.archive, destination)

    def run(self, worker: _Worker, line: str) -> Command:
        return ("ssh", "-o", "BatchMode=yes", *self.target.ssh_flags, worker.host, line)

    def verb(
        self, worker: _Worker, verb: str, settings: dict[str, str] | None = None, *words: str
    ) -> Command:
        line = launch_job.remote_command(worker.folder, settings or {}, verb, *words)
        return self.run(worker, line)
