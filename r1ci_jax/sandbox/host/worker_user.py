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

NOBODY: Final = 65534
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
    def shared(cls) -> Self:
        """Return the user that reserves nothing: nobody for root, itself for any other user."""
        if os.geteuid() == 0:
            return cls(uid=NOBODY, gid=NOBODY, claim=None)
        return cls(uid=os.geteuid(), gid=os.getegid(), claim=None)

    @classmethod
    def reserve(cls) -> Self:
        """Reserve the next id that no worker on this machine uses.

        Raises:
            UserError: All ids are in use.
        """
        spans = (_mapped("uid"), _mapped("gid"))
        mapped = [uid for uid in USERS if all(any(uid in span for span in ids) for ids in spans)]
        if os.geteuid() != 0 or not mapped:  # nsjail names what a container without ids lacks
            return cls.shared()
        for uid in mapped:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                claim.bind(f"\0r1ci_jax-user-{uid}")
                return cls(uid=uid, gid=uid, claim=claim)
            claim.close()
        raise UserError(
            f"the sandbox found no free user id between {USERS.start} and {USERS.stop - 1}: close "
            "other sandboxes on this machine"
        )

    def release(self) -> None:
        """Give the id back."""
        if self.claim is not None:
            self.claim.close()


def _mapped(kind: str) -> list[range]:
    """Return the ids of users (uid) or groups (gid) that exist in this container."""
    lines = pathlib.Path(f"/proc/self/{kind}_map").read_text().splitlines()
    spans = ([int(word) for word in line.split()] for line in lines)
    return [range(first, first + count) for first, _, count in spans]
