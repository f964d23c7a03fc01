"""The remote part of the Ray back end: one actor on each node, which owns that node's sandbox.

Messages in both directions consist of numbers, text, bytes, lists and dicts only, so no data that a
script influenced decides how a message is decoded. Text that may be invalid Unicode is sent as
bytes, because Ray's encoding refuses lone surrogates.
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
"""Field names with values that are numbers, text, bytes, or lists and dicts of these."""

UNBOUNDED: Final = 1 << 20
"""The driver bounds the queue; a node that blocked its caller would seem lost."""


def pack_text(text: str) -> bytes:
    """Encode any str, including lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def unpack_text(data: bytes) -> str:
    """Decode the str that `pack_text` encoded."""
    return data.decode("utf-8", "surrogatepass")


def pack_result(result: ExecResult) -> Plain:
    """Encode a result as plain data."""
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    fields["status"] = result.status.value
    for name in ("stdout", "stderr", "detail"):
        fields[name] = pack_text(fields[name])
    fields["files"] = [[pack_text(name), content] for name, content in result.files.items()]
    return fields


def unpack_result(plain: Plain) -> ExecResult:
    """Decode the result that `pack_result` encoded.

    Raises:
        ValueError: The data is not a result, because the node runs another version of this package.
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
    """Encode settings as plain data."""
    return dataclasses.asdict(config)


def unpack_config(plain: Plain) -> SandboxConfig:
    """Decode the settings that `pack_config` encoded."""
    return SandboxConfig(**{**plain, "limits": Limits(**plain["limits"])})


def open_pool(config: SandboxConfig) -> LocalPool:
    """Open the jails of this node and run a first script in one.

    Raises:
        UserError: This node cannot isolate scripts.
    """
    pool = local_backend(config)
    try:
        prove(pool)
    except BaseException:
        pool.close()
        raise
    return pool


class NodeSandbox:
    """The sandbox of one node; Ray runs its methods on one event loop, many calls at a time.

    The event loop never blocks, so `ping` answers at once even under heavy load.
    """

    def __init__(self) -> None:
        self._pool: LocalPool | None = None
        self._sessions: dict[int, Session] = {}

    async def open(self, config: Plain) -> list[Any]:
        """Start the sandbox; return [True, its tier] or [False, this node's problem]."""
        try:
            settings = dataclasses.replace(unpack_config(config), queue=UNBOUNDED)
            self._pool = await asyncio.to_thread(open_pool, settings)
        except UserError as error:
            return [False, str(error)]
        return [True, str(self._pool.tier)]

    async def ping(self) -> int:
        """Answer, to show that this node is alive."""
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
            # No other call for this session can be pending: the driver sends cells one by one.
            opened = await asyncio.to_thread(self._pool.session, Limits(**limits))
            self._sessions[session] = opened
        future = self._sessions[session].submit(unpack_text(code))
        result = await asyncio.wrap_future(future)
        if is_new and result.status in SANDBOX_FAULTS:
            await self.end(session)  # the driver tries another node
        return pack_result(result)

    async def interrupt(self, session: int) -> None:
        """Interrupt a session's running cell."""
        if session in self._sessions:
            await asyncio.to_thread(self._sessions[session].interrupt)

    async def end(self, session: int) -> None:
        """Close a session."""
        if session in self._sessions:
            await asyncio.to_thread(self._sessions.pop(session).close)

    async def close(self) -> None:
        """End all sessions and scripts on this node."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await asyncio.to_thread(session.close)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)
