"""The data stage: questions of every task, then the teacher's demonstrations."""

from pathlib import Path

from r1ci_jax.core.config import Experiment
from r1ci_jax.data import builders, synth
from r1ci_jax.text import prompts


def head(experiment: Experiment) -> str:
    """What stands before each question; a model trained from scratch learns it by example."""
    return prompts.HEAD_PROMPT if experiment.model.checkpoint else ""


def questions(
    experiment: Experiment,
    data_dir: Path,
    *,
    jobs: int | None = None,
    report: builders.Report | None = None,
) -> dict[str, float]:
    """Build `r1ci_tasks` by `jobs` processes (None: by the processors); what is there is kept.

    Returns the seconds that drawing took, by task that was drawn.
    """
    return builders.build_tasks(
        experiment.questions, seed=experiment.seed, data_dir=data_dir, jobs=jobs, report=report
    )


def demonstrations(
    experiment: Experiment,
    data_dir: Path,
    sandbox: synth.Interpreter,
    *,
    report: synth.Report | None = None,
) -> None:
    """Build `r1ci_trajectories` from the sft split; nothing is done when it is there already."""
    if builders.built(data_dir, "r1ci_trajectories"):
        return
    examples = builders.load_examples(data_dir, experiment.questions.tasks, "sft")
    rows = synth.write_demonstrations(
        examples,
        sandbox,
        seed=experiment.seed,
        mix=experiment.teacher,
        head=head(experiment),
        report=report,
    )
    builders.build_trajectories(rows, data_dir=data_dir)
