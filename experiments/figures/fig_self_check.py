"""Self-checks by step: trajectories in which a later script tests an earlier result (Fig. 6a).

Question   Does the policy learn to verify its results by code?
Command    r1ci figure self_check --runs runs/toy
Needs      a run with the metric tool/self_check_rate (grpo.diagnostics; docs/metrics.md defines it)
Draws      the share of trajectories with a self-check, and of those with any code, a line per arm.
           The paper's share was judged by GPT-4o and its numbers are not known
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.figures import drawing
from r1ci_jax.errors import UserError

METRIC = "tool/self_check_rate"


def draw(runs: Sequence[Path]) -> Figure:
    """The figure for the given run directories.

    Raises:
        UserError: No run has the metric.
    """
    trainings = drawing.read_trainings(runs)
    if not drawing.has_metric(trainings, METRIC):
        raise UserError(
            f"no step of {', '.join(map(str, runs))} has the metric {METRIC}; train with "
            '--config.grpo.diagnostics=groups or "all"'
        )
    names = drawing.labels(trainings)
    with drawing.style():
        figure, axes = drawing.panels(1, 2, "Checking by code")
        titles = {METRIC: "With a self-check", "tool/used_fraction": "With any code"}
        for axis, (metric, title) in zip(axes, titles.items(), strict=True):
            for index, training in enumerate(trainings):
                curve = training.curve(metric, names[index])
                drawing.draw_curve(axis, curve, drawing.color(index))
            axis.set_title(title)
            axis.set_ylabel("of the step's trajectories")
            axis.set_xlabel("step")
            axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        drawing.legend(figure, axes[0])
    return figure
