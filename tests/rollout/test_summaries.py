"""Trajectories as metrics and as rows: numbers computed by hand."""

import dataclasses
import json

import pytest

from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status


def turn(status: Status = Status.OK, stdout: str = "7\n") -> CodeCall:
    return CodeCall(
        code="print(7)\n", result=ExecResult(status=status, stdout=stdout, wall_seconds=0.123456)
    )


def trajectory(number: int = 0, **changes) -> Trajectory:
    base = Trajectory(
        example_id="toy_letters/d1/s0/0",
        task="toy_letters",
        question="How many?",
        agent="code_agent",
        rollout_id=(number, 0),
        tokens=(1, 2, 3, 4, 5),
        sampled=(False, False, True, True, True),
        logprobs=(0.0, 0.0, -0.5, -0.1, -0.2),
        code_calls=(),
        stop=StopReason.ANSWER,
        answer="7",
        correct=True,
        reward=1.1,
    )
    return dataclasses.replace(base, **changes)


def test_statistics_are_means_over_what_the_interpreter_did_not_spoil() -> None:
    found = summaries.compute_metrics(
        [
            trajectory(code_calls=(turn(), turn(Status.EXCEPTION), turn(Status.TIMEOUT_CPU))),
            trajectory(1, code_calls=(turn(),)),
            trajectory(
                2, task="toy_search", correct=False, reward=-0.1, stop=StopReason.MAX_TOKENS,
                sampled=(False, True, True, True, True),
            ),
            trajectory(3, correct=False, reward=-0.1, stop=StopReason.SANDBOX_FAULT,
                       code_calls=(turn(Status.INFRA_ERROR),)),
        ]
    )  # fmt: skip
    assert found == pytest.approx(
        {
            "reward/mean": (1.1 + 1.1 - 0.1) / 3,
            "accuracy": 2 / 3,
            "tool/calls_per_traj": 4 / 3,
            "tool/used_fraction": 2 / 3,
            "tool/error_rate": 2 / 4,
            "tool/timeout_rate": 1 / 4,
            "len/tokens": (3 + 3 + 4) / 3,
            "len/turns": (4 + 2 + 1) / 3,
            "stop/answer": 2 / 4,
            "stop/max_tokens": 1 / 4,
            "stop/sandbox_fault": 1 / 4,
            "reward/toy_letters": 1.1,
            "reward/toy_search": -0.1,
            "accuracy/toy_letters": 1.0,
            "accuracy/toy_search": 0.0,
        }
    )


def test_statistics_of_nothing_valid_are_zero() -> None:
    found = summaries.compute_metrics([trajectory(stop=StopReason.SANDBOX_FAULT)])
    assert found.pop("stop/sandbox_fault") == 1.0
    assert set(found.values()) == {0.0}


def test_representatives_are_best_worst_and_between() -> None:
    rewards = [0.1, 1.1, -0.2, 0.9, 1.0, -0.1, 0.0]
    made = [trajectory(number, reward=reward) for number, reward in enumerate(rewards)]
    assert [t.reward for t in summaries.sample_by_reward(made, 3)] == [1.1, 0.1, -0.2]
    assert [t.reward for t in summaries.sample_by_reward(made, 4)] == [1.1, 0.9, 0.0, -0.2]
    assert [t.reward for t in summaries.sample_by_reward(made, 1)] == [1.1]
    assert summaries.sample_by_reward(made, 0) == []
    assert len(summaries.sample_by_reward(made, 50)) == 7


def test_a_row_shows_who_wrote_what(world) -> None:
    tokenizer = world.tokenizer
    parts = [
        ("Compute 3+4.", False),
        ("```python \nprint('ok!')\n```", True),
        ("\nCode Execution Results:\nok!\n", False),
        ("<<<7>>>", True),
    ]
    encoded = [(tokenizer.encode(text), sampled) for text, sampled in parts]
    made = trajectory(
        tokens=tuple(token for ids, _ in encoded for token in ids),
        sampled=tuple(sampled for ids, sampled in encoded for _ in ids),
        logprobs=tuple(0.0 for ids, _ in encoded for _ in ids),
        code_calls=(turn(),),
    )
    row = summaries.to_record(made, tokenizer, stage="grpo_uniform", step=3)
    assert json.loads(json.dumps(row)) == row
    assert row["segments"] == [{"text": text, "sampled": sampled} for text, sampled in parts[1:]]
    assert row["code_calls"] == [
        {
            "code": "print(7)\n",
            "status": "ok",
            "stdout": "7\n",
            "stderr": "",
            "wall_seconds": 0.1235,
        }
    ]
    assert (row["stage"], row["step"], row["stop"]) == ("grpo_uniform", 3, "answer")
    assert (row["reward"], row["correct"]) == (1.1, True)


def test_a_void_row_has_no_verdict(world) -> None:
    made = trajectory(stop=StopReason.SANDBOX_FAULT, correct=False, reward=-0.1)
    row = summaries.to_record(made, world.tokenizer, stage="eval_sft", step=1)
    assert row["reward"] is None and row["correct"] is None
