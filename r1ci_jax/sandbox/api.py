"""The sandbox as its users see it: scripts in, results out."""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from typing import Self

from r1ci_jax.sandbox.backend import open_backend
from r1ci_jax.sandbox.host import collected_files
from r1ci_jax.sandbox.host.jail_python import JailPython
from r1ci_jax.sandbox.host.local import prove
from r1ci_jax.sandbox.result import ExecResult
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig


class Sandbox:
    """Runs hostile Python scripts, each in a fresh process and fresh namespaces.

    Thread-safe. Up to `config.workers` scripts run at a time, the others wait their turn.

    Raises:
        UserError: on creation, when this machine cannot isolate scripts; never falls back to less.
    """

    def __init__(self, config: SandboxConfig, *, python: JailPython | None = None):
        """Args: `python` replaces the prepared interpreter that is found by default."""
        self.config = config
        self._backend = open_backend(config, python)
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
        """The isolation of the scripts, in words; see `host.tiers`."""
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
        """Return a session, which keeps its variables from cell to cell."""
        return self._backend.session(limits or self.config.limits)

    def close(self) -> None:
        """Drop what waits, end what runs, leave nothing behind."""
        self._backend.close()
