"""The sandbox's interface for its users: it takes scripts and returns results."""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from typing import Self

from r1ci_jax.sandbox.backend import open_backend
from r1ci_jax.sandbox.host import collected_files
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.local import prove
from r1ci_jax.sandbox.result import ExecResult
from r1ci_jax.sandbox.session import Session, require_text
from r1ci_jax.sandbox.settings import Limits, SandboxConfig


class Sandbox:
    """A sandbox that runs each hostile Python script in a fresh process and fresh namespaces.

    It is thread-safe. Up to `config.workers` scripts run at a time; the others wait in a queue.

    Raises:
        UserError: On creation, this machine cannot isolate scripts. The sandbox never falls back to
            weaker isolation.
    """

    def __init__(self, config: SandboxConfig | None = None, *, python: JailPython | None = None):
        """Open the back end with `config`, or with the default settings.

        `python` replaces the prepared interpreter that is used by default.
        """
        self.config = config or SandboxConfig()
        self._backend = open_backend(self.config, python)
        try:
            prove(self._backend)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tier(self) -> str:
        """Describe the isolation of the scripts; see `host.tiers`."""
        return self._backend.tier

    def run(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> ExecResult:
        """Run one script and wait for it."""
        return self.submit(code, limits, collect=collect).result()

    def submit(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> concurrent.futures.Future[ExecResult]:
        """Queue one script; block while `config.queue` scripts wait.

        The time in the queue does not count against any limit.

        Args:
            code: The script.
            limits: The limits of this script; by default those of the config.
            collect: Files below its working directory that `ExecResult.files` returns. Links are
                not followed; a file that is missing, or larger than `file_bytes`, is left out.

        Raises:
            UserError: `code` is no text.
        """
        require_text(code)
        names = collected_files.check(collect)
        return self._backend.submit(code, limits or self.config.limits, names)

    async def run_async(
        self, code: str, limits: Limits | None = None, *, collect: Sequence[str] = ()
    ) -> ExecResult:
        """Run one script under asyncio; nothing blocks the event loop."""
        future = await asyncio.to_thread(self.submit, code, limits, collect=collect)
        return await asyncio.wrap_future(future)

    def session(self, limits: Limits | None = None) -> Session:
        """Return a session, which keeps its variables from cell to cell."""
        return self._backend.session(limits or self.config.limits)

    def close(self) -> None:
        """Drop waiting scripts, end running ones, and remove everything the sandbox created."""
        self._backend.close()
