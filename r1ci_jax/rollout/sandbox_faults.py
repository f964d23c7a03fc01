"""Faults of the sandbox: a run whose scripts get no verdict stops, and does not go on without them.

A trajectory whose script the sandbox lost is left out of training and of every mean. A few of those
are noise. If many are lost, the batch is another one than was asked for, and the machine needs
somebody to look at it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sandbox.result import SANDBOX_FAULTS

MIN_FAULTS: Final = 4
"""Fewer faults never stop a run: one of two scripts says nothing about the machine."""
_DETAIL_LENGTH: Final = 200


class SandboxFaults(UserError):
    """The sandbox failed in too many scripts; what was done before is kept."""


def fault_fraction(trajectories: Iterable[Trajectory]) -> float:
    """Return the fraction of scripts that the sandbox gave no verdict about; 0 without scripts."""
    statuses = [call.result.status for each in trajectories for call in each.code_calls]
    return sum(status in SANDBOX_FAULTS for status in statuses) / max(len(statuses), 1)


def require_any_valid(trajectories: Sequence[Trajectory]) -> None:
    """Require that the sandbox did not fail in every one of a step's trajectories.

    Raises:
        UserError: It did.
    """
    if trajectories and not any(each.is_valid for each in trajectories):
        raise UserError(
            "the sandbox failed in every trajectory of a step; run `r1ci sandbox doctor`, then the "
            "same command again: it resumes"
        )


def require_few(
    trajectories: Iterable[Trajectory], max_fraction: float, *, section: str, where: str
) -> None:
    """Require that at most this fraction of the trajectories' scripts are faults of the sandbox.

    Args:
        trajectories: All of one step or block.
        max_fraction: The setting `max_sandbox_fault_fraction` of `section`.
        section: The setting's section.
        where: The step or block, for the message.

    Raises:
        SandboxFaults: More are, and at least `MIN_FAULTS`.
    """
    results = [call.result for each in trajectories for call in each.code_calls]
    faults = [result for result in results if result.status in SANDBOX_FAULTS]
    if len(faults) < MIN_FAULTS or len(faults) <= max_fraction * len(results):
        return
    first = faults[0]
    detail = " ".join(first.detail.split())[:_DETAIL_LENGTH] or "no detail"
    raise SandboxFaults(
        f"{where}: the sandbox failed in {len(faults)} of {len(results)} scripts "
        f"({len(faults) / len(results):.0%}, more than {section}.max_sandbox_fault_fraction = "
        f"{max_fraction:g}), first: {first.status.value}, {detail}; run `r1ci sandbox doctor` on "
        "this machine, then the same command again: finished work is kept"
    )
