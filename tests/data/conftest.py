"""A small run's data: questions of all toy tasks and demonstrations whose code was really run."""

import concurrent.futures
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import datasets, scripted_teacher
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import registry


class LocalInterpreter:
    """Runs the teacher's own code in a plain subprocess: faster than a jail, and it needs none."""

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self._pool = concurrent.futures.ThreadPoolExecutor(2)

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        self.scripts.append(code)
        return self._pool.submit(self._run, code)

    def close(self) -> None:
        self._pool.shutdown()

    def _run(self, code: str) -> ExecResult:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True
        )
        status = Status.OK if done.returncode == 0 else Status.EXCEPTION
        return ExecResult(
            status=status, exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr
        )


@pytest.fixture(scope="session")
def interpreter() -> Iterator[LocalInterpreter]:
    local = LocalInterpreter()
    yield local
    local.close()


@pytest.fixture(scope="session")
def questions() -> DatasetConfig:
    return DatasetConfig(
        tasks=registry.names(suite="toy"),
        difficulties=(1, 2, 3),
        sft_per_task=20,
        grpo_per_task=11,
        eval_per_task=7,
    )


@pytest.fixture(scope="session")
def data_dir(questions: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "data"
    datasets.build_tasks(questions, seed=3, data_dir=directory)
    return directory


@pytest.fixture(scope="session")
def demonstrations(
    questions: DatasetConfig, data_dir: Path, interpreter: LocalInterpreter
) -> list[Demonstration]:
    examples = datasets.load_examples(data_dir, questions.tasks, "sft")
    return scripted_teacher.write_demonstrations(examples, interpreter, seed=3)
