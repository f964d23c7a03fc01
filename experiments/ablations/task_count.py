"""One task against many: plain GRPO on few and on more tasks (Fig. 3d).

Question   How much does reinforcement learning gain, the more different tasks it trains on?
Command    r1ci run experiments/ablations/task_count.py:demo-1, then :demo-2, :demo-4 and :demo
           r1ci figure task_count --runs 'runs/ablation-task-count-demo*' --to figures
Needs      as r1ci_14b.py; 2 CPU cores and ten minutes for each demo
Expect     27.4 points on one task (Game 24), 3.3 on 107 (grade B; the points between are unknown)
Variants   (none)  all 107 tasks;  :1 :8 :32  fewer of them
           :demo  six toy tasks;  :demo-1 :demo-2 :demo-4  fewer of them;  :toy  one, two steps

A smaller set is contained in each larger one, and the order is drawn once; Game 24 comes first, as
in the paper. Each task has 50 questions for reinforcement learning, as there, and all questions are
alike (no curriculum). A model is evaluated on the tasks that it was trained on.
"""

import dataclasses
import random

from experiments.ablations import ablation
from r1ci_jax.config import Arm, Experiment
from r1ci_jax.tasks import registry

VARIANTS = ("", "1", "8", "32", "demo", "demo-1", "demo-2", "demo-4", "toy")

FIRST = "game24"


def get_config(variant: str = "") -> Experiment:
    """Plain GRPO on so many tasks."""
    if variant not in VARIANTS:
        listed = ", ".join(known for known in VARIANTS if known)
        raise ValueError(f"no variant {variant!r}; there are: {listed}")
    size, _, count = variant.rpartition("-") if "-" in variant else (variant, "", "")
    if variant.isdecimal():
        size, count = "", variant
    whole = ablation.base(size)
    order = _in_order(whole)
    number = 1 if size == "toy" else int(count or len(order))
    dataset = dataclasses.replace(whole.dataset, tasks=tuple(order[:number]))
    if size == "toy":
        # As many demonstrations as with all its tasks make two steps.
        shown = dataset.sft_per_task * len(order)
        dataset = dataclasses.replace(dataset, sft_per_task=shown)
    return dataclasses.replace(
        whole,
        name=f"{ablation.run_name('task_count', size)}-{number}",
        paper_row="",
        dataset=dataset,
        arms=(Arm(name="grpo_uniform", order="uniform"),),
    )


def _in_order(whole: Experiment) -> list[str]:
    """Return the tasks that may be trained on: the first one, then the others as drawn."""
    training = [name for name in whole.dataset.tasks if registry.get(name).split == "train"]
    first = [name for name in training if name == FIRST]
    others = sorted(set(training) - {FIRST})
    random.Random("task count").shuffle(others)
    return [*first, *others]
