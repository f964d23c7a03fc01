"""How a run ends early: an error that is the user's to mend, or a stop that can be resumed."""

USER_ERROR = 2
RESUME = 75
"""EX_TEMPFAIL: a scheduler that runs the same command again lets the run go on."""
INTERRUPTED = 130
"""Exit statuses of the command line."""


class UserError(Exception):
    """Wrong input or a missing prerequisite.

    The message is one line: what is wrong, then what to do. The command line prints it without a
    traceback and exits with status 2.
    """


class Resume(Exception):
    """The run ended before its work did, and everything finished is saved.

    The message is one line. The command line prints it and exits with status 75 (EX_TEMPFAIL): the
    same command goes on from there.
    """
