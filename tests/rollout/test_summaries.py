"""Trajectories as metrics and as records: numbers computed by hand."""

import dataclasses
import json

import pytest

from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status


def code_call(status: Status = Status.OK, stdout: str = "7\n") -> CodeCall:
    return CodeCall(
        code="print(7)\n", result=ExecResult(status=status, stdout=stdout, wall_seconds=0.123456)
    )


TIMED_OUT = code_call(Status.TIMEOUT_CPU)


def trajectory(number: int = 0, **changes) -> Trajectory:
    base = Trajectory(
        example_id="toy_letters/d1/s0/0",
        task="toy_letters",
        question="How many?",
        agent="code_agent",
        rollout_id=RolloutId(number, 0),
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
            trajectory(code_calls=(code_call(), code_call(Status.EXCEPTION), TIMED_OUT)),
            trajectory(1, code_calls=(code_call(),)),
            trajectory(
                2, task="toy_search", correct=False, reward=-0.1, stop=StopReason.MAX_TOKENS,
                sampled=(False, True, True, True, True),
            ),
            trajectory(3, correct=False, reward=-0.1, stop=StopReason.SANDBOX_FAULT,
                       code_calls=(code_call(Status.INFRA_ERROR),)),
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
            "tool/sandbox_fault_rate": 1 / 5,
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


def test_a_record_shows_who_wrote_what(world) -> None:
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
        code_calls=(code_call(),),
    )
    record = summaries.to_record(made, tokenizer, stage="grpo_uniform", step=3)
    assert json.loads(json.dumps(record)) == record
    assert record["segments"] == [{"text": text, "sampled": sampled} for text, sampled in parts[1:]]
    assert record["code_calls"] == [
        {
            "code": "print(7)\n",
            "status": "ok",
            "stdout": "7\n",
            "stderr": "",
            "wall_seconds": 0.1235,
        }
    ]
    assert (record["stage"], record["step"], record["stop"]) == ("grpo_uniform", 3, "answer")
    assert (record["reward"], record["correct"]) == (1.1, True)


def test_a_void_record_has_no_score(world) -> None:
    made = trajectory(stop=StopReason.SANDBOX_FAULT, correct=False, reward=-0.1)
    record = summaries.to_record(made, world.tokenizer, stage="eval_sft", step=1)
    assert record["reward"] is None and record["correct"] is None
