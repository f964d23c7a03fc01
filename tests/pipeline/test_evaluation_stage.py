"""The evaluation stage asks nothing again that has an answer, and loads no model for nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax import pipeline
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.evaluate import evaluation
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.tasks.base import Example

EXPERIMENT = Experiment(
    name="t", dataset=DatasetConfig(tasks=("toy_letters", "toy_search", "game24"))
)
EXAMPLES = [
    Example(id=f"{task}/{number}", task=task, question="?", answer="1", difficulty=1)
    for task in ("toy_letters", "toy_search")
    for number in range(2)
]


@dataclasses.dataclass(frozen=True)
class Answered(pipeline.Run):
    """A run whose models cannot be loaded; game24 has no held-out questions."""

    def load_examples(self, split: str) -> list[Example]:
        assert split == "eval"
        return EXAMPLES

    def load_into(self, runner: Runner, model: str) -> None:
        raise AssertionError(f"{model} was loaded")

    def make_runner(self, stage: str, **_: Any) -> Any:
        return None


@pytest.fixture
def directory(tmp_path: Path) -> RunDir:
    """A run that was killed after the last answer, before the first result."""
    directory = RunDir.open(tmp_path / "run", EXPERIMENT)
    with metrics.JsonlLog(directory.evaluation_path) as log:
        for model in EXPERIMENT.models:
            for example in EXAMPLES:
                log.append(evaluation.question_record(model, "code_agent", example, []))
    return directory


def test_results_are_made_of_what_is_answered_and_once(directory: RunDir) -> None:
    run = Answered(EXPERIMENT, directory, None)  # pyright: ignore[reportArgumentType]
    pipeline.evaluate_models(run)
    records = metrics.read(directory.results_path)
    assert [(record["model"], record["task"]) for record in records] == [
        (model, task) for model in EXPERIMENT.models for task in ("toy_letters", "toy_search")
    ]
    whole = directory.results_path.read_bytes()
    pipeline.evaluate_models(run)
    assert directory.results_path.read_bytes() == whole

    # Killed between the results of the last model's tasks.
    directory.results_path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 20])
    pipeline.evaluate_models(run)
    assert directory.results_path.read_bytes() == whole


def test_a_question_without_an_answer_needs_the_model(directory: RunDir) -> None:
    lines = directory.evaluation_path.read_text().splitlines()
    assert json.loads(lines[-1])["model"] == EXPERIMENT.models[-1]
    directory.evaluation_path.write_text("".join(f"{line}\n" for line in lines[:-1]))
    run = Answered(EXPERIMENT, directory, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AssertionError, match=f"{EXPERIMENT.models[-1]} was loaded"):
        pipeline.evaluate_models(run)


def test_a_stage_with_several_agents_has_results_of_each(directory: RunDir) -> None:
    chosen = dataclasses.replace(EXPERIMENT.eval, agents=("code_agent", "all_text"))
    experiment = dataclasses.replace(EXPERIMENT, eval=chosen)
    run = Answered(experiment, directory, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AssertionError, match="untrained was loaded"):
        pipeline.evaluate_models(run)  # all_text has answered nothing yet
    with metrics.JsonlLog(directory.evaluation_path) as log:
        for model in experiment.models:
            for example in EXAMPLES:
                log.append(evaluation.question_record(model, "all_text", example, []))
    pipeline.evaluate_models(run)
    found = [
        (each["model"], each["agent"], each["task"])
        for each in metrics.read(run.directory.results_path)
    ]
    assert found == [
        (model, agent, task)
        for model in experiment.models
        for agent in ("code_agent", "all_text")
        for task in ("toy_letters", "toy_search")
    ]
