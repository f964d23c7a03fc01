"""The two exceptions that end a command with one line, and exit statuses."""

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
