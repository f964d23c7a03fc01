"""Evaluation: who is asked what, and the rows of results.jsonl by hand."""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import evaluation
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request
from r1ci_jax.rollout.scheduler import Observer
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts


def example(
    number: int, task: str = "toy_letters", difficulty: int = 1, answer: str = "1"
) -> Example:
    return Example(
        id=f"{task}/{number}", task=task, question="?", answer=answer, difficulty=difficulty
    )


def trajectory(asked: Example, *, correct: bool, calls: int = 0, **changes) -> Trajectory:
    call = CodeCall(code="print(1)\n", result=ExecResult(status=Status.OK))
    base = Trajectory(
        example_id=asked.id,
        task=asked.task,
        question=asked.question,
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=(1, 2, 3),
        sampled=(False, True, True),
        logprobs=(0.0, -1.0, -1.0),
        code_calls=(call,) * calls,
        stop=StopReason.ANSWER,
        answer=None,
        correct=correct,
        reward=0.0,
    )
    return dataclasses.replace(base, **changes)


class Listener:
    """In the runner's place: notes what is asked; a question is right by its number."""

    def __init__(self, *, breaks_at: str = "") -> None:
        self.breaks_at = breaks_at
        self.instructions = prompts.NO_INSTRUCTIONS
        self.requests: list[Request] = []

    def fits(self, request: Request) -> bool:
        return request.example.question != "too long"

    def run_batches(
        self,
        batches: Iterable[Sequence[Request]],
        *,
        on_done: Callable[[int], None] | None = None,
        observer: Observer | None = None,
    ) -> Generator[list[Trajectory]]:
        assert on_done is not None
        for batch in batches:
            self.requests += batch
            if any(request.example.id == self.breaks_at for request in batch):
                raise KeyboardInterrupt
            on_done(len(self.requests))
            yield [self._answer(request) for request in batch]

    def _answer(self, request: Request) -> Trajectory:
        number, sample = request.rollout_id
        return trajectory(
            request.example,
            correct=(number + sample) % 3 == 0,
            calls=number % 2,
            rollout_id=request.rollout_id,
            stop=StopReason.SANDBOX_FAULT if number % 5 == sample == 1 else StopReason.ANSWER,
        )


TWICE = EvalConfig(sampling=SamplingParams(temperature=0.6), samples_per_question=2)


def evaluate(
    listener: Listener,
    asked: list[Example],
    path: Path,
    *,
    done: list[int] | None = None,
    blocks: list[int] | None = None,
    model: str = "sft",
    config: EvalConfig = TWICE,
    block_size: int = 4,
    blocks_per_check: int = 1,
) -> None:
    evaluation.evaluate(
        listener,  # pyright: ignore[reportArgumentType]  # a runner without a model
        asked,
        config,
        path,
        model=model,
        block_size=block_size,
        blocks_per_check=blocks_per_check,
        on_done=(done if done is not None else []).append,
        on_block=lambda number, _: (blocks if blocks is not None else []).append(number),
    )


def test_every_question_is_asked_as_often_as_configured(tmp_path: Path) -> None:
    listener, done, blocks = Listener(), list[int](), list[int]()
    asked = [example(number) for number in range(6)]
    evaluate(listener, asked, tmp_path / "evaluation.jsonl", done=done, blocks=blocks)
    assert done == [8, 12] and blocks == [1, 2]
    assert [request.example.id for request in listener.requests] == [
        each.id for each in asked for _ in range(2)
    ]
    assert [request.rollout_id for request in listener.requests] == [
        RolloutId(number, sample) for number in range(6) for sample in range(2)
    ]
    assert {request.sampling.temperature for request in listener.requests} == {0.6}
    assert {request.agent.name for request in listener.requests} == {"code_agent"}


def test_a_block_keeps_every_slot_busy_and_has_a_question() -> None:
    assert evaluation.questions_per_block(TWICE, 64) == 16 * 64 // 2
    many = EvalConfig(samples_per_question=1000)
    assert evaluation.questions_per_block(many, 2) == 1


@pytest.mark.parametrize("lines", [0, 2, 4])
def test_a_resumed_evaluation_equals_an_uninterrupted_one(tmp_path: Path, lines: int) -> None:
    """Stopped in the second block, or killed while it wrote the first or the second one."""
    asked = [example(number) for number in range(10)]
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    evaluate(Listener(), asked, whole)
    records = whole.read_bytes().splitlines(keepends=True)

    with pytest.raises(KeyboardInterrupt):
        evaluate(Listener(breaks_at=asked[5].id), asked, cut)
    assert cut.read_bytes() == b"".join(records[:4])
    cut.write_bytes(b"".join(records[:lines]) + records[lines][:30])

    resumed, blocks = Listener(), list[int]()
    evaluate(resumed, asked, cut, blocks=blocks)
    assert cut.read_bytes() == whole.read_bytes()
    # Whole blocks are asked again, and no other.
    first = lines // 4 * 4
    assert {each.example.id for each in resumed.requests} == {each.id for each in asked[first:]}
    assert blocks == [1, 2, 3][lines // 4 :]
    again = Listener()
    evaluate(again, asked, cut)
    assert again.requests == [] and cut.read_bytes() == whole.read_bytes()


def test_models_of_one_file_stand_apart(tmp_path: Path) -> None:
    path, asked = tmp_path / "evaluation.jsonl", [example(0)]
    evaluate(Listener(), asked, path)
    other = Listener()
    evaluate(other, asked, path, model="untrained")
    assert len(other.requests) == 2
    assert [len(evaluation.read(path, model)) for model in ("sft", "untrained", "x")] == [1, 1, 0]


def test_several_agents_answer_every_question(tmp_path: Path) -> None:
    config = dataclasses.replace(TWICE, agents=("all_text", "code_agent"))
    asked, path = [example(number) for number in range(5)], tmp_path / "evaluation.jsonl"
    listener, done, blocks = Listener(), list[int](), list[int]()
    evaluate(listener, asked, path, config=config, done=done, blocks=blocks)
    assert [(each.agent.name, each.example.id) for each in listener.requests] == [
        (agent, each.id) for agent in config.agents for each in asked for _ in range(2)
    ]
    assert blocks == [1, 2, 3, 4] and done[-1] == 20  # questions 1 to 4 and 5, twice
    assert evaluation.is_complete(path, "sft", config, asked)
    # One more agent is asked alone.
    more = dataclasses.replace(config, agents=("all_text", "code_agent", "all_code"))
    assert not evaluation.is_complete(path, "sft", more, asked)
    again = Listener()
    evaluate(again, asked, path, config=more)
    assert {each.agent.name for each in again.requests} == {"all_code"}
    records = evaluation.make_records("sft", evaluation.read(path, "sft"), asked)
    assert [record["agent"] for record in records] == list(more.agents)
    assert {record["n"] + record["void"] for record in records} == {10}


def test_models_are_asked_for_their_answer_where_that_is_set(tmp_path: Path) -> None:
    config = dataclasses.replace(TWICE, ask_for_answer=True)
    listener = Listener()
    evaluate(listener, [example(0)], tmp_path / "evaluation.jsonl", config=config)
    assert {type(each.agent) for each in listener.requests} == {agents.AnswerRequest}
    assert {each.agent.name for each in listener.requests} == {"code_agent"}
    boxed = Listener()
    boxed.instructions = prompts.BOXED_INSTRUCTIONS
    evaluate(boxed, [example(0)], tmp_path / "boxed.jsonl", config=config)
    ended = agents.ModelTurn(code=None, answer=None, num_answers=0, text="It is 7.")
    (asked,) = {each.agent.act(ended) for each in boxed.requests}
    assert isinstance(asked, agents.UserMessage) and "\\boxed{}" in asked.text
    # Told to use the box, but not asked again: what is in it counts all the same.
    silent = Listener()
    silent.instructions = prompts.BOXED_INSTRUCTIONS
    evaluate(silent, [example(0)], tmp_path / "silent.jsonl", config=TWICE)
    told = dataclasses.replace(ended, text="It is \\boxed{7}.")
    (counted,) = {each.agent.act(told) for each in silent.requests}
    assert counted == agents.Finish(stop=StopReason.ANSWER, answer="7")
    (left,) = {each.agent.act(ended) for each in silent.requests}
    assert left == agents.Finish(stop=StopReason.EOS, answer=None)


def test_a_question_is_kept_when_it_is_answered(tmp_path: Path) -> None:
    """With blocks of one question an interruption loses none that is answered."""
    asked, path = [example(number) for number in range(6)], tmp_path / "evaluation.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate(Listener(breaks_at=asked[3].id), asked, path, block_size=1)
    assert [each["example_id"] for each in metrics.read(path)] == [e.id for e in asked[:3]]
    resumed = Listener()
    evaluate(resumed, asked, path, block_size=1)
    assert {each.example.id for each in resumed.requests} == {each.id for each in asked[3:]}
    evaluate(Listener(), asked, tmp_path / "whole.jsonl", block_size=4)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("block_size", [1, 2, 4])
def test_a_prompt_that_does_not_fit_is_a_record(tmp_path: Path, block_size: int) -> None:
    asked, path = [example(number) for number in range(4)], tmp_path / "evaluation.jsonl"
    for number in (1, 3):
        asked[number] = dataclasses.replace(asked[number], question="too long")
    listener = Listener()
    evaluate(listener, asked, path, block_size=block_size)
    assert {each.example.id for each in listener.requests} == {asked[0].id, asked[2].id}
    assert [(each["n"], each["too_long"]) for each in metrics.read(path)] == [
        (2, 0), (0, 1), (2, 0), (0, 1),
    ]  # fmt: skip
    [record] = evaluation.make_records("sft", evaluation.read(path, "sft"), asked)
    assert (record["n"], record["too_long"], record["void"]) == (4, 2, 0)
    assert record["questions"][asked[1].id] == [0, 0]
    again = Listener()
    evaluate(again, asked, path, block_size=block_size)
    assert again.requests == []


def test_records_are_written_once_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    other, first, second = ({"model": m, "task": t} for m, t in ("xa", "ma", "mb"))
    for records in ([other], [first], [first, second]):
        evaluation.write_records(path, records[0]["model"], records)
    assert metrics.read(path) == [other, first, second]
    before = path.stat().st_mtime_ns, path.stat().st_ino
    evaluation.write_records(path, "m", [first, second])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def make_records(made: list[Trajectory], asked: list[Example]) -> list[dict[str, Any]]:
    by_question = {each.id: [t for t in made if t.example_id == each.id] for each in asked}
    answered = {
        ("code_agent", each.id): evaluation.question_record(
            "sft", "code_agent", each, by_question[each.id]
        )
        for each in asked
    }
    return evaluation.make_records("sft", answered, asked)


def test_results_by_hand() -> None:
    letters = [
        example(number, difficulty=difficulty, answer=answer)
        for number, (difficulty, answer) in enumerate(((10, "1"), (2, "2"), (2, "1")))
    ]
    search = [example(0, "toy_search", answer="")]
    made = [
        trajectory(letters[0], correct=True, calls=2),
        trajectory(letters[1], correct=False, stop=StopReason.EOS),
        trajectory(letters[2], correct=True, calls=1),
        trajectory(letters[2], correct=False, calls=1, stop=StopReason.SANDBOX_FAULT),
        trajectory(search[0], correct=False, stop=StopReason.MAX_TOKENS),
    ]
    first, second = make_records(made, [*search, *letters])
    assert first == {
        "model": "sft",
        "agent": "code_agent",
        "task": "toy_letters",
        "suite": "toy",
        "split": "train",
        "n": 3,
        "correct": 2,
        "accuracy": 2 / 3,
        "void": 1,
        "too_long": 0,
        "majority": 2 / 3,
        "questions": {"toy_letters/0": [1, 1], "toy_letters/1": [1, 0], "toy_letters/2": [1, 1]},
        "stops": {"eos": 1, "answer": 2, "sandbox_fault": 1},
        "code_calls_per_trajectory": 1.0,
        "used_code_fraction": 2 / 3,
        "tokens_per_trajectory": 2.0,
        "difficulty": {"2": {"n": 2, "correct": 1}, "10": {"n": 1, "correct": 1}},
    }
    assert list(first["difficulty"]) == ["2", "10"]
    assert (second["task"], second["n"], second["accuracy"]) == ("toy_search", 1, 0.0)
    assert second["code_calls_per_trajectory"] == second["used_code_fraction"] == 0.0
    assert second["majority"] is None


def test_a_task_whose_interpreter_always_failed_has_no_answers() -> None:
    asked = example(0)
    lost = trajectory(asked, correct=False, stop=StopReason.SANDBOX_FAULT)
    (row,) = make_records([lost], [asked])
    assert (row["n"], row["correct"], row["accuracy"], row["void"]) == (0, 0, 0.0, 1)
    assert row["stops"] == {"sandbox_fault": 1} and row["difficulty"] == {}


def test_a_sandbox_that_fails_too_often_ends_the_evaluation(tmp_path: Path) -> None:
    lost = ExecResult(status=Status.SETUP_ERROR, detail="no jail")

    class Breaking(Listener):
        def run_batches(self, *words: Any, **options: Any) -> Generator[list[Trajectory]]:
            for found in super().run_batches(*words, **options):
                call = CodeCall(code="print(1)\n", result=lost)
                yield [dataclasses.replace(each, code_calls=(call,)) for each in found]

    listener = Breaking()
    with pytest.raises(UserError, match="questions 1 to 4: the sandbox failed in 8 of 8"):
        evaluate(listener, [example(number) for number in range(6)], tmp_path / "evaluation.jsonl")
    assert len(listener.requests) == 8  # the rest is not asked


def test_faults_are_counted_over_several_blocks(tmp_path: Path) -> None:
    """Two answers to a question are too few to judge the machine by; those of three are not."""
    lost = ExecResult(status=Status.SETUP_ERROR, detail="no jail")

    class Breaking(Listener):
        def run_batches(self, *words: Any, **options: Any) -> Generator[list[Trajectory]]:
            for found in super().run_batches(*words, **options):
                call = CodeCall(code="print(1)\n", result=lost)
                yield [dataclasses.replace(each, code_calls=(call,)) for each in found]

    asked = [example(number) for number in range(6)]
    evaluate(Breaking(), asked, tmp_path / "one.jsonl", block_size=1)
    with pytest.raises(UserError, match="questions 2 to 2: the sandbox failed in 4 of 4"):
        evaluate(Breaking(), asked, tmp_path / "x.jsonl", block_size=1, blocks_per_check=3)
