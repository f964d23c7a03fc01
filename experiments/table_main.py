"""Main table: mean accuracy over tasks, ours next to the paper's (its Table 3).

Question   How close does a run come to the paper's row for the same model size?
Command    r1ci table main --runs runs/14b-seed0 runs/14b-seed1
           (the same: python -m experiments.table_main --runs ...)
Needs      finished runs; an experiment names its paper row in `paper_row`
Prints     ours | paper | difference, in points of percent; the difference only where ours is
           the mean over all tasks that stand for the paper's (37 for testing)
"""

import dataclasses
import sys
from collections.abc import Sequence

from experiments import paper_numbers
from r1ci_jax.evaluate import tables


def build(runs: Sequence[tables.RunResults]) -> tables.Table:
    """The table for the given runs."""
    trained_like = [_without_ood(run) for run in runs]
    title = "Main table: mean accuracy over tasks, %"
    table = tables.compare(title, trained_like, paper_numbers.MAIN)
    if not any(run.paper_row for run in runs):
        return table
    return dataclasses.replace(table, note=f"{table.note} {paper_numbers.OTHER_TASKS}")


def _without_ood(run: tables.RunResults) -> tables.RunResults:
    """Leave out tasks that have a table of their own."""
    kept = tuple(result for result in run.results if result.part != "ood")
    return dataclasses.replace(run, results=kept)


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "main", *sys.argv[1:]]))
