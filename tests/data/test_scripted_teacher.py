"""The scripted teacher: real outputs, correct answers, the asked-for mix, the same for a seed."""

import collections
import dataclasses
import json
from pathlib import Path

import pytest

from r1ci_jax.config import DatasetConfig, DemonstrationConfig
from r1ci_jax.data import datasets, scripted_teacher
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts, protocol


@pytest.fixture(scope="module")
def examples(questions: DatasetConfig, data_dir: Path) -> dict[str, Example]:
    rows = datasets.load_examples(data_dir, questions.tasks, "sft")
    return {example.id: example for example in rows}


def test_every_question_gets_a_correct_demonstration(
    demonstrations: list[Demonstration], examples: dict[str, Example]
) -> None:
    assert [d.example_id for d in demonstrations] == list(examples)
    for demonstration in demonstrations:
        example = examples[demonstration.example_id]
        assert demonstration.correct
        assert demonstration.prompt == prompts.render_question(
            example.question, demonstration.agent
        )
        answer = protocol.final_answer(demonstration.segments[-1].text)
        assert answer is not None
        assert registry.get(example.task).score(example, answer).correct


def test_segments_alternate_as_the_protocol_has_it(demonstrations: list[Demonstration]) -> None:
    machine = protocol.stop_machine()
    for demonstration in demonstrations:
        for segment, following in zip(
            demonstration.segments, [*demonstration.segments[1:], None], strict=True
        ):
            if segment.role != "assistant":
                assert not segment.sampled
                continue
            # Sampling stops exactly at the end of the text, where the next writer takes over.
            data = segment.text.encode()
            stop = protocol.Stop(machine.stop_A[protocol.run(machine, data)])
            assert machine.stop_A[protocol.run(machine, data[:-1])] == protocol.Stop.NONE
            if following is not None and following.role == "observation":
                assert stop is protocol.Stop.CODE
                assert following.text.startswith("\nCode Execution Results:\n")
            else:
                assert stop is protocol.Stop.ANSWER


def test_each_kind_is_what_it_says(demonstrations: list[Demonstration]) -> None:
    shape = {
        "direct": ["assistant"],
        "code": ["assistant", "observation", "assistant"],
        "repair": ["assistant", "observation"] * 2 + ["assistant"],
        "check": ["assistant", "observation"] * 2 + ["assistant"],
        "steered_wrong": ["assistant", "user", "assistant", "observation", "assistant"],
        "steered_right": ["assistant", "user", "assistant", "observation", "assistant"],
    }
    for demonstration in demonstrations:
        roles = [segment.role for segment in demonstration.segments]
        assert roles == shape[demonstration.kind]
        first, last = demonstration.segments[0], demonstration.segments[-1]
        assert first.sampled is (demonstration.kind not in ("repair", "steered_wrong"))
        assert all(s.sampled for s in demonstration.segments[1:] if s.role == "assistant")
        if demonstration.kind == "repair":
            assert "Error" in demonstration.segments[1].text
        if demonstration.kind == "steered_wrong":
            assert protocol.final_answer(first.text) != protocol.final_answer(last.text)
        if demonstration.agent == "all_text":
            assert demonstration.kind == "direct"


def test_the_mix_is_exact(questions: DatasetConfig, data_dir: Path) -> None:
    rows = list(datasets.load_examples(data_dir, ["toy_letters"], "sft"))
    mix = DemonstrationConfig(code_agent=0, all_code=0, codesteer=0, all_text=1)
    texts = scripted_teacher.write_demonstrations(rows, _Broken(), seed=0, mix=mix, per_question=2)
    assert len(texts) == 40 and {d.agent for d in texts} == {"all_text"}
    weights = scripted_teacher._weights(DemonstrationConfig())
    counts = collections.Counter(
        scripted_teacher._shuffle_strategies(DemonstrationConfig(), 1_000, "t", 0)
    )
    assert all(abs(counts[way] - 1_000 * w) < 1 for way, w in weights.items())
    assert counts["code_agent", "direct"] == 175


def test_the_seed_decides(
    demonstrations: list[Demonstration],
    examples: dict[str, Example],
    interpreter: scripted_teacher.Interpreter,
) -> None:
    few = list(examples.values())[:20]
    again = scripted_teacher.write_demonstrations(few, interpreter, seed=3)
    assert again == [d for d in demonstrations if d.task == few[0].task]
    assert again != scripted_teacher.write_demonstrations(few, interpreter, seed=4)


class _Broken:
    """A sandbox that never gets a script to run."""

    def submit(self, code: str) -> "scripted_teacher.concurrent.futures.Future[ExecResult]":
        future: scripted_teacher.concurrent.futures.Future[ExecResult] = (
            scripted_teacher.concurrent.futures.Future()
        )
        future.set_result(ExecResult(status=Status.INFRA_ERROR, detail="lost"))
        return future


def test_a_failing_sandbox_is_told(examples: dict[str, Example]) -> None:
    few = list(examples.values())[:3]
    with pytest.raises(UserError, match="the sandbox failed"):
        scripted_teacher.write_demonstrations(
            few, _Broken(), seed=0, mix=DemonstrationConfig(all_text=0)
        )


def test_a_wrong_computation_is_not_kept(
    examples: dict[str, Example], interpreter: scripted_teacher.Interpreter
) -> None:
    example = next(e for e in examples.values() if e.task == "toy_letters")
    other = dataclasses.replace(example, answer=json.dumps(99))
    mix = DemonstrationConfig(code_agent=0, all_text=0, codesteer=0)
    assert scripted_teacher.write_demonstrations([example], interpreter, seed=0, mix=mix)
    assert scripted_teacher.write_demonstrations([other], interpreter, seed=0, mix=mix) == []
