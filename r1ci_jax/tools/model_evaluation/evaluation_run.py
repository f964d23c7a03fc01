"""Run an evaluation: every open question is asked once, and its row is kept when it is answered."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, override

import jax

from r1ci_jax.config import MeshConfig
from r1ci_jax.evaluate import evaluation, model_tables, tables
from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.scheduler import Observer
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.runtime import metrics, preemption, progress, terminal
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tasks.base import Example
from r1ci_jax.tools.model_evaluation import (
    evaluated_model,
    evaluation_directory,
    question_choice,
)
from r1ci_jax.tools.model_evaluation.evaluated_model import EvaluatedModel
from r1ci_jax.tools.model_evaluation.evaluation_directory import EvaluationDirectory
from r1ci_jax.tools.model_evaluation.evaluation_settings import EvaluationSettings

STAGE = "eval"
"""Stage in the records of trajectories.jsonl."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEvaluation:
    """A finished evaluation."""

    directory: EvaluationDirectory
    table: tables.Table
    deviations: Sequence[str]


class QuestionTimes(Observer):
    """Adds up the seconds that trajectories spend in their slots, by agent and question."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = collections.defaultdict(float)

    def take(self, agent: str, example_id: str) -> float:
        """Return the seconds of a question that is answered, and forget them."""
        return self._seconds.pop((agent, example_id), 0.0)

    @override
    def on_stop(self, episode: Episode, stop: StopReason, answer: str | None) -> None:
        request = episode.request
        self._seconds[request.agent.name, request.example.id] += episode.seconds

    @override
    def on_tokens(self, episode: Episode, ids: Sequence[int]) -> None:
        pass

    @override
    def on_code(self, episode: Episode, code: str) -> None:
        pass

    @override
    def on_observation(self, episode: Episode, text: str) -> None:
        pass


def run(
    model: EvaluatedModel,
    settings: EvaluationSettings,
    path: Path,
    sandbox: Sandbox,
    *,
    trajectories: int,
) -> ModelEvaluation:
    """Evaluate a model in the directory `path`, or go on where that was stopped.

    `trajectories` is the number of questions whose first trajectory is kept, for each agent.

    Raises:
        UserError: The directory has other settings, or a question cannot be generated.
        SandboxFaults: The sandbox failed in too many scripts.
    """
    deviations = model.deviations(settings)
    with (
        evaluation_directory.open_directory(path, settings, deviations) as directory,
        jax.set_mesh(meshes.from_config(MeshConfig())),
    ):
        for each in deviations:
            terminal.say(f"r1ci: {settings.name}: {each}")
        examples = _questions(directory, settings)
        file = directory.evaluation_path
        if not evaluation.is_complete(file, settings.name, settings.eval, examples):
            _drop_unfinished(directory)
            runner = evaluated_model.make_runner(model.load(settings), settings, sandbox)
            _answer(runner, settings, directory, examples, trajectories)
        answered = evaluation.read(file, settings.name)
        records = evaluation.make_records(settings.name, answered, examples)
        evaluation.write_records(directory.results_path, settings.name, records)
        found = tables.read_run(path)
        seconds = _seconds_per_trajectory(directory, answered)
        table = model_tables.build(found, seconds=seconds)
        tables.write(table, directory.tables, "evaluation")
        tables.write(tables.build_tasks_table(found), directory.tables, "tasks")
    return ModelEvaluation(directory=directory, table=table, deviations=deviations)


def _questions(directory: EvaluationDirectory, settings: EvaluationSettings) -> list[Example]:
    found = directory.read_questions()
    if found is None:
        with progress.Progress("questions", len(settings.dataset.tasks), unit="tasks") as bar:
            found = question_choice.generate(
                settings.dataset, settings.questions, seed=settings.data_seed, report=bar.update
            )
        directory.write_questions(found)
    return found


def _drop_unfinished(directory: EvaluationDirectory) -> None:
    """Drop what a killed evaluation wrote of questions that it did not finish.

    Where the interpreter lost an answer, the question is asked again with the open ones.
    """
    with metrics.JsonlLog(directory.evaluation_path) as log:
        log.keep(lambda record: not record["void"])
        kept = {(each["agent"], each["example_id"]) for each in metrics.read(log.path)}
    for path in (directory.timings_path, directory.trajectories_path):
        with metrics.JsonlLog(path) as log:
            log.keep(lambda record: (record["agent"], record["example_id"]) in kept)


def _answer(
    runner: Runner,
    settings: EvaluationSettings,
    directory: EvaluationDirectory,
    examples: Sequence[Example],
    trajectories: int,
) -> None:
    config, times = settings.eval, QuestionTimes()
    if settings.sandbox.unsafe:
        progress.warn(UNSAFE_WARNING)
    per_question = config.samples_per_question
    blocks = evaluation.questions_per_block(config, runner.sampler.slots)
    total = len(examples) * len(config.agents) * per_question
    known = len(evaluation.read(directory.evaluation_path, settings.name)) * per_question
    with (
        metrics.JsonlLog(directory.timings_path) as timings,
        metrics.JsonlLog(directory.trajectories_path) as log,
        progress.Progress(STAGE, total, start=known, unit="answers") as bar,
    ):
        with bar.compiling("sampler"):
            runner.warm_up()
        evaluation.evaluate(
            runner,
            examples,
            config,
            directory.evaluation_path,
            model=settings.name,
            block_size=1,  # a question is kept as soon as it and those before it are answered
            on_done=_show(bar),
            on_block=_keep(runner, timings, log, times, len(examples), trajectories),
            blocks_per_check=blocks,
            observer=times,
        )


def _show(bar: progress.Progress) -> Callable[[int], None]:
    def show(done: int) -> None:
        bar.update(done)
        preemption.raise_if_preempted_locally()

    return show


def _keep(
    runner: Runner,
    timings: metrics.JsonlLog,
    log: metrics.JsonlLog,
    times: QuestionTimes,
    num_questions: int,
    num_kept: int,
) -> Callable[[int, Sequence[Trajectory]], None]:
    """Return a function that keeps the seconds of each question, and some trajectories."""
    spread = {index * num_questions // num_kept for index in range(num_kept)} if num_kept else set()

    def keep(number: int, trajectories: Sequence[Trajectory]) -> None:
        if not trajectories:
            return  # its prompt is too long
        first = trajectories[0]
        if (number - 1) % num_questions in spread:
            record = summaries.to_record(first, runner.tokenizer, stage=STAGE, step=number)
            log.append(record)
        seconds = times.take(first.agent, first.example_id)
        timings.append(
            {
                "agent": first.agent,
                "example_id": first.example_id,
                "trajectories": len(trajectories),
                "seconds": round(seconds, 3),
            }
        )

    return keep


def _seconds_per_trajectory(
    directory: EvaluationDirectory, answered: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[tuple[str, str], float]:
    """Return the mean seconds of a trajectory, by agent and task."""
    seconds: dict[tuple[str, str], float] = collections.defaultdict(float)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for record in metrics.read(directory.timings_path):
        key = record["agent"], answered[record["agent"], record["example_id"]]["task"]
        seconds[key] += record["seconds"]
        counts[key] += record["trajectories"]
    return {key: seconds[key] / counts[key] for key in counts}
