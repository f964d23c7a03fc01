"""The far side of the Ray back end: one actor on each node, which owns that node's sandbox.

What crosses the network is made of numbers, text, bytes, lists and dicts alone, in both directions,
so that nothing which a script influenced decides how it is read. Text that may not be valid Unicode
travels as bytes, because Ray's encoding refuses lone surrogates.
"""

import asyncio
import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.host import collected_files
from r1ci_jax.sandbox.host.local import local_backend, prove
from r1ci_jax.sandbox.host.pool import LocalPool
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits, SandboxConfig

Plain = dict[str, Any]
"""Field names with numbers, text, bytes, lists and dicts of these."""

UNBOUNDED: Final = 1 << 20
"""The driver bounds what waits; a node that blocked its caller would look dead."""


def pack_text(text: str) -> bytes:
    """Any str, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def unpack_text(data: bytes) -> str:
    """The str that `pack_text` was given."""
    return data.decode("utf-8", "surrogatepass")


def pack_result(result: ExecResult) -> Plain:
    """A result as plain data."""
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    fields["status"] = result.status.value
    for name in ("stdout", "stderr", "detail"):
        fields[name] = pack_text(fields[name])
    fields["files"] = [[pack_text(name), content] for name, content in result.files.items()]
    return fields


def unpack_result(plain: Plain) -> ExecResult:
    """The result that `pack_result` was given.

    Raises:
        ValueError: it is none; the node runs another version of this package.
    """
    try:
        fields = dict(plain)
        fields["status"] = Status(fields["status"])
        for name in ("stdout", "stderr", "detail"):
            fields[name] = unpack_text(fields[name])
        fields["files"] = {unpack_text(name): content for name, content in fields["files"]}
        return ExecResult(**fields)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a result: {error}") from None


def pack_config(config: SandboxConfig) -> Plain:
    """Settings as plain data."""
    return dataclasses.asdict(config)


def unpack_config(plain: Plain) -> SandboxConfig:
    """The settings that `pack_config` was given."""
    return SandboxConfig(**{**plain, "limits": Limits(**plain["limits"])})


def open_pool(config: SandboxConfig) -> LocalPool:
    """Open the jails of this node and run a first script in one.

    Raises:
        UserError: this node cannot isolate scripts.
    """
    pool = local_backend(config)
    try:
        prove(pool)
    except BaseException:
        pool.close()
        raise
    return pool


class NodeSandbox:
    """The sandbox of one node. Ray runs its methods on one event loop, many calls at a time.

    The event loop never blocks, so `ping` answers at once however much the scripts do.
    """

    def __init__(self) -> None:
        self._pool: LocalPool | None = None
        self._sessions: dict[int, Session] = {}

    async def open(self, config: Plain) -> list[Any]:
        """Start the sandbox: [True, its tier], or [False, what is wrong with this node]."""
        try:
            settings = dataclasses.replace(unpack_config(config), queue=UNBOUNDED)
            self._pool = await asyncio.to_thread(open_pool, settings)
        except UserError as error:
            return [False, str(error)]
        return [True, str(self._pool.tier)]

    async def ping(self) -> int:
        """Show that this node answers."""
        return os.getpid()

    async def run(self, code: bytes, limits: Plain, collect: Sequence[bytes]) -> Plain:
        """Run one script."""
        assert self._pool is not None
        names = collected_files.check([unpack_text(name) for name in collect])
        future = self._pool.submit(unpack_text(code), Limits(**limits), names)
        return pack_result(await asyncio.wrap_future(future))

    async def cell(self, session: int, code: bytes, limits: Plain) -> Plain:
        """Run one cell of a session, which starts with its first cell."""
        assert self._pool is not None
        is_new = session not in self._sessions
        if is_new:
            # No other call for this session can be under way: the driver sends cells one by one.
            opened = await asyncio.to_thread(self._pool.session, Limits(**limits))
            self._sessions[session] = opened
        future = self._sessions[session].submit(unpack_text(code))
        result = await asyncio.wrap_future(future)
        if is_new and result.status in SANDBOX_FAULTS:
            await self.end(session)  # the driver tries another node
        return pack_result(result)

    async def interrupt(self, session: int) -> None:
        """Interrupt the cell that a session runs."""
        if session in self._sessions:
            await asyncio.to_thread(self._sessions[session].interrupt)

    async def end(self, session: int) -> None:
        """Close a session."""
        if session in self._sessions:
            await asyncio.to_thread(self._sessions.pop(session).close)

    async def close(self) -> None:
        """End everything on this node."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await asyncio.to_thread(session.close)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)
