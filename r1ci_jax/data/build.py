"""Build the data of a run: the questions of every task, then the demonstrations."""

from collections.abc import Mapping
from pathlib import Path

from r1ci_jax.config import Experiment
from r1ci_jax.data import datasets, external_demonstrations, scripted_teacher
from r1ci_jax.text import prompts


def instructions(experiment: Experiment) -> Mapping[str, str]:
    """Return each agent's instructions; a model trained from scratch has none."""
    return prompts.INSTRUCTIONS if experiment.model.checkpoint else prompts.NO_INSTRUCTIONS


def require_demonstrations(experiment: Experiment) -> None:
    """Check, before questions are generated, that demonstrations can be made or read.

    Raises:
        UserError: A task has no scripted teacher and no demonstrations are given, or the given ones
            cannot be used for training.
    """
    if path := experiment.demonstrations.path:
        external_demonstrations.read(path, experiment.dataset)
    else:
        scripted_teacher.require_teacher(experiment.dataset.tasks)


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
    examples = datasets.load_examples(data_dir, experiment.dataset.tasks, "sft")
    if path := experiment.demonstrations.path:
        found = external_demonstrations.read(path, experiment.dataset)
        external_demonstrations.validate_against(path, found, examples)
        if experiment.demonstrations.reexecute:
            external_demonstrations.validate_by_execution(path, found, sandbox, report=report)
        rows = list(found.values())
    else:
        rows = scripted_teacher.write_demonstrations(
            examples,
            sandbox,
            seed=experiment.data_seed,
            mix=experiment.demonstrations,
            instructions=instructions(experiment),
            report=report,
        )
    datasets.build_trajectories(rows, data_dir=data_dir)
