"""How a peer answers: a JSON request a line on stdin, a JSON answer a line on stdout. Stdlib only.

A script stays alive between requests, so that its peer can be asked in turn with ours. What is
compiled, allocated or read for the first time belongs before the first answer to a request's shape.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

CORES = 2
"""What every side may use; the parent binds us to so many, this sets the libraries' own pools."""


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], packages: Sequence[str]) -> None:
    """Answer requests until stdin ends; `packages` are those whose versions go into the answer."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not become an answer
    for line in sys.stdin:
        reply = answer(json.loads(line))
        print(json.dumps({**reply, "versions": versions}), file=replies, flush=True)


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Not getrusage's: that one is inherited over exec, so a large parent would be counted too.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
