"""Examine step by step whether this machine can run jails."""

import dataclasses
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable
from typing import Literal

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import jail_policy_file
from r1ci_jax.sandbox.api import Sandbox
from r1ci_jax.sandbox.host import jail_policy, jail_python, nsjail_binary, tiers
from r1ci_jax.sandbox.host.local import namespace_problem
from r1ci_jax.sandbox.result import Status
from r1ci_jax.sandbox.settings import SandboxConfig

# Each of these must fail inside; only the system-call filter refuses socket(AF_VSOCK).
PROBE = """
import os, socket
open_doors = []
try: socket.socket(40, socket.SOCK_STREAM); open_doors.append("AF_VSOCK sockets")
except PermissionError: pass
try: os.unshare(0x10000000); open_doors.append("nested user namespaces")
except (AttributeError, OSError): pass
if os.path.exists("/etc/passwd"): open_doors.append("host files")
if os.listdir("/proc"): open_doors.append("/proc")
print(",".join(open_doors))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    detail: str


def examine() -> list[Check]:
    """Run all checks, in the order in which a failure explains the following ones."""
    return [
        _check("platform", _platform),
        _check("nsjail", lambda: str(nsjail_binary.find_nsjail())),
        _check("namespaces", _namespaces),
        _check("python", lambda: str(jail_python.find().directory)),
        _check("policy", _policies),
        _check("tier", tier),
        _check("zygote", lambda: _self_test("zygote")),
        _check("cold", lambda: _self_test("cold")),
    ]


def tier() -> str:
    """Describe the isolation of scripts on this machine and the needs of a higher tier."""
    identity = "root, mapped to nobody" if os.geteuid() == 0 else "unprivileged, own id mapped"
    reached, missing = tiers.local()
    return f"{reached} ({identity})" + (f"; {missing}" if missing else "")


def _check(name: str, examination: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=examination())
    except UserError as error:
        return Check(name=name, ok=False, detail=str(error))


def _platform() -> str:
    if sys.platform != "linux":
        raise UserError(f"the sandbox needs Linux and this is {sys.platform}; use a Linux machine")
    return f"Linux {platform.release()} {platform.machine()}"


def _namespaces() -> str:
    try:
        most = pathlib.Path("/proc/sys/user/max_user_namespaces").read_text().strip()
    except OSError:
        raise UserError(f"this kernel has no user namespaces: {namespace_problem()}") from None
    if most == "0":
        raise UserError(namespace_problem())
    return f"user namespaces, at most {most}"


def _policies() -> str:
    names = jail_policy_file.names()
    for name in names:
        jail_policy.read(name)
    return f"{', '.join(names)} in {jail_policy_file.directory()}"


def _self_test(backend: Literal["zygote", "cold"]) -> str:
    with Sandbox(SandboxConfig(workers=1, backend=backend)) as box:
        begin = time.monotonic()
        result = box.run(PROBE)
        seconds = time.monotonic() - begin
    if result.status is not Status.OK:
        raise UserError(
            f"the probe ended with {result.status}: {result.stderr.strip() or result.detail}"
        )
    if result.stdout.strip():
        raise UserError(
            f"the jail leaks: {result.stdout.strip()}; report this with your kernel version"
        )
    return (
        f"a script ran in {seconds * 1000:.0f} ms; no socket, namespace, host file or /proc inside"
    )
