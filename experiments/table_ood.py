"""Questions unlike the training: GPQA Diamond, AIME 2024 and 2025, ours next to the paper's.

Question   Does what was learned on 107 tasks help with science and competition problems? (Table 4)
Command    r1ci table ood --runs runs/r1ci-14b-ood
Needs      finished runs of the variant :ood of r1ci_14b.py or r1ci_7b.py, for which
           `r1ci data fetch --ood` has downloaded the questions
Prints     ours | paper | difference, in points of percent, for GPQA Diamond and for the mean of
           the two AIMEs. AIME has 60 problems: raise --config.eval.samples_per_question
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Final

from experiments import paper_numbers
from r1ci_jax.evaluate import tables

GROUPS: Final = {
    "gpqa_diamond": ("gpqa_diamond",),
    "aime_24_25": ("aime_2024", "aime_2025"),
}
"""The paper's columns, with the tasks that each is the mean of."""

_GROUP_OF: Final = {task: group for group, tasks in GROUPS.items() for task in tasks}

PUBLISHED: Final = tuple(
    dataclasses.replace(entry, tasks=frozenset(GROUPS[entry.suite]))
    for entry in paper_numbers.OUT_OF_DISTRIBUTION
)


def build(runs: Sequence[tables.RunResults]) -> tables.Table:
    """The table for the given runs."""
    compared = tables.compare(
        "Questions unlike the training: accuracy, %", [_regroup(run) for run in runs], PUBLISHED
    )
    # A mean over science and competitions has no counterpart.
    kept = [
        (cells, record)
        for cells, record in zip(compared.rows, compared.records, strict=True)
        if record["suite"] != "all"
    ]
    return dataclasses.replace(
        compared,
        rows=tuple(cells for cells, _ in kept),
        records=tuple(record for _, record in kept),
        note=" ".join([*_absent(runs), compared.note]).strip(),
    )


def _regroup(run: tables.RunResults) -> tables.RunResults:
    """Keep the results of these tasks, each with the paper's column as its suite."""
    results = tuple(
        dataclasses.replace(result, suite=_GROUP_OF[result.task], split="test")
        for result in run.results
        if result.task in _GROUP_OF
    )
    return dataclasses.replace(run, results=results)


def _absent(runs: Sequence[tables.RunResults]) -> list[str]:
    without = [run.path.name for run in runs if not _regroup(run).results]
    advice = "run the variant :ood of its experiment"
    return [f"{', '.join(without)}: not evaluated on these tasks; {advice}."] if without else []


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "ood", *sys.argv[1:]]))
