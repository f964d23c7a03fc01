"""Diagnostics of a step: numbers worked by hand, and totals that are the means of their parts."""

import dataclasses
import functools
import random
from typing import Any

import numpy as np
import pytest

from r1ci_jax.data.records import GradedExample
from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.diagnostics import group_signal, step_diagnostics, token_sums
from r1ci_jax.rollout.diagnostics.step_diagnostics import StepDiagnostics
from r1ci_jax.rollout.diagnostics.token_sums import RowSums
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer

OK = CodeCall(code="print(3 + 4)", result=ExecResult(status=Status.OK, stdout="7\n"))
CHECK = CodeCall(code="assert 7 % 7 == 0", result=ExecResult(status=Status.OK, stdout=""))
FAILED = CodeCall(code="print(", result=ExecResult(status=Status.EXCEPTION, stdout=""))


@functools.cache
def tokenizer() -> Tokenizer:
    return tokenizers.train_byte_bpe(["print(1)"] * 3, 260)


def trajectory(group: int, index: int, **changes: Any) -> Trajectory:
    """One of 5 tokens, of which 3 are sampled; its question is named after the group."""
    base = Trajectory(
        example_id=f"q{group}",
        task="toy_letters",
        question="?",
        agent="code_agent",
        rollout_id=RolloutId(group, index),
        tokens=(1, 2, 3, 4, 5),
        sampled=(False, False, True, True, True),
        logprobs=(0.0,) * 5,
        code_calls=(),
        stop=StopReason.ANSWER,
        answer="7",
        correct=True,
        reward=1.1,
    )
    return dataclasses.replace(base, **changes)


def graded(name: str, group: int, p: float) -> GradedExample:
    example = Example(
        id=name, task="toy_letters", question="?", answer="7", difficulty=1, metadata="{}"
    )
    return GradedExample(example=example, group=group, accuracy=p, potential=4 * p * (1 - p))


def rows(
    index: list[int], tokens: list[int], entropy: list[float], clipped: list[int],
    kl: list[float] | None = None,
) -> RowSums:  # fmt: skip
    """Sums of a microbatch as the update fetches them: arrays on the host."""
    lists: list[Any] = [tokens, entropy, clipped]
    tokens_B, entropy_B, clipped_B = (np.asarray(values, np.float32) for values in lists)
    index_B = np.asarray(index, np.int32)
    kl_B = None if kl is None else np.asarray(kl, np.float32)
    arrays: Any = (index_B, tokens_B, entropy_B, clipped_B, kl_B)
    return RowSums(*arrays)


WRONG = {"correct": False, "reward": 0.1}
BATCH = [
    # Two of two tasks right, one with a check, one that failed once: signal, as rewards differ.
    trajectory(0, 0, code_calls=(OK, CHECK)),
    trajectory(0, 1, code_calls=(FAILED, OK), reward=1.0),
    # Right and wrong.
    trajectory(1, 0, task="toy_search", **WRONG, stop=StopReason.MAX_TOKENS),
    trajectory(1, 1, task="toy_search", code_calls=(OK,)),
    # All equal, and one that the sandbox lost.
    trajectory(2, 0, task="rg_gcd", **WRONG),
    trajectory(2, 1, task="rg_gcd", **WRONG, stop=StopReason.SANDBOX_FAULT),
]  # fmt: skip
ROWS = [
    rows([3, 0], [3, 3], [0.6, 3.0], [0, 3], [0.3, 0.6]),
    rows([1, 2, 4, -1], [3, 1, 0, 9], [1.5, 0.5, 0.0, 9.0], [1, 0, 0, 9], [0.0, 0.2, 0.0, 9.0]),
]
GRADES = {"q0": graded("q0", 1, 0.5), "q1": graded("q1", 4, 0.9)}


def described() -> StepDiagnostics:
    return StepDiagnostics.of(BATCH, BATCH, ROWS, tokenizer(), GRADES)


def records(kind: str) -> dict[str, dict[str, Any]]:
    found = described().records("all")
    return {record["name"]: record for record in found if record["by"] == kind}


def test_totals_by_hand() -> None:
    assert described().totals() == pytest.approx(
        {
            "tool/self_check_rate": 1 / 5,
            "group/signal_fraction": 1 / 3,
            "group/unequal_reward_fraction": 2 / 3,
            # q0 has p 1/2, q1 has 0.9, each two answers; q2 has one valid answer.
            "group/expected_signal_fraction": (0.5 + (1 - 0.81 - 0.01)) / 3,
            # 3 tokens of each of five; of the third one has a loss, of the fifth none.
            "optim/mask_fraction": 1 - 10 / 15,
        }
    )


def test_a_task_by_hand() -> None:
    found = records("task")["toy_letters"]
    assert (found.pop("by"), found.pop("name")) == ("task", "toy_letters")
    assert found == pytest.approx(
        {
            "trajectories": 2,
            "valid": 2,
            "groups": 1,
            "trained_groups": 1,
            "tokens": 6,
            "reward/mean": 1.05,
            "accuracy": 1.0,
            "stop/answer": 1.0,
            "tool/calls_per_traj": 2.0,
            "tool/used_fraction": 1.0,
            "tool/error_rate": 1 / 4,
            "tool/timeout_rate": 0.0,
            "tool/sandbox_fault_rate": 0.0,
            "tool/self_check_rate": 0.5,
            "len/tokens": 3.0,
            "len/turns": 3.0,
            "group/signal_fraction": 0.0,
            "group/unequal_reward_fraction": 1.0,
            "group/expected_signal_fraction": 0.5,
            "group/zero_advantage_fraction": 0.0,
            "optim/mask_fraction": 0.0,
            "optim/entropy": 4.5 / 6,
            "optim/clip_fraction": 4 / 6,
            "optim/kl": (0.6 / 3 + 0.0 / 3) / 2,
        },
        rel=1e-5,
    )


def test_a_part_without_a_loss_has_no_entropy() -> None:
    silent = records("task")["rg_gcd"]
    assert (silent["trajectories"], silent["valid"], silent["tokens"]) == (2, 1, 0)
    assert silent["optim/mask_fraction"] == 1.0
    assert not {"optim/entropy", "optim/clip_fraction", "optim/kl"} & silent.keys()


def test_what_was_dropped_is_described_but_carries_no_loss() -> None:
    # The groups 0 and 1 are trained on, the last of them masked; group 2 has no signal.
    trained = [*BATCH[:3], dataclasses.replace(BATCH[3])]
    micro = [rows([0, 1, 2], [3, 3, 3], [3.0, 0.0, 3.0], [0, 0, 0])]
    made = StepDiagnostics.of(BATCH, trained, micro, tokenizer(), GRADES)
    assert made.totals()["group/unequal_reward_fraction"] == 2 / 3
    assert made.totals()["optim/mask_fraction"] == 1 - 9 / 12
    found = {r["name"]: r for r in made.records("all") if r["by"] == "task"}
    assert {n: (r["groups"], r["trained_groups"]) for n, r in found.items()} == {
        "rg_gcd": (1, 0),
        "toy_letters": (1, 1),
        "toy_search": (1, 1),
    }
    assert not [name for name in found["rg_gcd"] if name.startswith("optim/")]
    assert "group/zero_advantage_fraction" not in found["rg_gcd"]
    assert found["toy_search"]["optim/mask_fraction"] == 0.5
    # A step that sampled, and trained on nothing; and one that did not even sample.
    assert "optim/mask_fraction" not in StepDiagnostics.of(BATCH, [], [], tokenizer(), {}).totals()
    nothing = StepDiagnostics.of([], [], [], tokenizer(), {})
    assert nothing.totals() == {} and list(nothing.records("all")) == []


def test_parts_are_tasks_suites_and_potential_groups() -> None:
    assert list(records("task")) == ["rg_gcd", "toy_letters", "toy_search"]
    assert {n: r["trajectories"] for n, r in records("suite").items()} == {
        "reasoning_gym": 2,
        "toy": 4,
    }
    # q2 has no potential.
    assert {n: r["trajectories"] for n, r in records("potential_group").items()} == {"1": 2, "4": 2}
    few = list(described().records("groups"))
    assert [record["by"] for record in few] == ["suite"] * 2 + ["potential_group"] * 2
    assert list(described().records("none")) == []


def test_a_task_of_no_suite_is_named() -> None:
    strangers = [trajectory(0, n, task="somebody_elses") for n in range(2)]
    micro = [rows([0, 1], [3, 3], [1, 1], [0, 0])]
    made = StepDiagnostics.of(strangers, strangers, micro, tokenizer(), {})
    suites = [record["name"] for record in made.records("groups")]
    assert suites == [step_diagnostics.NO_SUITE]


def test_pass_rates_are_the_potentials_or_else_the_tasks() -> None:
    batch = [*BATCH, trajectory(3, 0), trajectory(3, 1, **WRONG)]
    # toy_letters: three of four valid answers are right; rg_gcd: none of one.
    assert group_signal.pass_rates(batch, GRADES) == {"q0": 0.5, "q1": 0.9, "q2": 0.0, "q3": 0.75}


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_expected_share_is_that_of_drawn_groups(p: float) -> None:
    rng = random.Random(0)
    draws = [{rng.random() < p for _ in range(5)} for _ in range(20_000)]
    share = sum(len(drawn) == 2 for drawn in draws) / len(draws)
    assert group_signal.expected_signal_fraction(p, 5) == pytest.approx(share, abs=0.01)


def test_rows_return_to_their_trajectories_and_iterations_add_up() -> None:
    sums = token_sums.gather([*ROWS, *ROWS], 6)
    assert sums.iterations == 2
    np.testing.assert_array_equal(sums.tokens, [6, 6, 2, 6, 0, 0])
    np.testing.assert_allclose(sums.entropy, [6, 3, 1, 1.2, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(sums.clipped, [6, 2, 0, 0, 0, 0])
    once, twice = (
        token_sums.measure(token_sums.gather(each, 6), [3] * 6, [0, 1, 2, 3, 4])
        for each in (ROWS, [*ROWS, *ROWS])
    )
    assert once == pytest.approx(twice)
    no_kl = [row._replace(kl_B=None) for row in ROWS]
    assert "optim/kl" not in token_sums.measure(token_sums.gather(no_kl, 6), [3] * 6, [0, 1])


# --- totals are the means of their parts ---------------------------------------------------------

WEIGHTS = {
    "reward/mean": "valid",
    "accuracy": "valid",
    "tool/calls_per_traj": "valid",
    "tool/used_fraction": "valid",
    "tool/self_check_rate": "valid",
    "len/tokens": "valid",
    "len/turns": "valid",
    "group/signal_fraction": "groups",
    "group/unequal_reward_fraction": "groups",
    "group/expected_signal_fraction": "groups",
    "group/zero_advantage_fraction": "trained_groups",
    "optim/entropy": "tokens",
    "optim/clip_fraction": "tokens",
    "stop/answer": "trajectories",
    "stop/max_tokens": "trajectories",
    "stop/sandbox_fault": "trajectories",
}


def drawn_batch(seed: int) -> tuple[list[Trajectory], list[RowSums]]:
    """Groups of four of random kinds, in microbatches of five in a random order."""
    rng = random.Random(seed)
    batch = [
        trajectory(
            group,
            index,
            task=("toy_letters", "toy_search", "rg_gcd", "bbh_navigate")[group % 4],
            correct=(correct := rng.random() < 0.5),
            reward=float(correct) + rng.choice((-0.1, 0.1)),
            stop=rng.choice((StopReason.ANSWER, StopReason.MAX_TOKENS, StopReason.SANDBOX_FAULT)),
            code_calls=tuple(rng.choices((OK, CHECK, FAILED), k=rng.randrange(4))),
            sampled=(False, *(rng.random() < 0.7 for _ in range(4))),
        )
        for group in range(12)
        for index in range(4)
    ]
    order = [n for n, one in enumerate(batch) if one.is_valid and any(one.sampled)]
    rng.shuffle(order)
    micro = []
    for start in range(0, len(order), 5):
        index = order[start : start + 5]
        counts = [sum(batch[n].sampled) for n in index]
        noise = [rng.random() for _ in index]
        micro.append(rows(index, counts, noise, [n % 2 for n in index], noise))
    return batch, micro


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["task", "suite", "potential_group"])
def test_parts_weighted_by_their_counts_are_the_total(seed: int, kind: str) -> None:
    batch, micro = drawn_batch(seed)
    grades = {f"q{n}": graded(f"q{n}", 1 + n % 3, n / 11) for n in range(12)}
    made = StepDiagnostics.of(batch, batch, micro, tokenizer(), grades)
    parts = [record for record in made.records("all") if record["by"] == kind]
    everything = range(len(batch))
    valid = [n for n in everything if batch[n].is_valid]
    totals = summaries.compute_metrics(batch) | made.totals()
    totals |= token_sums.measure(made.sums, made.num_sampled, valid) | group_signal.measure_trained(
        batch
    )
    for name, weight in WEIGHTS.items():
        counted = sum(part[weight] for part in parts)
        mean = sum(part.get(name, 0.0) * part[weight] for part in parts) / counted
        assert mean == pytest.approx(totals.get(name, 0.0), rel=1e-4), name
    calls = [part["tool/calls_per_traj"] * part["valid"] for part in parts]
    errors = [part["tool/error_rate"] * n for part, n in zip(parts, calls, strict=True)]
    assert sum(errors) / sum(calls) == pytest.approx(totals["tool/error_rate"], rel=1e-4)


def test_numbers_are_short() -> None:
    for record in described().records("all"):
        for value in record.values():
            assert not isinstance(value, float) or value == float(f"{value:.6g}")
