"""Evaluation: who is asked what, and the rows of results.jsonl by hand."""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import pytest

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import evaluation
from r1ci_jax.rollout.runner import Request
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example


def example(number: int, task: str = "toy_letters", difficulty: int = 1) -> Example:
    return Example(
        id=f"{task}/{number}", task=task, question="?", answer="1", difficulty=difficulty
    )


def trajectory(asked: Example, *, correct: bool, calls: int = 0, **changes) -> Trajectory:
    call = CodeCall(code="print(1)\n", result=ExecResult(status=Status.OK))
    base = Trajectory(
        example_id=asked.id,
        task=asked.task,
        question=asked.question,
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=(),
        sampled=(),
        logprobs=(),
        code_calls=(call,) * calls,
        stop=StopReason.ANSWER,
        answer=None,
        correct=correct,
        reward=0.0,
    )
    return dataclasses.replace(base, **changes)


class Listener:
    """In the runner's place: notes what is asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def run_batches(
        self, batches: Iterable[Sequence[Request]], *, on_done: Callable[[int], None] | None = None
    ) -> Generator[list[Trajectory]]:
        assert on_done is not None
        for batch in batches:
            self.requests += batch
            on_done(len(self.requests))
            yield [trajectory(request.example, correct=True) for request in batch]


def test_every_question_is_asked_as_often_as_configured() -> None:
    listener, done = Listener(), list[int]()
    asked = [example(number) for number in range(3)]
    made = evaluation.evaluate(
        listener,
        asked,
        EvalConfig(sampling=SamplingParams(temperature=0.6), samples_per_question=2),
        on_done=done.append,
    )
    assert len(made) == 6 and done == [6]
    assert [request.example.id for request in listener.requests] == [
        each.id for each in asked for _ in range(2)
    ]
    assert len({request.rollout_id for request in listener.requests}) == 6
    assert {request.sampling.temperature for request in listener.requests} == {0.6}
    assert {request.agent.name for request in listener.requests} == {"code_agent"}


def test_results_by_hand() -> None:
    letters = [
        example(number, difficulty=difficulty) for number, difficulty in enumerate((10, 2, 2))
    ]
    search = [example(0, "toy_search")]
    made = [
        trajectory(letters[0], correct=True, calls=2),
        trajectory(letters[1], correct=False, stop=StopReason.EOS),
        trajectory(letters[2], correct=True, calls=1),
        trajectory(letters[2], correct=False, calls=1, stop=StopReason.SANDBOX_FAULT),
        trajectory(search[0], correct=False, stop=StopReason.MAX_TOKENS),
    ]
    first, second = evaluation.make_records("sft", made, [*search, *letters])
    assert first == {
        "model": "sft",
        "agent": "code_agent",
        "task": "toy_letters",
        "suite": "toy",
        "split": "train",
        "n": 3,
        "correct": 2,
        "accuracy": 2 / 3,
        "stops": {"answer": 2, "eos": 1, "sandbox_fault": 1},
        "code_calls_per_trajectory": 1.0,
        "used_code_fraction": 2 / 3,
        "difficulty": {"2": {"n": 2, "correct": 1}, "10": {"n": 1, "correct": 1}},
    }
    assert list(first["difficulty"]) == ["2", "10"]
    assert (second["task"], second["n"], second["accuracy"]) == ("toy_search", 1, 0.0)
    assert second["code_calls_per_trajectory"] == second["used_code_fraction"] == 0.0


def test_a_task_whose_interpreter_always_failed_has_no_answers() -> None:
    asked = example(0)
    lost = trajectory(asked, correct=False, stop=StopReason.SANDBOX_FAULT)
    (row,) = evaluation.make_records("sft", [lost], [asked])
    assert (row["n"], row["correct"], row["accuracy"]) == (0, 0, 0.0)
    assert row["stops"] == {"sandbox_fault": 1} and row["difficulty"] == {}


def test_a_sandbox_that_fails_too_often_ends_the_evaluation() -> None:
    lost = ExecResult(status=Status.SETUP_ERROR, detail="no jail")

    class Breaking(Listener):
        def run_batches(self, *words: Any, **options: Any) -> Generator[list[Trajectory]]:
            for found in super().run_batches(*words, **options):
                call = CodeCall(code="print(1)\n", result=lost)
                yield [dataclasses.replace(each, code_calls=(call,)) for each in found]

    listener = Breaking()
    with pytest.raises(UserError, match="answers 1 to 256: the sandbox failed in 256 of 256"):
        evaluation.evaluate(
            listener,
            [example(number) for number in range(300)],
            EvalConfig(),
            on_done=lambda done: None,
        )
    assert len(listener.requests) == 256  # the rest is not asked
