"""Every exit status has a row in docs/command_line.md, and no row is about another."""

import re

from r1ci_jax import errors
from r1ci_jax.cli import plan, sandbox
from tests.conftest import ROOT

DEFECT_OR_FAILED_CHECK = 1
ENDED_BY_SIGNAL = {128 + 1, 128 + 15}
"""SIGHUP and SIGTERM, of commands that do not wait for them."""


def _documented(heading: str) -> set[int]:
    """Numbers in the first column of the table with this heading."""
    text = (ROOT / "docs/command_line.md").read_text()
    table = text[text.index(f"| {heading} |") :].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {int(number) for cell in cells for number in re.findall(r"\d+", cell)}


def test_statuses_of_all_commands() -> None:
    assert plan.EXIT_DOES_NOT_FIT == DEFECT_OR_FAILED_CHECK
    assert _documented("exit status") == ENDED_BY_SIGNAL | {
        0,
        DEFECT_OR_FAILED_CHECK,
        errors.USER_ERROR_EXIT_STATUS,
        errors.RESUME_EXIT_STATUS,
        errors.INTERRUPTED_EXIT_STATUS,
    }


def test_statuses_of_a_script() -> None:
    assert _documented("exit status of `sandbox exec`") == {
        1,
        errors.USER_ERROR_EXIT_STATUS,
        sandbox.SANDBOX_FAULT_EXIT_STATUS,
        *sandbox.LIMIT_EXIT_STATUSES.values(),
    }
