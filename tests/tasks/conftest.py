"""Scorers of answers have the time that they need on a busy machine."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from r1ci_jax.sandbox import Limits
from r1ci_jax.sandbox.host import jail_policy
from r1ci_jax.tasks.jail_scoring import POLICY, ScoringJail
from tests.load import PATIENCE


@pytest.fixture(autouse=True)
def patient_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a scorer any time to get the processor time of the policy, which stays its limit.

    The policy's two seconds of a clock make a right answer wrong where twenty processes share a
    core. A test that is about them passes limits of its own.
    """
    numbers = ScoringJail.numbers
    patient = dataclasses.replace(jail_policy.read(POLICY).limits, wall_seconds=PATIENCE)

    def patiently(
        jail: ScoringJail, program: str, requests: Sequence[Any], limits: Limits | None = None
    ) -> list[float | None]:
        return numbers(jail, program, requests, limits or patient)

    monkeypatch.setattr(ScoringJail, "numbers", patiently)
