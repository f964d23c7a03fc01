"""The data stage: questions of every task, then the teacher's demonstrations."""

from pathlib import Path

from r1ci_jax.core.config import Experiment
from r1ci_jax.data import builders, synth


def questions(
    experiment: Experiment, data_dir: Path, *, report: builders.Report | None = None
) -> None:
    """Build `r1ci_tasks`; what is there already is kept."""
    builders.build_tasks(
        experiment.questions, seed=experiment.seed, data_dir=data_dir, report=report
    )


def demonstrations(
    experiment: Experiment,
    data_dir: Path,
    sandbox: synth.Interpreter,
    *,
    head: str = "",
    report: synth.Report | None = None,
) -> None:
    """Build `r1ci_trajectories` from the sft split; nothing is done when it is there already.

    `head` stands in front of every question.
    """
    if builders.built(data_dir, "r1ci_trajectories"):
        return
    examples = builders.load_examples(data_dir, experiment.questions.tasks, "sft")
    rows = synth.write_demonstrations(
        examples,
        sandbox,
        seed=experiment.seed,
        mix=experiment.teacher,
        head=head,
        report=report,
    )
    builders.build_trajectories(rows, data_dir=data_dir)
