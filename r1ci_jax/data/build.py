"""The data stage: questions of every task, then the teacher's demonstrations."""

from pathlib import Path

from r1ci_jax.config import Experiment
from r1ci_jax.data import datasets, external_demonstrations, scripted_teacher
from r1ci_jax.text import prompts


def instructions(experiment: Experiment) -> str:
    """Return the instructions before each question; a model trained from scratch has none."""
    return prompts.INSTRUCTIONS if experiment.model.checkpoint else ""


def require_demonstrations(experiment: Experiment) -> None:
    """Say now, not after the questions are drawn, that nobody shows how to answer them.

    Raises:
        UserError: A task has no scripted teacher and no demonstrations are given, or those that are
            cannot be learnt from.
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
    """Build `r1ci_tasks` by `jobs` processes (None: by the processors); what is there is kept.

    Returns the seconds that drawing took, by task that was drawn.
    """
    return datasets.build_tasks(
        experiment.dataset, seed=experiment.seed, data_dir=data_dir, jobs=jobs, report=report
    )


def build_demonstrations(
    experiment: Experiment,
    data_dir: Path,
    sandbox: scripted_teacher.Interpreter,
    *,
    report: scripted_teacher.Report | None = None,
) -> None:
    """Build `r1ci_trajectories` for the sft split; nothing is done when it is there already.

    They are those that the experiment names, or else the scripted teacher's.
    """
    if datasets.is_built(data_dir, "r1ci_trajectories"):
        return
    examples = datasets.load_examples(data_dir, experiment.dataset.tasks, "sft")
    if path := experiment.demonstrations.path:
        found = external_demonstrations.read(path, experiment.dataset)
        external_demonstrations.validate_against(path, found, examples)
        rows = list(found.values())
    else:
        rows = scripted_teacher.write_demonstrations(
            examples,
            sandbox,
            seed=experiment.seed,
            mix=experiment.demonstrations,
            instructions=instructions(experiment),
            report=report,
        )
    datasets.build_trajectories(rows, data_dir=data_dir)
