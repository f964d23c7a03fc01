"""The scripts of others in our sandbox: each is run, and what it prints must not change."""

import concurrent.futures
from collections.abc import Iterable, Sequence
from typing import Final

from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.text import protocol

_IN_FLIGHT: Final = 256
"""Scripts that are handed to the sandbox at a time; their results are what takes memory."""


def run(code: str, sandbox: Interpreter) -> ExecResult:
    """Run one script.

    Raises:
        UserError: No jail could be built.
    """
    return _result(sandbox.submit(code))


def run_all(codes: Iterable[str], sandbox: Interpreter) -> dict[str, ExecResult]:
    """Run every distinct script once. A script may lose its jail; there is no verdict then.

    Raises:
        UserError: No jail could be built.
    """
    results: dict[str, ExecResult] = {}
    todo = list(dict.fromkeys(codes))
    for begin in range(0, len(todo), _IN_FLIGHT):
        futures = {code: sandbox.submit(code) for code in todo[begin : begin + _IN_FLIGHT]}
        try:
            results |= {code: _result(future) for code, future in futures.items()}
        finally:
            for future in futures.values():
                future.cancel()
    return results


def unsteady(demonstrations: Sequence[Demonstration], sandbox: Interpreter) -> set[int]:
    """Run the scripts again; return the places of those with one that prints something else."""
    told: dict[int, list[tuple[str, str]]] = {}
    for place, demonstration in enumerate(demonstrations):
        texts = [segment.text for segment in demonstration.segments]
        told[place] = [
            (protocol.last_code(before) or "", segment.text)
            for before, segment in zip(texts, demonstration.segments[1:], strict=False)
            if segment.role == "observation"
        ]
    results = run_all((code for pairs in told.values() for code, _ in pairs), sandbox)
    return {
        place
        for place, pairs in told.items()
        if any(protocol.observation(results[code]) != printed for code, printed in pairs)
    }


def _result(future: concurrent.futures.Future[ExecResult]) -> ExecResult:
    result = future.result()
    if result.status is Status.SETUP_ERROR:
        raise UserError("the sandbox could not build a jail; run r1ci sandbox doctor")
    return result
