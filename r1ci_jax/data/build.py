"""Build the data of a run: the questions of every task, then the demonstrations."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1ci_jax.config import Experiment
from r1ci_jax.data import datasets, external_demonstrations, scripted_teacher
from r1ci_jax.data.demonstration_source import DemonstrationSource
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.data.scripted import lengths, taught_tasks
from r1ci_jax.data.scripted.scripted_teachers import ScriptedTeachers
from r1ci_jax.runtime import progress
from r1ci_jax.text import prompts


def instructions(experiment: Experiment) -> Mapping[str, str]:
    """Return the instructions, by agent, that the policy of an experiment reads (model.prompts)."""
    model = experiment.model
    return prompts.choose(model.prompts, is_pretrained=bool(model.checkpoint))


def require_demonstrations(experiment: Experiment) -> None:
    """Check, before questions are generated, that demonstrations can be made or read.

    Raises:
        UserError: A task has no scripted teacher and no demonstrations are given, or the given ones
            cannot be used for training.
    """
    if path := experiment.demonstrations.path:
        external_demonstrations.read(path, experiment.dataset)
    else:
        taught_tasks.without_teacher(experiment)


def build_questions(
    experiment: Experiment,
    data_dir: Path,
    *,
    jobs: int | None = None,
    report: datasets.Report | None = None,
) -> dict[str, float]:
    """Build `r1ci_tasks` with `jobs` processes; keep existing datasets.

    Returns the seconds that generation took, by task, for the tasks that were generated.
    """
    return datasets.build_tasks(
        experiment.dataset, seed=experiment.data_seed, data_dir=data_dir, jobs=jobs, report=report
    )


def build_demonstrations(
    experiment: Experiment,
    data_dir: Path,
    sandbox: scripted_teacher.Interpreter,
    *,
    report: scripted_teacher.Report | None = None,
) -> None:
    """Build `r1ci_trajectories` for the sft split; do nothing when it exists already.

    The demonstrations are those that the experiment names, or else the scripted teacher's.
    """
    if datasets.is_built(data_dir, "r1ci_trajectories"):
        return
    if path := experiment.demonstrations.path:
        examples = datasets.load_examples(data_dir, experiment.dataset.tasks, "sft")
        found = external_demonstrations.read(path, experiment.dataset)
        external_demonstrations.validate_against(path, found, examples)
        if experiment.demonstrations.reexecute:
            external_demonstrations.validate_by_execution(path, found, sandbox, report=report)
        rows: Sequence[Demonstration] = list(found.values())
    else:
        rows = write_scripted(experiment, data_dir, sandbox, report=report).demonstrations
    datasets.build_trajectories(rows, data_dir=data_dir)


def write_scripted(
    experiment: Experiment,
    data_dir: Path,
    sandbox: scripted_teacher.Interpreter,
    *,
    tokenizer: str | None = None,
    report: scripted_teacher.Report | None = None,
) -> Made:
    """Let the scripted teachers answer the sft split; finished tasks are kept beside the data.

    `tokenizer` measures lengths; None: the experiment's.

    Raises:
        UserError: No task has a teacher, or the sandbox failed.
    """
    missing = taught_tasks.without_teacher(experiment)
    if missing:
        progress.warn(f"{len(missing)} tasks have no scripted teacher: {', '.join(missing)}")
    names = [name for name in experiment.dataset.tasks if name not in missing]
    toy = [name for name in names if taught_tasks.is_toy(name)]
    made = scripted_teacher.write_demonstrations(
        datasets.load_examples(data_dir, toy, "sft"),
        sandbox,
        seed=experiment.data_seed,
        mix=experiment.demonstrations,
        instructions=instructions(experiment),
        report=report,
    )
    others = [name for name in names if name not in toy]
    source: DemonstrationSource = ScriptedTeachers(
        sandbox=sandbox,
        seed=experiment.data_seed,
        mix=experiment.demonstrations,
        instructions=instructions(experiment),
        measure=_measure(experiment, tokenizer) if others else lengths.ESTIMATE,
        directory=data_dir.parent / "demonstrations",
    )
    examples = list(datasets.load_examples(data_dir, others, "sft"))
    taught = source.teach(examples, Selection(experiment.dataset.sft_per_task), report=report)
    return dataclasses.replace(taught, demonstrations=[*made, *taught.demonstrations])


def _measure(experiment: Experiment, tokenizer: str | None) -> lengths.LengthMeasure:
    """Return the measure of lengths; a tokenizer that was asked for has to be there."""
    if tokenizer is not None:
        return lengths.measure(tokenizer, is_required=True)
    return lengths.measure(experiment.model.tokenizer or experiment.model.checkpoint)
