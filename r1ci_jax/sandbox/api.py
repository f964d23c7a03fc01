"""The sandbox as its users see it: scripts in, results out."""

import asyncio
import concurrent.futures
import dataclasses
import pathlib
import types
from collections.abc import Sequence
from typing import Protocol, Self

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.host import collected_files, jail_policy, jail_python, nsjail_binary, tiers
from r1ci_jax.sandbox.host.cgroup import Groups
from r1ci_jax.sandbox.host.cold_jail import ColdJail
from r1ci_jax.sandbox.host.fork_server_client import Worker
from r1ci_jax.sandbox.host.jail_policy import Policy
from r1ci_jax.sandbox.host.pool import Executor, LocalPool
from r1ci_jax.sandbox.host.tiers import Tier
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig


class Backend(Protocol):
    """Where scripts run."""

    @property
    def tier(self) -> str:
        """What they are held by."""
        ...

    def submit(
        self, code: str, limits: Limits, collect: Sequence[str]
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script."""
        ...

    def session(self, limits: Limits) -> Session:
        """A session."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class Sandbox:
    """Runs hostile Python scripts, each in a fresh process and fresh namespaces.

    Thread-safe. Up to `config.workers` scripts run at a time, the others wait their turn.

    Raises:
        UserError: on creation, when this machine cannot isolate scripts; never falls back to less.
    """

    def __init__(self, config: SandboxConfig, *, python: jail_python.JailPython | None = None):
        """Args: `python` replaces the prepared interpreter that is found by default."""
        self.config = config
        self._backend = _backend(config, python)
        try:
            _prove(self)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    @property
    def tier(self) -> str:
        """What scripts are held by."""
        return self._backend.tier

    def run(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> ExecResult:
        """Run one script and wait for it."""
        return self.submit(code, limits, collect=collect).result()

    def submit(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script; blocks while `config.queue` scripts wait. Waiting costs no limit.

        Args:
            code: The script.
            limits: For this script; by default the config's.
            collect: Files below its working directory that come back in `ExecResult.files`. Links
                are not followed; what is missing, or larger than `file_bytes`, is left out.
        """
        names = collected_files.check(collect)
        return self._backend.submit(code, limits or self.config.limits, names)

    async def run_async(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> ExecResult:
        """The same for asyncio; nothing blocks the event loop."""
        future = await asyncio.to_thread(self.submit, code, limits, collect=collect)
        return await asyncio.wrap_future(future)

    def session(self, limits: Limits | None = None) -> Session:
        """A kernel that keeps its variables from cell to cell."""
        return self._backend.session(limits or self.config.limits)

    def close(self) -> None:
        """Drop what waits, end what runs, leave nothing behind."""
        self._backend.close()


def _backend(config: SandboxConfig, python: jail_python.JailPython | None) -> Backend:
    if config.backend == "ray":
        from r1ci_jax.sandbox.ray.ray_pool import RayPool

        return RayPool(config)
    chosen = jail_policy.read(config.policy)
    if config.unsafe:
        return _cold(config, None, jail_python.this_python(), chosen)
    nsjail = nsjail_binary.find_nsjail()
    python = dataclasses.replace(python or jail_python.find(), tree=chosen.tree)
    if not python.root.is_dir():
        raise UserError(
            f"the sandbox's Python in {python.directory} has no {chosen.tree!r}, which the policy "
            f"{chosen.name} needs; remove it and {jail_python.HOW}"
        )
    if config.backend == "cold":
        return _cold(config, nsjail, python, chosen)
    tier, _ = tiers.local()
    workers: list[Executor] = []
    try:
        for index in range(config.workers):
            groups = Groups.create() if tier is Tier.CGROUP else None
            workers.append(Worker(nsjail, python, chosen, index, groups))
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    return LocalPool(workers, room=config.queue, tier=tier)


def _cold(
    config: SandboxConfig,
    nsjail: pathlib.Path | None,
    python: jail_python.JailPython,
    chosen: Policy,
) -> Backend:
    workers = [ColdJail(nsjail, python, chosen, index) for index in range(config.workers)]
    tier = Tier.RLIMITS if nsjail else Tier.UNSAFE
    return LocalPool(workers, room=config.queue, tier=tier)


def _prove(box: Sandbox) -> None:
    """Run a script before anybody relies on it."""
    result = box.run("print(6 * 7)", Limits())
    if result.status is not Status.OK or result.stdout != "42\n":
        raise UserError(explain(result))


def explain(result: ExecResult) -> str:
    """One line: why the first script did not run and what mends it."""
    log = result.detail.lower()
    if "clone(" in log or "unshare(" in log:
        return f"the sandbox cannot create namespaces: {namespace_problem()}"
    if "mount(" in log and "permission denied" in log:
        return (
            "the sandbox cannot mount its Python: open every directory above it to all users "
            f"(chmod o+x) or set R1CI_JAIL_PREFIX to a place that is; nsjail says: {result.detail}"
        )
    said = result.detail or result.stderr.strip() or result.stdout.strip()
    return f"the sandbox does not work here ({result.status}): {said}; see `r1ci sandbox doctor`"


def namespace_problem() -> str:
    """What forbids user namespaces, and the way out."""
    switches = (
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    for path, bad, cure in switches:
        file = pathlib.Path(path)
        if file.exists() and file.read_text().strip() == bad:
            return f"{path} is {bad}; run as root: {cure}"
    return (
        "user namespaces are refused, probably by the container this runs in; start the container "
        "with --security-opt seccomp=unconfined (or --privileged)"
    )
