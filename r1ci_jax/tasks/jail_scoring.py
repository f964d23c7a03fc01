"""Third-party scorers in the jail: the answer is passed as data, and one number is returned.

`reasoning_gym` and `math_verify` are large libraries that were not written for hostile answers. So
they run in the project's own sandbox (policy `grader`): each answer has a new process in new
namespaces, without network, files or further processes, for two seconds at most.

The output of a script is not a verdict by itself. Before the scorer starts, standard output and
error are discarded. The number is written, after a random word generated for this answer, to a
reserved descriptor, and is accepted only if nothing else arrived there and the process ended by
itself with status 0. So no answer can change another's number or reach the host, and printing,
exiting or crashing gives no number. An answer that ran as code beside its scorer could find the
word and report a number for itself. So the programs that score begin with `NO_CODE_FROM_TEXT`, and
the shape of an answer is checked before.
"""

import atexit
import collections
import json
import os
import re
import secrets
import threading
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.result import SANDBOX_FAULTS

POLICY: Final = "grader"
WORKERS: Final = 2
"""The number of fork servers, each of 200 MB, that score in parallel."""
AHEAD: Final = 64
"""The number of pending answers, each of which holds its script in memory."""
_SCRIPT: Final = """\
import json, os
aside = os.dup(1)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
request = json.loads({request!r})
{program}
os.write(aside, ("{word} %r" % float(number)).encode())
os._exit(0)
"""
NO_CODE_FROM_TEXT: Final = """
import builtins, sys
def _refuse_text(run, flags_allowed=()):
    def checked(source, *rest, **named):
        flags = named.get("flags", rest[2] if len(rest) > 2 else 0)
        is_template = sys._getframe(1).f_globals.get("__name__") in {templates!r}
        if isinstance(source, (str, bytes)) and not is_template and flags not in flags_allowed:
            raise PermissionError("beside an answer no text is run")
        return run(source, *rest, **named)
    return checked
builtins.eval, builtins.exec = _refuse_text(eval), _refuse_text(exec)
builtins.compile = _refuse_text(compile, flags_allowed=(0x400,))
""".format(templates=("sympy.polys.monomials", "collections", "dataclasses"))
"""Python after which no text becomes code in its process; syntax trees (flag 0x400) can still be
made, and the templates that these modules fill with names of their own still run."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-][0-9]{1,3})?")
_MISSING: Final = "import importlib.util as u; print(u.find_spec({module!r}) is None)"


class ScoringJail:
    """A sandbox for scorers, opened on first use; threads share it, and a fork opens its own."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers
        self._sandbox: Sandbox | None = None
        self._found: set[str] = set()
        self._abandoned: list[Sandbox] = []
        self._lock = threading.Lock()

    def numbers(
        self, program: str, requests: Sequence[Any], limits: Limits | None = None
    ) -> list[float | None]:
        """Run the program once for each request, several in parallel.

        Args:
            program: Python that sets `number` from `request`.
            requests: Values of JSON types.
            limits: Limits that replace the policy's.

        Returns:
            The numbers; None where the program was killed, crashed, raised, or wrote anything else.

        Raises:
            UserError: There is no jail on this machine, or it failed.
        """
        if not requests:
            return []
        sandbox = self._opened()
        found: list[float | None] = []
        waiting = collections.deque[tuple[str, Any]]()
        for request in requests:
            word = secrets.token_hex(16)
            script = _SCRIPT.format(request=json.dumps(request), program=program, word=word)
            waiting.append((word, sandbox.submit(script, limits)))
            if len(waiting) >= AHEAD:
                word, future = waiting.popleft()
                found.append(read(future.result(), word))
        return found + [read(future.result(), word) for word, future in waiting]

    def require(self, module: str, cure: str) -> None:
        """Make sure that the jail's Python has a module.

        Raises:
            UserError: The module is missing; the message names the remedy.
        """
        if module in self._found:
            return
        result = self._opened().run(_MISSING.format(module=module))
        if result.stdout != "False\n":
            raise UserError(f"the sandbox's Python lacks {module}; {cure}")
        self._found.add(module)

    def close(self) -> None:
        """Close the sandbox; the next request opens another."""
        with self._lock:
            sandbox, self._sandbox = self._sandbox, None
            self._found.clear()
        if sandbox is not None:
            sandbox.close()

    def abandon(self) -> None:
        """Drop the parent's sandbox in a forked process without closing it."""
        self._lock = threading.Lock()
        if self._sandbox is not None:
            self._abandoned.append(self._sandbox)  # Deleting it would look for its processes.
            self._sandbox = None

    def _opened(self) -> Sandbox:
        with self._lock:
            if self._sandbox is None:
                config = SandboxConfig.from_policy(POLICY, workers=self._workers)
                self._sandbox = Sandbox(config)
            return self._sandbox


def read(result: ExecResult, word: str) -> float | None:
    """Return the number that a run reported after its word, if it did nothing else.

    Raises:
        UserError: The sandbox failed, which does not depend on the answer.
    """
    if result.status in SANDBOX_FAULTS:
        raise UserError(
            f"an answer could not be scored: the sandbox failed ({result.status}: "
            f"{result.detail}); see `r1ci sandbox doctor`"
        )
    if result.status is not Status.OK:
        return None
    said, _, number = result.stdout.partition(" ")
    if said != word or _NUMBER.fullmatch(number) is None:
        return None
    return float(number)


SCORING_JAIL: Final = ScoringJail()
"""The scoring jail of this process."""
atexit.register(SCORING_JAIL.close)
os.register_at_fork(after_in_child=SCORING_JAIL.abandon)
