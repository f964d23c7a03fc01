"""The user id of a worker's scripts on the host: one for each worker, so that none share quotas.

The Linux kernel counts some resources for each user of the machine, for example the buffers of
pipes. Root gives each worker a user id of its own, from the range that systemd reserves for users
that exist only while a service runs. Any other user may map only itself into a jail.
"""

import contextlib
import dataclasses
import os
import pathlib
import socket
from typing import Final, Self

from r1ci_jax.errors import UserError

USERS: Final = range(61184, 65520)
"""The ids that systemd reserves for its dynamic users."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerUser:
    """A user id, reserved on this machine until `release`."""

    uid: int
    gid: int
    claim: socket.socket | None
    """A socket whose abstract name reserves the id; the Linux kernel frees it with the process."""

    @classmethod
    def reserve(cls) -> Self:
        """Reserve the next id that no worker on this machine uses.

        Raises:
            UserError: All ids are in use, or this container has no ids of the range.
        """
        if os.geteuid() != 0:
            return cls(uid=os.geteuid(), gid=os.getegid(), claim=None)
        for uid in USERS:
            if not (_is_mapped("uid", uid) and _is_mapped("gid", uid)):
                continue
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                claim.bind(f"\0r1ci_jax-user-{uid}")
                return cls(uid=uid, gid=uid, claim=claim)
            claim.close()
        raise UserError(
            f"the sandbox found no free user id between {USERS.start} and {USERS.stop - 1}: start "
            "the container with these ids mapped, or close other sandboxes"
        )

    def release(self) -> None:
        """Give the id back."""
        if self.claim is not None:
            self.claim.close()


def _is_mapped(kind: str, number: int) -> bool:
    lines = pathlib.Path(f"/proc/self/{kind}_map").read_text().splitlines()
    spans = (line.split() for line in lines)
    return any(int(first) <= number < int(first) + int(count) for first, _, count in spans)
