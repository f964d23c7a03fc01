"""The paper's whole suite as datasets: 144 tasks, at least 200 different questions of each.

Question   What are the questions: how many, how long, how often is one constant answer right?
Command    r1ci data fetch && r1ci data build experiments/tasks.py --questions-only
           r1ci data stats runs/tasks
Needs      2 CPU cores, 4 GiB, 15 minutes; the published questions (GSM-Hard, MATH, BIG-Bench-Hard)
Expect     107 training tasks with 70 questions for supervised fine-tuning (the paper keeps at most
           that many trajectories of each), 50 for reinforcement learning and 200 for evaluation; 37
           test tasks with 200 for evaluation. Published tasks have fewer where there are fewer
Variants   :offline  the 114 tasks that are generated from a seed and need no download

This file is for data: `r1ci synth experiments/tasks.py:offline` adds the demonstrations of the
scripted teachers. Other experiments take `DATASET` and `DEMONSTRATIONS` from here.
"""

import dataclasses

from r1ci_jax.config import (
    DatasetConfig,
    DemonstrationConfig,
    Experiment,
    GrpoConfig,
    ModelConfig,
    SamplerConfig,
)
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.published_task import PublishedTask

VARIANTS = ("", "offline")

TASKS = tuple(name for suite in registry.PAPER_SUITES for name in registry.names(suite=suite))

OFFLINE = tuple(name for name in TASKS if not isinstance(registry.get(name), PublishedTask))

DATASET = DatasetConfig(
    tasks=TASKS,
    difficulties=(1, 2, 3, 4, 5),
    sft_per_task=70,
    grpo_per_task=50,
    eval_per_task=200,
)

DEMONSTRATIONS = DemonstrationConfig(allow_missing_teachers=True, multi_turn=0.5)
"""Tasks without a scripted teacher are left out of supervised fine-tuning. Half of the Code Agent's
trajectories have several turns or change from words to code, which the paper prefers too."""


def get_config(variant: str = "") -> Experiment:
    """All tasks, or those that need no download."""
    all_tasks = Experiment(
        name="tasks",
        model=ModelConfig(checkpoint="Qwen/Qwen2.5-3B-Instruct"),
        dataset=DATASET,
        demonstrations=DEMONSTRATIONS,
        sampler=SamplerConfig(cache_length=8192, prefill_buckets=(128, 512, 2048)),
        grpo=GrpoConfig(sequence_lengths=(2048, 8192)),
    )
    match variant:
        case "":
            return all_tasks
        case "offline":
            return dataclasses.replace(
                all_tasks,
                name="tasks-offline",
                dataset=dataclasses.replace(DATASET, tasks=OFFLINE),
            )
        case _:
            raise ValueError(f"no variant {variant!r}; there are: offline")
