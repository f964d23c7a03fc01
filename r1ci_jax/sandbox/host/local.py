"""The back end of one machine: a pool of fork servers or of cold jails."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Protocol

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.host import jail_policy, jail_python, nsjail_binary, tiers
from r1ci_jax.sandbox.host.cgroup import Groups
from r1ci_jax.sandbox.host.cold_jail import ColdJail
from r1ci_jax.sandbox.host.fork_server_client import Worker
from r1ci_jax.sandbox.host.jail_policy import JailPolicy
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.pool import Executor, LocalPool
from r1ci_jax.sandbox.host.tiers import Tier
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.sandbox.settings import Limits, SandboxConfig


class ScriptQueue(Protocol):
    """A queue of scripts that passes each one to the next free jail."""

    def submit(
        self, code: str, limits: Limits, collect: Sequence[str]
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script."""
        ...


def local_backend(config: SandboxConfig, python: JailPython | None = None) -> LocalPool:
    """Open the pool of jails that `config` requests on this machine.

    Args:
        config: The sandbox's settings; every back end except "cold" gets fork servers.
        python: The interpreter of the jails; by default the prepared one.

    Raises:
        UserError: This machine cannot isolate scripts. There is no fallback to weaker isolation.
    """
    chosen = jail_policy.read(config.policy)
    if config.unsafe:
        return _cold_pool(config, None, jail_python.this_python(), chosen)
    nsjail = nsjail_binary.find_nsjail()
    python = dataclasses.replace(python or jail_python.find(), tree=chosen.tree)
    loaded = () if config.backend == "cold" else chosen.preload
    lacks = jail_python.missing(python, loaded)
    if lacks or (chosen.tree == jail_python.PACKAGES_TREE and not python.root.is_dir()):
        raise UserError(
            f"the policy {chosen.name} needs {', '.join(lacks) or 'further packages'} in the jail; "
            f"run `r1ci sandbox setup --packages {' '.join(jail_python.MORE_PACKAGES)}`"
        )
    if not python.root.is_dir():
        raise UserError(
            f"the sandbox's Python in {python.directory} has no {chosen.tree!r}, which the policy "
            f"{chosen.name} needs; remove it and {jail_python.HOW}"
        )
    if config.backend == "cold":
        return _cold_pool(config, nsjail, python, chosen)
    return _fork_server_pool(config, nsjail, python, chosen)


def _fork_server_pool(
    config: SandboxConfig, nsjail: pathlib.Path, python: JailPython, chosen: JailPolicy
) -> LocalPool:
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


def _cold_pool(
    config: SandboxConfig, nsjail: pathlib.Path | None, python: JailPython, chosen: JailPolicy
) -> LocalPool:
    grouped = nsjail is not None and tiers.local()[0] is Tier.CGROUP
    workers = [
        ColdJail(nsjail, python, chosen, index, Groups.create() if grouped else None)
        for index in range(config.workers)
    ]
    tier = Tier.RLIMITS if nsjail else Tier.UNSAFE
    return LocalPool(workers, room=config.queue, tier=tier)


def prove(backend: ScriptQueue) -> None:
    """Run a script to test the back end before it is used.

    Raises:
        UserError: The script did not run; the text names the remedy.
    """
    result = backend.submit("print(6 * 7)", Limits(), ()).result()
    if result.status is not Status.OK or result.stdout != "42\n":
        raise UserError(explain(result))


def explain(result: ExecResult) -> str:
    """Explain in one line why the first script did not run, and name the remedy."""
    log = result.detail.lower()
    if "clone(" in log or "unshare(" in log:
        return f"the sandbox cannot create namespaces: {namespace_problem()}"
    if "mount(" in log and "permission denied" in log:
        return (
            "the sandbox cannot mount its Python: open every directory above it to all users "
            f"(chmod o+x) or set R1CI_JAIL_PREFIX to one that is; nsjail says: {result.detail}"
        )
    said = result.detail or result.stderr.strip() or result.stdout.strip()
    return f"the sandbox does not work here ({result.status}): {said}; see `r1ci sandbox doctor`"


def namespace_problem() -> str:
    """Name the setting that forbids user namespaces, and the remedy."""
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
