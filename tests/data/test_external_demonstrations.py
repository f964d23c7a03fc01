"""Demonstrations made elsewhere: the scripted teacher's are taken back, faults are named."""

import concurrent.futures
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from r1ci_jax.config import DatasetConfig, DemonstrationConfig, Experiment
from r1ci_jax.data import build, datasets, external_demonstrations, scripted_teacher
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks.base import Example

Row = dict[str, Any]

ASKED = DatasetConfig(
    tasks=("toy_letters",), difficulties=(1,), sft_per_task=6, grpo_per_task=2, eval_per_task=2
)


@pytest.fixture(scope="module")
def examples(questions: DatasetConfig, data_dir: pathlib.Path) -> list[Example]:
    return list(datasets.load_examples(data_dir, questions.tasks, "sft"))


def write(path: pathlib.Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def plain(demonstration: Demonstration) -> Row:
    return dataclasses.asdict(demonstration)


def test_what_the_scripted_teacher_wrote_is_read_back(
    demonstrations: list[Demonstration],
    questions: DatasetConfig,
    examples: list[Example],
    tmp_path: pathlib.Path,
) -> None:
    path = write(tmp_path / "all.jsonl", [plain(each) for each in demonstrations])
    assert {each.kind for each in demonstrations} >= {"repair", "check", "steered_wrong", "direct"}
    found = external_demonstrations.read(path, questions)
    assert found == dict(enumerate(demonstrations, start=1))
    external_demonstrations.validate_against(path, found, examples)


def test_the_documented_line_is_one(tmp_path: pathlib.Path) -> None:
    text = (pathlib.Path(__file__).parents[2] / "docs" / "demonstrations.md").read_text()
    shown = json.loads(text.partition("```json\n")[2].partition("\n```\n\n")[0])
    path = write(tmp_path / "made.jsonl", [shown])
    (read,) = external_demonstrations.read(
        path, DatasetConfig(tasks=("toy_base_conversion",))
    ).values()
    assert plain(read) == shown | {"segments": tuple(shown["segments"])}
    # As an example of its own: that question, with that answer.
    example = Example(
        id=read.example_id, task=read.task, question=read.prompt, answer='"417"', difficulty=1
    )
    external_demonstrations.validate_against(path, {1: read}, [example])


def _segment(number: int, **changes: object) -> Callable[[Row], Row]:
    def edit(row: Row) -> Row:
        segments = list(row["segments"])
        segments[number] = segments[number] | changes
        return row | {"segments": segments}

    return edit


def _without(field: str) -> Callable[[Row], Row]:
    return lambda row: {key: value for key, value in row.items() if key != field}


FAULTS: Mapping[str, tuple[Callable[[Row], Any], str]] = {
    "no object": (lambda row: [1], "the demonstration is no JSON object"),
    "missing": (_without("prompt"), "the demonstration has no field 'prompt'"),
    "foreign": (lambda row: row | {"reward": 1}, "has a field 'reward' too many"),
    "type": (lambda row: row | {"correct": 1}, "correct of the demonstration must be true or fal"),
    "agent": (lambda row: row | {"agent": "gpt"}, "agent is 'gpt'; it must be one of code_agent"),
    "wrong": (lambda row: row | {"correct": False}, "only right trajectories"),
    "task": (lambda row: row | {"task": "game24"}, "task 'game24' is not in dataset.tasks"),
    "unknown task": (lambda row: row | {"task": "toy_leters"}, "'toy_leters' is not in dataset"),
    "empty": (lambda row: row | {"segments": []}, "the last segment must be the assistant's"),
    "segment": (_segment(0, text=7), "text of segment 1 must be a text"),
    "role": (_segment(0, role="tool"), "role of segment 1 is 'tool'"),
    "learnt": (_segment(1, sampled=True), "segment 2 is sampled, but only the assistant's"),
    "not learnt": (_segment(-1, sampled=False), "the last segment must be the assistant's"),
    "order": (_segment(1, role="assistant"), "segment 2 is the assistant's; the assistant speaks"),
    "output": (_segment(1, text="271\n"), "the line \"Code Execution Results:\" and"),
    # The sampler would have stopped at the end of the block, and run it.
    "goes on": (_segment(0, text="```python\n1\n```\nso"), "segment 1 must end, and pause first"),
    "open": (_segment(0, text="```python\n1"), "at a closed code block, because its output"),
    "no answer": (_segment(-1, text="It is 4."), "at a closed <<<answer>>>, because it is"),
    "two answers": (_segment(-1, text="<<<3>>> <<<4>>>"), "at a closed <<<answer>>>"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line(
    fault: str,
    demonstrations: list[Demonstration],
    questions: DatasetConfig,
    tmp_path: pathlib.Path,
) -> None:
    edit, message = FAULTS[fault]
    good = next(plain(each) for each in demonstrations if each.kind == "code")
    good = json.loads(json.dumps(good))
    path = write(tmp_path / "made.jsonl", [good, good, edit(good)])
    with pytest.raises(UserError) as caught:
        external_demonstrations.read(path, questions)
    assert str(caught.value).startswith(f"{path}, line 3: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_hold_nothing_of_use(questions: DatasetConfig, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "made.jsonl"
    with pytest.raises(UserError, match=r"cannot be read .*No such file"):
        external_demonstrations.read(str(path), questions)
    path.write_text("\n\n")
    with pytest.raises(UserError, match="holds no demonstration"):
        external_demonstrations.read(str(path), questions)
    path.write_text("\nnot JSON\n")
    with pytest.raises(UserError, match="line 2: this is no JSON"):
        external_demonstrations.read(str(path), questions)
    path.write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        external_demonstrations.read(str(path), questions)


def test_no_more_a_task_than_asked_for(
    demonstrations: list[Demonstration], questions: DatasetConfig, tmp_path: pathlib.Path
) -> None:
    rows = [plain(demonstrations[0])] * 4
    path = write(tmp_path / "made.jsonl", rows)
    three = dataclasses.replace(questions, sft_per_task=3)
    with pytest.raises(UserError, match=r"line 4: .* more often than dataset.sft_per_task = 3"):
        external_demonstrations.read(path, three)
    assert (
        len(external_demonstrations.read(path, dataclasses.replace(questions, sft_per_task=4))) == 4
    )


def test_tasks_for_testing_are_never_shown(
    demonstrations: list[Demonstration], questions: DatasetConfig, tmp_path: pathlib.Path
) -> None:
    path = write(tmp_path / "made.jsonl", [plain(demonstrations[0]) | {"task": "reversi"}])
    tasks = (*questions.tasks, "reversi")
    with pytest.raises(UserError, match="line 1: task 'reversi' is for testing"):
        external_demonstrations.read(path, dataclasses.replace(questions, tasks=tasks))


def test_only_right_answers_to_questions_of_the_sft_split(
    demonstrations: list[Demonstration], examples: list[Example]
) -> None:
    one = next(each for each in demonstrations if each.kind == "direct")
    last = dataclasses.replace(one.segments[-1], text="<<<no such thing>>>")
    for changed, message in (
        (dataclasses.replace(one, example_id="toy_letters/1/9"), "no question of the sft split"),
        (dataclasses.replace(one, prompt="Another question"), "prompt does not hold the question"),
        (dataclasses.replace(one, segments=(last,)), "<<<no such thing>>> is wrong"),
    ):
        with pytest.raises(UserError, match=f"made.jsonl, line 7: .*{message}"):
            external_demonstrations.validate_against("made.jsonl", {7: changed}, examples)


class _Idle:
    """An interpreter with nothing to do."""

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        raise AssertionError(f"a script was run again: {code}")


class _Counted:
    """Another interpreter, whose scripts are counted."""

    def __init__(self, interpreter: scripted_teacher.Interpreter) -> None:
        self.scripts: list[str] = []
        self._interpreter = interpreter

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        self.scripts.append(code)
        return self._interpreter.submit(code)


class _Lost:
    """An interpreter that fails itself."""

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        done = concurrent.futures.Future[ExecResult]()
        done.set_result(ExecResult(status=Status.INFRA_ERROR))
        return done


def test_every_observation_is_what_its_script_prints(
    demonstrations: list[Demonstration], interpreter: scripted_teacher.Interpreter
) -> None:
    kept = [each for each in demonstrations if each.kind in ("repair", "check", "direct")][:12]
    assert {each.kind for each in kept} == {"repair", "check", "direct"}
    found = dict(enumerate(kept, start=1))
    external_demonstrations.validate_by_execution("made.jsonl", found, interpreter)

    one = next(number for number, each in found.items() if each.kind == "check")
    second = found[one].segments[3]
    for text, told in (
        (f"{second.text}more", "'more' there, '' printed"),
        (second.text.replace("Results:\n", "Results:\n4", 1), "there"),
    ):
        segments = list(found[one].segments)
        segments[3] = dataclasses.replace(second, text=text)
        wrong = found | {one: dataclasses.replace(found[one], segments=tuple(segments))}
        with pytest.raises(UserError, match=f"line {one}: segment 4 is not what its .*{told}") as e:
            external_demonstrations.validate_by_execution("made.jsonl", wrong, interpreter)
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="the sandbox failed"):
        external_demonstrations.validate_by_execution("made.jsonl", found, _Lost())


def test_invented_output_is_refused(
    interpreter: scripted_teacher.Interpreter, tmp_path: pathlib.Path
) -> None:
    """The code prints nothing, the file says that it printed the answer."""
    experiment = Experiment(name="t", dataset=ASKED)
    build.build_questions(experiment, tmp_path)
    rows = [
        plain(
            Demonstration(
                example_id=example.id,
                task=example.task,
                agent="code_agent",
                kind="code",
                prompt=example.question,
                correct=True,
                segments=(
                    Segment.learned("```python\nraise SystemExit('nothing')\n```"),
                    Segment.observed(f"\nCode Execution Results:\n{json.loads(example.answer)}\n"),
                    Segment.learned(f"<<<{json.loads(example.answer)}>>>"),
                ),
            )
        )
        for example in datasets.load_examples(tmp_path, ASKED.tasks, "sft")
    ]
    path = write(tmp_path / "made.jsonl", rows)
    told = dataclasses.replace(experiment, demonstrations=DemonstrationConfig(path=path))
    with pytest.raises(UserError, match=r"made.jsonl, line 1: segment 2 is not what its script"):
        build.build_demonstrations(told, tmp_path, interpreter)
    believing = DemonstrationConfig(path=path, reexecute=False)
    believed = dataclasses.replace(experiment, demonstrations=believing)
    build.build_demonstrations(believed, tmp_path, _Idle())
    assert len(datasets.load_trajectories(tmp_path)) == len(rows)


def test_demonstrations_of_one_data_seed_serve_every_training_seed(
    interpreter: scripted_teacher.Interpreter, tmp_path: pathlib.Path
) -> None:
    first = Experiment(name="t", dataset=ASKED)
    build.build_questions(first, tmp_path / "first")
    build.build_demonstrations(first, tmp_path / "first", interpreter)
    written = list(datasets.load_trajectories(tmp_path / "first"))
    path = write(tmp_path / "made.jsonl", [plain(each) for each in written])

    def questions(folder: str) -> list[Example]:
        return list(datasets.load_examples(tmp_path / folder, ASKED.tasks, "sft+grpo+eval"))

    told = dataclasses.replace(first, demonstrations=DemonstrationConfig(path=path))
    other = dataclasses.replace(told, seed=1)
    build.build_questions(other, tmp_path / "other")
    assert questions("other") == questions("first")
    build.build_demonstrations(other, tmp_path / "other", interpreter)
    assert list(datasets.load_trajectories(tmp_path / "other")) == written

    moved = dataclasses.replace(told, data_seed=1)
    build.build_questions(moved, tmp_path / "moved")
    assert not {each.question for each in questions("moved")} >= {
        each.question for each in questions("first")
    }
    with pytest.raises(UserError, match=r"line 1: .* is no question of the sft split"):
        build.build_demonstrations(moved, tmp_path / "moved", interpreter)


def test_a_run_takes_them_in_place_of_the_scripted_teachers(
    interpreter: scripted_teacher.Interpreter, tmp_path: pathlib.Path
) -> None:
    scripted = Experiment(name="t", dataset=ASKED)
    for folder in ("scripted", "given"):
        build.build_questions(scripted, tmp_path / folder)
    build.build_demonstrations(scripted, tmp_path / "scripted", interpreter)
    written = list(datasets.load_trajectories(tmp_path / "scripted"))
    path = write(tmp_path / "made.jsonl", [plain(each) for each in written[::-1]])

    told = dataclasses.replace(scripted, demonstrations=DemonstrationConfig(path=path))
    build.require_demonstrations(told)
    counted = _Counted(interpreter)
    build.build_demonstrations(told, tmp_path / "given", counted)
    # Each different script once.
    assert counted.scripts and len(set(counted.scripts)) == len(counted.scripts)
    assert list(datasets.load_trajectories(tmp_path / "given")) == written[::-1]


def test_a_task_without_a_teacher_is_an_error_or_left_out() -> None:
    tasks = ("toy_letters", "bbh_snarks", "reversi", "game24")
    experiment = Experiment(name="t", dataset=DatasetConfig(tasks=tasks))
    # Reversi is for testing: it needs no teacher.
    with pytest.raises(UserError, match=r"1 of the tasks .*\(bbh_snarks is one\): give .*jsonl"):
        build.require_demonstrations(experiment)
    lenient = DemonstrationConfig(allow_missing_teachers=True)
    build.require_demonstrations(dataclasses.replace(experiment, demonstrations=lenient))
    alone = Experiment(
        name="t", dataset=DatasetConfig(tasks=("bbh_snarks",)), demonstrations=lenient
    )
    with pytest.raises(UserError, match="1 of the tasks have no scripted teacher"):
        build.require_demonstrations(alone)
    for taught in (("toy_letters",), ("toy_letters", "reversi")):
        build.require_demonstrations(Experiment(name="t", dataset=DatasetConfig(tasks=taught)))
