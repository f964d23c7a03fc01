"""The numbers of R1-Code-Interpreter (arXiv 2505.21668, ICLR 2026) as data, each with its place.

The paper's full text was not at hand when these were gathered: they come from its abstract, public
pages and third-party notes, so each carries a grade.

    A   a primary source (abstract, model or data page) or two independent notes
    B   one detailed note
    C   a single weak source, or a number that may have been derived by the note itself

A number that the paper has but no source gave is present with value None: `missing`.
"""

import dataclasses

from r1ci_jax.evaluate.tables import Published
from r1ci_jax.tasks import registry, train_test_split

SOURCES = {
    "S1": "abstract of versions 2 and 3, https://openreview.net/forum?id=FNlNH0iFOx",
    "S2": "abstract of version 1, https://huggingface.co/papers/2505.21668",
    "S3": "reading note on the ICLR version, github.com/zhaoyang97/Paper-Notes-en",
    "S4": "reading note with the captions of figures and tables, github.com/RipeMangoBox/PaperBite",
    "S5": "note on the method and its formulas, GitHub",
    "S6": "OpenReview reviews of submission 14477",
    "S8": "benchmark listing, https://www.wizwand.com/paper/68fa7bb01e209131cea89e40",
}
"""Source keys of the entries, with their meaning."""

SUITES = ("symbench", "bbh", "reasoning_gym")
TEST_TASKS = 37
TRAIN_TASKS = 107

OTHER_TASKS = (
    "The paper's names of test tasks and its questions are not published: as many tasks of ours "
    "stand for them."
)
"""What every comparison with the paper has to say."""

_DERIVED = "may have been computed by the note from the abstract's gains, not read off the table"


def _tasks(suite: str, split: str) -> frozenset[str]:
    """Name the tasks whose mean stands beside the paper's of this suite and split."""
    suites = SUITES if suite == "all" else (suite,)
    names = (name for each in suites for name in registry.names(suite=each))
    return frozenset(name for name in names if train_test_split.split_of_task(name) == split)


_TABLE_3 = (
    Published(
        row="14b",
        model="untrained",
        value=44.1,
        location="abstract, Table 3",
        grade="A",
        source="S1",
        note="value sure, label not: one note calls it the code agent without fine-tuning, "
        "another All Text",
    ),
    Published(
        row="14b",
        model="sft",
        value=63.1,
        location="Table 3",
        grade="C",
        source="S4",
        note=_DERIVED,
    ),
    Published(
        row="14b",
        model="grpo_uniform",
        value=66.5,
        location="Table 3, w/o curriculum",
        grade="C",
        source="S4",
        note=_DERIVED,
    ),
    Published(
        row="14b",
        model="grpo_curriculum",
        value=72.4,
        location="abstract, Table 3",
        grade="A",
        source="S1",
    ),
    *(
        Published(
            row="14b",
            model="grpo_curriculum",
            suite=suite,
            split=split,
            value=value,
            location="Table 3",
            grade="B" if value is not None else "",
            source="S8",
        )
        for suite, split, value in (
            ("symbench", "train", 74.4),
            ("symbench", "test", 65.6),
            ("bbh", "train", 91.9),
            ("bbh", "test", 86.5),
            ("reasoning_gym", "train", None),
            ("reasoning_gym", "test", None),
        )
    ),
    *(
        Published(row=row, model=model, value=None, location="Table 3")
        for row in ("7b", "3b")
        for model in ("untrained", "sft", "grpo_uniform", "grpo_curriculum")
    ),
    Published(
        row="baseline",
        model="GPT-4o, All Text",
        value=58.6,
        location="abstract, Table 3",
        grade="A",
        source="S1",
    ),
    Published(
        row="baseline",
        model="GPT-4o, Code Interpreter",
        value=70.9,
        location="abstract, Table 3",
        grade="A",
        source="S1",
    ),
)

MAIN = tuple(
    dataclasses.replace(entry, tasks=_tasks(entry.suite, entry.split)) for entry in _TABLE_3
)
"""Table 3: mean over tasks. `model` is one of ours, as in results.jsonl."""

VERSION_1 = (
    Published(
        row="14b", model="untrained", value=44.0, location="abstract of v1", grade="A", source="S2"
    ),
    Published(
        row="14b",
        model="grpo_uniform",
        value=64.1,
        location="abstract of v1",
        grade="A",
        source="S2",
        note="one stage, no curriculum, at most 5 code calls",
    ),
)
"""The first version of the paper, whose recipe was another one."""

GAINS = (
    Published(
        row="mean of 3b, 7b, 14b",
        model="RL gain without curriculum",
        value=3.4,
        location="abstract, Table 3",
        grade="A",
        source="S1",
        unit="points",
    ),
    Published(
        row="mean of 3b, 7b, 14b",
        model="RL gain with curriculum by potential",
        value=9.3,
        location="abstract, Table 3",
        grade="A",
        source="S1",
        unit="points",
    ),
    Published(
        row="mean of 3b, 7b, 14b",
        model="gain over untrained",
        split="train",
        value=36.4,
        location="Table 3",
        grade="B",
        source="S3",
        unit="points",
    ),
    Published(
        row="mean of 3b, 7b, 14b",
        model="gain over untrained",
        value=31.5,
        location="Table 3",
        grade="B",
        source="S3",
        unit="points",
    ),
)
"""Differences between rows of Table 3."""

OUT_OF_DISTRIBUTION = (
    Published(
        row="14b",
        model="grpo_curriculum",
        suite="gpqa_diamond",
        value=50.2,
        location="Table 4",
        grade="A",
        source="S4 S8",
    ),
    Published(
        row="14b",
        model="grpo_curriculum",
        suite="aime_24_25",
        value=42.0,
        location="Table 4",
        grade="B",
        source="S4",
    ),
    Published(
        row="7b",
        model="grpo_curriculum",
        suite="gpqa_diamond",
        value=39.0,
        location="Table 4",
        grade="B",
        source="S4",
    ),
    Published(
        row="7b",
        model="grpo_curriculum",
        suite="aime_24_25",
        value=15.0,
        location="Table 4",
        grade="B",
        source="S4",
    ),
    *(
        Published(row=row, model=model, suite=suite, value=None, location="Table 4")
        for row in ("14b", "7b")
        for model in ("untrained", "CodeSteer")
        for suite in ("gpqa_diamond", "aime_24_25")
    ),
)
"""Table 4: tasks unlike the training tasks."""

TASK_COUNT = (
    Published(
        row="1 task",
        model="largest mean gain of GRPO",
        value=27.4,
        location="Fig. 3d",
        grade="B",
        source="S3 S4",
        unit="points",
        note="50 samples per task; one note says that the task is Game 24",
    ),
    Published(
        row="107 tasks",
        model="largest mean gain of GRPO",
        value=3.3,
        location="Fig. 3d",
        grade="B",
        source="S3",
        unit="points",
        note="another note says 3.4",
    ),
    Published(
        row="between",
        model="largest mean gain of GRPO",
        value=None,
        location="Fig. 3d",
        unit="points",
        note="the points between 1 and 107 tasks",
    ),
)
"""Figure 3d: the more tasks, the less plain GRPO gains."""

COST = (
    Published(
        row="14b",
        model="RL training time saved by the sandbox on CPU nodes",
        value=39.0,
        location="text, next to Fig. 12",
        grade="A",
        source="S3 S4 S5 S6",
        note="disagrees with the GPU hours below, which would be 59 %",
    ),
    Published(
        row="14b",
        model="GPU hours without the sandbox",
        value=4500.0,
        location="text",
        grade="A",
        source="S3 S4",
        unit="GPU hours",
    ),
    Published(
        row="14b",
        model="GPU hours with the sandbox",
        value=1845.0,
        location="text",
        grade="A",
        source="S3 S4",
        unit="GPU hours",
    ),
)
"""Cost of training."""

ABLATIONS = (
    *(
        Published(
            row=row,
            model="curriculum sorted by difficulty",
            value=None,
            location="Table 3, w/o potential",
            note="below the curriculum by potential at every size",
        )
        for row in ("14b", "7b", "3b")
    ),
    Published(
        row="14b",
        model="GRPO without SFT",
        value=None,
        location="Fig. 15",
        note="almost no gain, even with the curriculum",
    ),
    *(
        Published(row="14b", model=model, value=None, location=place)
        for model, place in (
            ("All Text, trained on as much", "Fig. 9a"),
            ("All Code, trained on as much", "Fig. 9a"),
            ("SFT with wrong trajectories", "Fig. 9b"),
            ("SFT without prompt variety", "Fig. 9b"),
            ("SFT without emphasis on many turns", "Fig. 9b"),
            ("PPO", "Fig. 7"),
            ("Reinforce++", "Fig. 7"),
            ("trained without BIG-Bench-Hard", "Fig. 13"),
            ("fraction of trajectories that check themselves", "Fig. 6a"),
        )
    ),
    Published(row="distilled", model="DeepSeek-R1-distilled bases", value=None, location="Table 5"),
)
"""Known in direction only: no source gave the numbers."""

ALL = (*MAIN, *VERSION_1, *GAINS, *OUT_OF_DISTRIBUTION, *TASK_COUNT, *COST, *ABLATIONS)
"""Every entry."""
