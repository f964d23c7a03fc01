"""Several processes write what one writes; a killed build goes on; nothing tested is trained on."""

import collections
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import override

import pytest

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import datasets, question_splits, question_workers
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example, Task, Verdict
from tests.load import PATIENCE, wait_until


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_three_processes_write_the_bytes_of_one(
    questions: DatasetConfig, data_dir: Path, tmp_path: Path
) -> None:
    reported: list[tuple[int, int]] = []
    seconds = datasets.build_tasks(
        questions, seed=3, data_dir=tmp_path, jobs=3, report=lambda *done: reported.append(done)
    )
    assert _files(tmp_path) == _files(data_dir)
    assert reported == [(done, 6) for done in range(1, 7)]
    assert seconds.keys() == set(questions.tasks)


def test_an_error_in_a_process_is_told_as_it_is(tmp_path: Path) -> None:
    wrong = DatasetConfig(tasks=("toy_letters", "toy_sorting"), difficulties=(6,))
    with pytest.raises(UserError, match=r"^toy_[a-z]+ has no difficulty 6; choose"):
        datasets.build_tasks(wrong, seed=0, data_dir=tmp_path, jobs=2)
    with pytest.raises(UserError, match="--jobs 0: at least one process"):
        question_workers.num_processes(6, 0)
    assert (
        question_workers.num_processes(6),
        question_workers.num_processes(6, 9),
        question_workers.num_processes(0),
    ) == (1, 6, 1)


_HELD = """
import pathlib, time
from r1ci_jax.tasks.toy.letter_counting import Letters

class Held(Letters):
    name = "held"

    def make_puzzle(self, rng, difficulty):
        while pathlib.Path(__file__).with_name("hold").exists():
            time.sleep(0.02)
        return super().make_puzzle(rng, difficulty)
"""

_BUILD = """
import pathlib, sys
from r1ci_jax.config import DatasetConfig
from r1ci_jax.tasks import registry

def main():
    from r1ci_jax.data import datasets
    registry.register("held", "held:Held", suite="mine")
    wanted = DatasetConfig(
        tasks=("toy_letters", "held", "toy_sorting", "toy_gcd_lcm"),
        sft_per_task=9, grpo_per_task=5, eval_per_task=4,
    )
    for place, jobs in zip(sys.argv[1::2], sys.argv[2::2]):
        datasets.build_tasks(wanted, seed=1, data_dir=pathlib.Path(place), jobs=int(jobs))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path, ending: signal.Signals) -> None:
    """Also: a task that its user registered is known to the processes that draw."""
    (tmp_path / "held.py").write_text(_HELD)
    (tmp_path / "build.py").write_text(_BUILD)
    (tmp_path / "hold").touch()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, str(tmp_path / "build.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    build = subprocess.Popen(
        [*command, str(killed), "2"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: len(datasets.task_names(killed)) == 3)
        drawing_processes = _children(build.pid)
        kept = _files(killed / "r1ci_tasks" / "toy_sorting")
        before = (killed / "r1ci_tasks" / "toy_sorting").stat().st_mtime_ns
    finally:
        build.send_signal(ending)
        build.wait(timeout=PATIENCE)  # although what is being drawn never ends
    assert len(drawing_processes) >= 2
    wait_until(lambda: not any(_alive(pid) for pid in drawing_processes))
    assert not datasets.is_built(killed, "r1ci_tasks", "held")
    (tmp_path / "hold").unlink()
    subprocess.run([*command, str(killed), "2", str(whole), "1"], env=environment, check=True)
    assert _files(killed) == _files(whole)
    assert _files(killed / "r1ci_tasks" / "toy_sorting") == kept
    assert (killed / "r1ci_tasks" / "toy_sorting").stat().st_mtime_ns == before


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _alive(pid: int) -> bool:
    try:
        # A process that ended and was not collected yet is not alive.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_task_for_testing_asks_is_never_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing, trained = registry.get("toy_letters"), registry.get("toy_sorting")
    monkeypatch.setattr(testing, "split", "test")

    def copied(index: int, seed: int, difficulty: int) -> Example:
        """The questions of the other task, half of them in capitals."""
        example = testing.generate(index, seed, difficulty)
        text = example.question.upper() if index % 2 else example.question
        return dataclasses.replace(example, task="toy_sorting", question=text)

    monkeypatch.setattr(trained, "generate", copied)
    wanted = DatasetConfig(
        tasks=("toy_sorting", "toy_letters"), sft_per_task=30, grpo_per_task=20, eval_per_task=25
    )
    datasets.build_tasks(wanted, seed=5, data_dir=tmp_path)

    def asked(task: str, split: str) -> set[str]:
        rows = datasets.load_examples(tmp_path, [task], split)
        return {base.normalize_question(example.question) for example in rows}

    tested = asked("toy_letters", "eval")
    assert len(tested) == 25 and not asked("toy_letters", "sft+grpo")
    assert len(asked("toy_sorting", "sft")) == 30 and len(asked("toy_sorting", "grpo")) == 20
    assert asked("toy_sorting", "sft+grpo").isdisjoint(tested)
    # Drawn without regard to it the two would overlap.
    careless = question_splits.generate_splits(trained, wanted, seed=5)
    seen = {base.normalize_question(e.question) for s in ("sft", "grpo") for e in careless[s]}
    assert not seen.isdisjoint(tested)
    # Without the task for testing the same directory would be another dataset.
    with pytest.raises(UserError, match="built with other settings"):
        datasets.build_tasks(
            dataclasses.replace(wanted, tasks=("toy_sorting",)), seed=5, data_dir=tmp_path
        )


class _Published(Task):
    """Questions that are there, so many and no more."""

    name, suite, split = "published", "toy", "train"
    kind, answer_format, difficulties = "execution", "a number", (1,)

    def __init__(self, size: int) -> None:
        self._size = size

    @override
    def count(self) -> int:
        return self._size

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        assert index < self._size
        return Example(
            id=f"p/{index}",
            task=self.name,
            question=f"Item {index}?",
            answer="1",
            difficulty=difficulty,
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return Verdict(correct=answer_text == "1", reason="")


@pytest.mark.parametrize("size", [10, 250, 320, 600])
def test_a_source_with_few_questions_shrinks_every_split_in_proportion(size: int) -> None:
    wanted = DatasetConfig(tasks=("x",), sft_per_task=70, grpo_per_task=50, eval_per_task=200)
    splits = question_splits.generate_splits(_Published(size), wanted, seed=0)
    there = {split: len(rows) for split, rows in splits.items()}
    counts = question_splits.split_sizes(wanted)
    hashed = collections.Counter(
        question_splits.split_of(f"Item {index}?", counts) for index in range(size)
    )
    # Where a question goes is not moved by how many there are: splits stay disjoint across tasks.
    assert there == {split: min(n, hashed[split]) for split, n in counts.items()}
    if size == 250:
        assert sum(there.values()) == 250
    if size == 600:
        assert there == counts


def test_what_a_source_lacks_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.get("toy_letters"), "count", lambda: 12)
    wanted = DatasetConfig(
        tasks=("toy_letters", "toy_sorting"),
        difficulties=(1,),
        sft_per_task=10,
        grpo_per_task=10,
        eval_per_task=10,
    )
    datasets.build_tasks(wanted, seed=0, data_dir=tmp_path)
    fewer = datasets.short_splits(tmp_path, wanted.tasks)
    assert fewer.keys() == {"toy_letters"}
    assert sum(have for have, _ in fewer["toy_letters"].values()) <= 12
    assert all(asked == 10 for _, asked in fewer["toy_letters"].values())
    assert datasets.stored_metadata(tmp_path, "toy_sorting") == {"sft": 10, "grpo": 10, "eval": 10}


def test_a_task_takes_the_usual_levels_that_it_has() -> None:
    task = _Published(5)
    assert question_splits.levels(task, DatasetConfig(tasks=("x",), difficulties=(1, 2, 5))) == (1,)
    assert question_splits.levels(task, DatasetConfig(tasks=("x",), difficulties=(3, 4))) == (1,)
    toy = registry.get("toy_letters")
    assert question_splits.levels(toy, DatasetConfig(tasks=("x",), difficulties=(2, 4))) == (2, 4)
    with pytest.raises(UserError, match="published has no difficulty 7"):
        question_splits.levels(task, DatasetConfig(tasks=("x",), difficulties=(1, 7)))


def test_what_a_level_lacks_the_others_make_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.get("toy_letters")
    plain = task.generate

    def narrow(index: int, seed: int, difficulty: int) -> Example:
        return plain(index % 10 if difficulty == 2 else index, seed, difficulty)

    monkeypatch.setattr(task, "generate", narrow)
    wanted = DatasetConfig(
        tasks=("x",), difficulties=(1, 2, 3), sft_per_task=40, grpo_per_task=30, eval_per_task=20
    )
    splits = question_splits.generate_splits(task, wanted, seed=0)
    assert {split: len(rows) for split, rows in splits.items()} == question_splits.split_sizes(
        wanted
    )
    levels = collections.Counter(e.difficulty for rows in splits.values() for e in rows)
    assert levels[2] == 10 and levels[1] + levels[3] == 80 and abs(levels[1] - levels[3]) <= 6
    texts = [base.normalize_question(e.question) for rows in splits.values() for e in rows]
    assert len(set(texts)) == len(texts)
