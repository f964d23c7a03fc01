"""The suite's experiment file: 144 tasks, 114 without a download, at least 200 questions each."""

from pathlib import Path

import pytest

from experiments import tasks
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.data import question_splits
from r1ci_jax.tasks import registry


def test_variants_load_as_a_user_names_them() -> None:
    whole = experiments.load("experiments/tasks.py")
    offline = experiments.load("experiments/tasks.py:offline", ["--config.seed=3"])
    assert (len(whole.dataset.tasks), len(offline.dataset.tasks)) == (144, 114)
    assert whole.name != offline.name and offline.seed == 3
    assert set(offline.dataset.tasks) < set(whole.dataset.tasks)
    assert {registry.get(name).suite for name in whole.dataset.tasks} == set(registry.PAPER_SUITES)
    with pytest.raises(ValueError, match="no variant 'online'"):
        tasks.get_config("online")


def test_every_task_is_asked_at_least_200_questions() -> None:
    for name in tasks.TASKS:
        task = registry.get(name)
        assert sum(question_splits.questions_per_split(task, tasks.DATASET).values()) >= 200, name
        assert set(question_splits.levels(task, tasks.DATASET)) == set(task.difficulties), name


def test_offline_tasks_read_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1CI_DATA", str(tmp_path / "nothing here"))
    assert all(registry.get(name).count() is None for name in tasks.OFFLINE)
    downloaded = {registry.get(name).suite for name in set(tasks.TASKS) - set(tasks.OFFLINE)}
    assert downloaded == {"bbh", "symbench"}
