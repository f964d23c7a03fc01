"""The child process that compares two LaTeX expressions with math-verify.

It reads one JSON line [expected, given] after another and answers each with a line "1" or "0". It
runs no model text: only LaTeX is parsed, by a grammar. But evaluating what was parsed may take
for ever or fill the memory, so `math_checker` kills this process when it is late, and limits and an
alarm end it where nobody is left to do so.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable

MEMORY_BYTES = 2 * 1024**3
_ALARM_FACTOR = 2
"""The parent is first to act on a late answer; the alarm is for a parent that has died."""


def serve(seconds: float) -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    logging.disable(logging.CRITICAL)
    equal = _comparison()
    _limit()
    print("ready", file=replies)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, _ALARM_FACTOR * seconds)
        expected, given = json.loads(line)
        print(int(equal(expected, given)), file=replies)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _comparison() -> Callable[[str, str], bool]:
    # Imported here: the parent must never load it, and it takes a second.
    import math_verify
    from math_verify.parser import LatexExtractionConfig

    latex = [LatexExtractionConfig()]

    def parsed(text: str) -> list:
        return math_verify.parse(
            f"\\boxed{{{text}}}",
            extraction_config=latex,
            fallback_mode="no_fallback",
            parsing_timeout=0,
            raise_on_error=False,
        )

    def equal(expected: str, given: str) -> bool:
        try:
            return math_verify.verify(
                parsed(expected),
                parsed(given),
                float_rounding=12,  # an exact form is asked, so a rounded decimal must not pass
                numeric_precision=30,
                strict=True,
                timeout_seconds=None,
            )
        except (Exception, RecursionError, MemoryError):
            return False  # whatever a parser stumbles over is no right answer

    assert equal("\\frac{1}{2}\\sqrt{3}", "\\sqrt{3}/2")  # fills the grammar's caches
    return equal


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    serve(float(sys.argv[1]))
