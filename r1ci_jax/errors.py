"""Errors that are the user's to mend: one line that says what is wrong and what to do."""


class UserError(Exception):
    """Wrong input or a missing prerequisite.

    The message is one line: what is wrong, then what to do. The command line prints it without a
    traceback and exits with status 2.
    """
