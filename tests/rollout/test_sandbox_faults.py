"""The rule by which a sandbox that fails too often stops a run, at its edges."""

import dataclasses

import pytest

from r1ci_jax.config import EvalConfig, GrpoConfig, PotentialConfig
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import sandbox_faults
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status

OK = ExecResult(status=Status.OK)
LOST = ExecResult(status=Status.INFRA_ERROR, detail="the fork server\nended with status 1")


def trajectories(*results: ExecResult) -> list[Trajectory]:
    """One trajectory that ran all these scripts, and one without any."""
    calls = tuple(CodeCall(code="print(1)\n", result=result) for result in results)
    one = Trajectory(
        example_id="toy_letters/0",
        task="toy_letters",
        question="?",
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=(),
        sampled=(),
        logprobs=(),
        code_calls=calls,
        stop=StopReason.SANDBOX_FAULT,
        answer=None,
        correct=False,
        reward=0.0,
    )
    return [one, dataclasses.replace(one, code_calls=())]


def require(bound: float, *results: ExecResult) -> None:
    sandbox_faults.require_few(trajectories(*results), bound, section="grpo", where="GRPO step 3")


@pytest.mark.parametrize(
    ("faults", "scripts", "bound", "stops"),
    [
        (4, 16, 0.25, False),  # exactly the bound
        (5, 19, 0.25, True),
        (5, 20, 0.25, False),
        (1, 2, 0.25, False),  # too few to say anything
        (3, 3, 0.25, False),
        (4, 4, 0.25, True),
        (4, 100, 0.0, True),
        (50, 50, 1.0, False),
        (0, 0, 0.0, False),
    ],
)
def test_a_run_stops_above_the_bound_and_from_four_faults_on(
    faults: int, scripts: int, bound: float, stops: bool
) -> None:
    results = [LOST] * faults + [OK] * (scripts - faults)
    if stops:
        with pytest.raises(sandbox_faults.SandboxFaults):
            require(bound, *results)
    else:
        require(bound, *results)
    expected = faults / scripts if scripts else 0.0
    assert sandbox_faults.fault_fraction(trajectories(*results)) == expected


def test_the_line_says_how_many_which_and_what_to_do() -> None:
    never_built = ExecResult(status=Status.SETUP_ERROR, detail="no user namespaces")
    with pytest.raises(UserError) as caught:
        require(0.25, OK, LOST, *[never_built] * 4, OK, OK)
    assert str(caught.value) == (
        "GRPO step 3: the sandbox failed in 5 of 8 scripts (62%, more than "
        "grpo.max_sandbox_fault_fraction = 0.25), first: infra_error, the fork server ended with "
        "status 1; run `r1ci sandbox doctor` on this machine, then the same command again: "
        "finished work is kept"
    )


def test_a_script_that_fails_is_no_fault_of_the_sandbox() -> None:
    for status in set(Status) - {Status.INFRA_ERROR, Status.SETUP_ERROR}:
        require(0.0, *[ExecResult(status=status)] * 9)


@pytest.mark.parametrize("config", [GrpoConfig, PotentialConfig, EvalConfig])
@pytest.mark.parametrize("bound", [-0.1, 1.1, float("nan")])
def test_a_bound_that_is_no_fraction_is_refused(config: type, bound: float) -> None:
    with pytest.raises(UserError, match="max_sandbox_fault_fraction"):
        config(max_sandbox_fault_fraction=bound)
