"""Read a policy of `sandboxes/`, and make a jail's configuration from it and the limits of a run.

A policy is the file `<name>.toml`. It contains default limits, the modules that the fork server
loads in advance, numbers of the jail, and the names of the system-call filters. `cold.cfg` and
`fork_server.cfg` are nsjail's configurations of the two kinds of jail, for every policy.
"""

import dataclasses
import functools
import math
import os
import pathlib
import re
from typing import Literal

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import jail_policy_file
from r1ci_jax.sandbox.host.worker_user import WorkerUser
from r1ci_jax.sandbox.seccomp import call_rules
from r1ci_jax.sandbox.settings import Limits

NET_SECONDS = 60
"""nsjail's own time limit is this much longer than the wall limit."""
STACK_MIB = 8
QUEUED_SIGNALS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class JailPolicy:
    """The content of a policy's file."""

    name: str
    limits: Limits
    """Default limits, which `SandboxConfig.from_policy` uses."""
    preload: tuple[str, ...]
    """Modules that the fork server imports before the first script."""
    warm_up: str
    """Python code that the fork server runs afterwards, to load lazy parts as well."""
    inodes: int
    """Largest number of files and directories in the scratch directory."""
    open_files: int
    filters: tuple[str, ...]
    """Files of Kafel policies, all of which apply."""
    tree: str
    """Name of the prepared tree that becomes `/`: see `jail_python`."""

    def system_calls(self) -> dict[int, call_rules.Rule]:
        """Return the rules of all filters, by the numbers of the calls."""
        directory = jail_policy_file.directory()
        texts = [(directory / name).read_text("utf-8") for name in self.filters]
        return call_rules.rules("\n".join(texts))


@functools.lru_cache(maxsize=16)
def read(name: str) -> JailPolicy:
    """Read a policy by its name.

    Raises:
        UserError: There is no such policy, or its file is wrong.
    """
    content = jail_policy_file.content(name)
    directory = jail_policy_file.directory()
    try:
        jail = content["jail"]
        policy = JailPolicy(
            name=name,
            limits=Limits(**content["limits"]),
            preload=tuple(content["preload"]),
            warm_up=content["warm_up"],
            inodes=jail["inodes"],
            open_files=jail["open_files"],
            filters=tuple(jail["filters"]),
            tree=jail["tree"],
        )
    except (KeyError, TypeError) as error:
        problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"policy {name} in {directory}: {problem}; compare default.toml") from error
    for filter_name in policy.filters:
        if not (directory / filter_name).is_file():
            raise UserError(f"policy {name} names {filter_name}, which is not in {directory}")
    return policy


def child_limits(policy: JailPolicy, limits: Limits) -> dict[str, int]:
    """Return a script's resource limits, named as in setrlimit(2), and its scratch limits."""
    return {
        "memory": _mebibytes(limits.memory_bytes) << 20,
        "cpu": math.ceil(limits.cpu_seconds) + 1,
        "file": _mebibytes(limits.file_bytes) << 20,
        "files": policy.open_files,
        "processes": limits.processes + 1,  # process 1 counts, too
        "stack": STACK_MIB << 20,
        "signals": QUEUED_SIGNALS,
        "scratch": 2 * limits.file_bytes,
        "inodes": policy.inodes,
    }


def render(
    policy: JailPolicy,
    kind: Literal["cold", "fork_server"],
    root: pathlib.Path,
    limits: Limits,
    user: WorkerUser | None = None,
) -> str:
    """Return the nsjail configuration of one kind of jail.

    Args:
        policy: The policy with the jail's numbers and filter.
        kind: The name of the template.
        root: The directory that becomes `/`.
        limits: The script's limits; a fork server's jail has none, but its children have.
        user: The host's user that the jail's processes are; inside, it is nobody. By default the
            user that reserves nothing.
    """
    user = user or WorkerUser.shared()
    child = child_limits(policy, limits)
    values = {
        "NET_SECONDS": math.ceil(limits.wall_seconds) + NET_SECONDS,
        "UID": user.uid,
        "GID": user.gid,
        "MEMORY_MIB": child["memory"] >> 20,
        "CPU_SECONDS": child["cpu"],
        "FILE_MIB": child["file"] >> 20,
        "OPEN_FILES": child["files"],
        "PROCESSES": child["processes"],
        "STACK_MIB": STACK_MIB,
        "SCRATCH_BYTES": child["scratch"],
        "INODES": child["inodes"],
        "ROOT": _quote(str(root)),
        "FILTER": _quote(call_rules.kafel(policy.system_calls())),
    }
    template = (jail_policy_file.directory() / f"{kind}.cfg").read_text("utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), template)


def _mebibytes(count: int) -> int:
    return math.ceil(count / (1 << 20))


def _quote(text: str) -> str:
    """Escape for a quoted string of the text-protobuf format."""
    escaped = (
        f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\' else chr(byte)
        for byte in os.fsencode(text)
    )
    return "".join(escaped)
