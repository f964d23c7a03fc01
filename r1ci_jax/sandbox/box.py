"""The sandbox as its users see it: scripts in, results out."""

import concurrent.futures
import dataclasses
import pathlib
import queue
import threading
import time
import types
from typing import Final, Self

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import binary, policy, prefix
from r1ci_jax.sandbox.config import Limits, SandboxConfig
from r1ci_jax.sandbox.jail import ColdJail
from r1ci_jax.sandbox.result import ExecResult, Status

ATTEMPTS: Final = 2
"""Runs of a script whose jail was lost; scripts that merely fail run once."""
SANDBOX_FAULTS: Final = (Status.SETUP_ERROR, Status.INFRA_ERROR)


class Sandbox:
    """Runs hostile Python scripts, each in a jail of its own.

    Thread-safe. Up to `config.workers` scripts run at a time, the others wait their turn.

    Raises:
        UserError: on creation, when this machine cannot run jails; never falls back to less.
    """

    def __init__(self, config: SandboxConfig, *, python: prefix.JailPython | None = None):
        """Args: `python` replaces the prepared interpreter that is found by default."""
        self.config = config
        nsjail = binary.find_nsjail()
        python = python or prefix.find()
        policy.read_template(config.policy)
        self._jails = [ColdJail(nsjail, python, config.policy, i) for i in range(config.workers)]
        self._idle: queue.SimpleQueue[ColdJail] = queue.SimpleQueue()
        for jail in self._jails:
            self._idle.put(jail)
        self._closing = threading.Event()
        self._threads = concurrent.futures.ThreadPoolExecutor(config.workers, "sandbox")
        try:
            self._prove()
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

    def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        """Run one script and wait for it."""
        return self.submit(code, limits).result()

    def submit(
        self, code: str, limits: Limits | None = None
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script. Time in the queue counts towards no limit."""
        return self._threads.submit(self._run, code, limits or self.config.limits, time.monotonic())

    def close(self) -> None:
        """Drop what waits, end what runs, leave nothing behind."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for jail in self._jails:
            jail.stop()
        self._threads.shutdown(wait=True)
        for jail in self._jails:
            jail.close()

    def _run(self, code: str, limits: Limits, queued: float) -> ExecResult:
        queue_seconds = time.monotonic() - queued
        jail = self._idle.get()
        try:
            for attempt in range(1, ATTEMPTS + 1):
                result = dataclasses.replace(jail.run(code, limits), attempt=attempt)
                if result.status not in SANDBOX_FAULTS or self._closing.is_set():
                    break
        finally:
            self._idle.put(jail)
        return dataclasses.replace(result, queue_seconds=queue_seconds)

    def _prove(self) -> None:
        """Run a script before anybody relies on it."""
        result = self.run("print(6 * 7)", Limits())
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
