"""Which tasks have a scripted teacher."""

from r1ci_jax.config import Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.toy.toy_task import ToyTask
from r1ci_jax.teachers import teacher_catalogue


def without_teacher(experiment: Experiment) -> list[str]:
    """Return the training tasks that have no scripted teacher.

    Raises:
        UserError: There are some, and the experiment does not skip them; or no task has one.
    """
    training = [n for n in experiment.dataset.tasks if registry.get(n).split != "test"]
    taught = {name for name in training if is_toy(name) or name in teacher_catalogue.by_task()}
    missing = [name for name in training if name not in taught]
    if missing and not (taught and experiment.demonstrations.allow_missing_teachers):
        raise UserError(
            f"{len(missing)} of the tasks have no scripted teacher ({missing[0]} is one): give "
            "demonstrations by --config.demonstrations.path=FILE.jsonl, which "
            "docs/demonstrations.md describes"
            + (
                ", or leave them out: --config.demonstrations.allow_missing_teachers=True"
                if taught
                else ""
            )
        )
    return missing


def is_toy(name: str) -> bool:
    """Return True for a task whose solutions the toy suite itself writes."""
    return isinstance(registry.get(name), ToyTask)
