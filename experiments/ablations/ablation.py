"""What all ablations share: the run that they change one thing of, in several sizes.

    variant    the run
    (none)     r1ci_14b.py, the size of the paper's ablations
    7b, 3b     r1ci_7b.py and r1ci_3b.py
    demo       toy.py: a model of a million weights on two CPU cores, in about ten minutes
    toy        the paper's recipe with that model, two steps of each training, in a minute

Each trains one arm only. Its control is the run of full_method.py in the same size, with the same
seeds: `r1ci table ablation --runs runs/ablation-*` sets them side by side.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from experiments import r1ci_3b, r1ci_7b, r1ci_14b, toy
from r1ci_jax.config import Arm, Experiment, GrpoConfig

VARIANTS = ("", "7b", "3b", "demo", "toy")

PREFIX: Final = "ablation-"
"""Beginning of the name of every run."""

CURRICULUM: Final = Arm(name="grpo_curriculum")
"""The arm of the whole method."""


def get_config(
    variant: str, *, name: str, change: Callable[[Experiment], Experiment]
) -> Experiment:
    """Return an ablation in one of its sizes.

    Args:
        variant: One of `VARIANTS`.
        name: Of the file, which names the run.
        change: Takes the whole method with its curriculum arm, and changes one thing.
    """
    changed = change(dataclasses.replace(base(variant), arms=(CURRICULUM,)))
    # No row of the paper's main table: `r1ci table ablation` knows these runs by their names.
    return dataclasses.replace(changed, name=run_name(name, variant), paper_row="")


def base(variant: str) -> Experiment:
    """Return the whole method in one of its sizes."""
    match variant:
        case "":
            return r1ci_14b.get_config()
        case "7b":
            return r1ci_7b.get_config()
        case "3b":
            return r1ci_3b.get_config()
        case "demo":
            return toy.get_config()
        case "toy":
            return r1ci_14b.get_config("toy")
        case _:
            listed = ", ".join(known for known in VARIANTS if known)
            raise ValueError(f"no variant {variant!r}; there are: {listed}")


def run_name(name: str, variant: str) -> str:
    """Return the name of a run: ablation-no-sft-14b."""
    return f"{run_prefix(name)}{variant or '14b'}"


def run_prefix(name: str) -> str:
    """Return what the names of a file's runs begin with; their size follows."""
    return f"{PREFIX}{name.replace('_', '-')}-"


def with_grpo(experiment: Experiment, **changes: Any) -> Experiment:
    """Return the experiment with fields of its `grpo` replaced."""
    grpo: GrpoConfig = dataclasses.replace(experiment.grpo, **changes)
    return dataclasses.replace(experiment, grpo=grpo)


def with_demonstrations(experiment: Experiment, **changes: Any) -> Experiment:
    """Return the experiment with fields of its `demonstrations` replaced."""
    demonstrations = dataclasses.replace(experiment.demonstrations, **changes)
    return dataclasses.replace(experiment, demonstrations=demonstrations)
