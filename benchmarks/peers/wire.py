"""Protocol of a peer: JSON requests on stdin, JSON answers on stdout, one per line.

This module uses only stdlib. A script stays alive between requests, so that requests to the sides
can alternate. Compilation, allocation and first reads belong before the first answer to a request's
shape.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

CORES = 2
"""Every side may use this many cores: the parent pins processes, this sets library pools."""


class Line:
    """A line iterates over the requests, for a peer's own loop that pulls while it runs."""

    def __init__(self, packages: Sequence[str]) -> None:
        """Report the versions of `packages` in every answer."""
        self._versions = {name: importlib.metadata.version(name) for name in packages}
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # library output must not become an answer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over requests until stdin ends."""
        return map(json.loads, sys.stdin)

    def reply(self, answer: dict[str, Any]) -> None:
        """Answer the request that was read last."""
        print(json.dumps({**answer, "versions": self._versions}), file=self._replies, flush=True)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], packages: Sequence[str]) -> None:
    """Answer requests until stdin ends."""
    line = Line(packages)
    for request in line:
        line.reply(answer(request))


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Not getrusage's: that one is inherited over exec, so a large parent would be counted too.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
