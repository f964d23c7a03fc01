"""TFDS datasets: what is written is read back; whole or absent; without TensorFlow."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import datasets, question_splits, records
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.records import GradedExample, Record
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example


def test_questions_round_trip(questions: DatasetConfig, data_dir: Path) -> None:
    for name in questions.tasks:
        drawn = question_splits.generate_splits(registry.get(name), questions, seed=3)
        for split, examples in drawn.items():
            assert list(datasets.load_examples(data_dir, [name], split)) == examples
    everything = datasets.load_examples(str(data_dir), questions.tasks, "sft+eval")
    assert len(everything) == 6 * 27
    with pytest.raises(IndexError):
        everything[len(everything)]
    assert datasets.task_names(data_dir) == tuple(sorted(questions.tasks))
    assert datasets.task_names(str(data_dir)) == tuple(sorted(questions.tasks))


def test_a_second_build_keeps_and_other_settings_are_refused(
    questions: DatasetConfig, data_dir: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    datasets.build_tasks(questions, seed=3, data_dir=data_dir)
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before
    with pytest.raises(UserError, match="built with other settings; delete"):
        datasets.build_tasks(questions, seed=4, data_dir=data_dir)


def test_demonstrations_round_trip(demonstrations: list[Demonstration], tmp_path: Path) -> None:
    assert not datasets.is_built(tmp_path, "r1ci_trajectories")
    datasets.build_trajectories(demonstrations, data_dir=tmp_path)
    assert datasets.is_built(tmp_path, "r1ci_trajectories")
    assert list(datasets.load_trajectories(tmp_path)) == demonstrations


def _graded(count: int, groups: tuple[int, ...]) -> list[GradedExample]:
    return [
        GradedExample(
            example=Example(
                id=f"t/{i}", task="toy_letters", question=f"q{i} é\n", answer="1", difficulty=2
            ),
            group=groups[i % len(groups)],
            accuracy=0.25,
            potential=0.75,
        )
        for i in range(count)
    ]


def test_curriculum_reads_by_split_syntax_and_allows_empty_groups(tmp_path: Path) -> None:
    graded = _graded(9, (4, 1, 2))
    datasets.build_curriculum(graded, data_dir=tmp_path)

    def of(*groups: int) -> list[GradedExample]:
        return [row for group in groups for row in graded if row.group == group]

    assert list(datasets.load_curriculum(tmp_path, "group1")) == of(1)
    assert list(datasets.load_curriculum(tmp_path, "group1+group2+group3")) == of(1, 2)
    assert list(datasets.load_curriculum(tmp_path, "group3")) == []
    assert len(datasets.load_curriculum(tmp_path, "group1[:2]+group4")) == 5


class _PowerCut(BaseException):
    """The process dies."""


def test_an_interrupted_build_leaves_no_dataset(
    questions: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = dataclasses.replace(questions, tasks=("toy_letters",))

    def dies(self: datasets.R1ciTasks, rows: list[Record]) -> Iterator[tuple[int, Record]]:
        yield 0, rows[0]
        raise _PowerCut

    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(datasets.R1ciTasks, "_generate_examples", dies)
        datasets.build_tasks(one, seed=3, data_dir=tmp_path)
    assert not datasets.is_built(tmp_path, "r1ci_tasks", "toy_letters")
    with pytest.raises(UserError, match="holds no r1ci_tasks/toy_letters; build it first"):
        datasets.load_examples(tmp_path, ["toy_letters"], "sft")
    # A killed process cannot tidy up; the next build does.
    debris = tmp_path / "r1ci_tasks" / "toy_letters" / "incomplete.ABC123_1.0.0"
    debris.mkdir(parents=True)
    (debris / "half").write_text("half")
    datasets.build_tasks(one, seed=3, data_dir=tmp_path)
    assert len(datasets.load_examples(tmp_path, ["toy_letters"], "sft")) == 20
    assert not debris.exists()


def test_tensorflow_stays_out(data_dir: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from r1ci_jax.data import datasets, batching;"
        f"rows = datasets.load_examples(Path({str(data_dir)!r}), ['toy_letters'], 'sft');"
        "assert rows[0].task == 'toy_letters';"
        "next(batching.prompt_batches(rows, 4, seed=0));"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_half_of_a_surrogate_pair_is_written_as_the_tokenizer_reads_it(
    demonstrations: list[Demonstration],
) -> None:
    example = Example(id="a", task="own", question="x\ud83dy", answer="\ud83d", difficulty=1)
    row = records.encode_example(example)
    assert (row["question"], row["answer"], row["id"]) == ("x?y", "?", "a")
    row = records.encode_demonstration(dataclasses.replace(demonstrations[0], prompt="\ud83d"))
    assert row["prompt"] == "?"
