"""Gain of plain GRPO by the number of tasks it trains on, ours and the paper's (Fig. 3d).

Question   Why does reinforcement learning on many tasks gain so little?
Command    r1ci figure task_count --runs 'runs/ablation-task-count-demo*' --to figures
Needs      finished runs of experiments/ablations/task_count.py
Draws      points of percent above SFT on the tasks trained on; bars: one standard error, of the
           questions for one run, of the runs where there are several of as many tasks
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from experiments import paper_numbers
from experiments.figures import drawing
from r1ci_jax.config import ARM_PREFIX
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import results

PAPER = {
    int(entry.row.split()[0]): entry.value
    for entry in paper_numbers.TASK_COUNT
    if entry.value is not None
}
"""The paper's gains by the number of tasks."""


def draw(runs: Sequence[Path]) -> Figure:
    """The figure for the given run directories.

    Raises:
        UserError: A run has no results of SFT and of an arm on tasks that it trained on.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for path in runs:
        count, gain, error = measure_gain(path)
        found.setdefault(count, []).append((gain, error))
    counts = sorted(found)
    means = [statistics.fmean(gain for gain, _ in found[count]) for count in counts]
    errors = [_error(found[count]) for count in counts]
    with drawing.style():
        figure, [axis] = drawing.panels(1, 1, "Gain of plain GRPO over SFT")
        axis.errorbar(
            counts,
            means,
            yerr=errors,
            color=drawing.COLORS[0],
            marker="o",
            capsize=3,
            elinewidth=1,
            label="ours",
        )
        axis.plot(
            list(PAPER), list(PAPER.values()), "D", color=drawing.PALE, label="paper (two points)"
        )
        axis.axhline(0, color=drawing.PALE, linewidth=0.8)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(sorted({*counts, *PAPER})))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("tasks trained on")
        axis.set_ylabel("points of percent")
        drawing.legend(figure, axis)
    return figure


def measure_gain(path: Path) -> tuple[int, float, float]:
    """Return the number of tasks, the gain of the last arm over SFT in points, and its error."""
    run = results.read_run(path)
    trained = [result for result in run.results if result.part == "train"]
    by_model = {model: [r for r in trained if r.model == model] for model in _models(trained)}
    arms = [model for model in by_model if model.startswith(ARM_PREFIX)]
    if not arms or "sft" not in by_model:
        raise UserError(f"{path} has no results of SFT and of GRPO on tasks that it trained on")
    before = results.mean_over_tasks(by_model["sft"])
    after = results.mean_over_tasks(by_model[arms[-1]])
    error = drawing.combine_errors(before.standard_error, after.standard_error)
    return len(by_model["sft"]), after.mean - before.mean, error


def _models(trained: Sequence[results.Result]) -> list[str]:
    return list(dict.fromkeys(result.model for result in trained))


def _error(gains: Sequence[tuple[float, float]]) -> float:
    if len(gains) == 1:
        return gains[0][1]
    return statistics.stdev(gain for gain, _ in gains) / len(gains) ** 0.5
