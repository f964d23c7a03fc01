"""How a peer answers: a JSON request a line on stdin, a JSON answer a line on stdout. Stdlib only.

A script stays alive between requests, so that its peer can be asked in turn with ours. What is
compiled, allocated or read for the first time belongs before the first answer to a request's shape.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

CORES = 2
"""What every side may use; the parent binds us to so many, this sets the libraries' own pools."""


class Line:
    """The requests as an iterator, for a loop that is not ours: it asks while it runs."""

    def __init__(self, packages: Sequence[str]) -> None:
        """`packages` are those whose versions go into every answer."""
        self._versions = {name: importlib.metadata.version(name) for name in packages}
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints must not become an answer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Requests until stdin ends."""
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
