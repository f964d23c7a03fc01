"""The two exceptions that end a command with one line, their hints, and exit statuses."""

import difflib
from collections.abc import Iterable
from typing import Final

USER_ERROR_EXIT_STATUS: Final = 2
"""Wrong input or a missing prerequisite."""
RESUME_EXIT_STATUS: Final = 75
"""EX_TEMPFAIL: run the same command again, and the run resumes."""
INTERRUPTED_EXIT_STATUS: Final = 130
"""Ctrl-C; the run can be resumed."""


class UserError(Exception):
    """Wrong input or a missing prerequisite.

    The message is one line: what is wrong, then what to do. The command line prints it without a
    traceback and exits with `USER_ERROR_EXIT_STATUS`.
    """


class Resume(Exception):
    """The run stopped before its work was done; everything finished is saved.

    The message is one line. The command line prints it and exits with `RESUME_EXIT_STATUS`: the
    same command resumes.
    """


def find_close(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelled most alike; None if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean X? " with the known word that is spelled most alike, or nothing."""
    close = find_close(word, known)
    return f"did you mean {close}? " if close else ""
