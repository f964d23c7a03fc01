"""Learning curves of GRPO: reward, accuracy, code calls and length by step (Figs. 3 and 6).

Question   What does reinforcement learning change, and when does it stop?
Command    r1ci figure curves --runs runs/toy
Needs      a run with reinforcement learning; unfinished ones are drawn as far as they are
Draws      a line per arm and run; from 30 steps on its trailing mean, over the values in pale
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.figures import drawing

PANELS = (
    ("reward/mean", "Mean reward", "reward"),
    ("accuracy", "Correct answers", "of the step's trajectories"),
    ("tool/calls_per_traj", "Code calls", "per trajectory"),
    ("len/tokens", "Length", "sampled tokens per trajectory"),
)
"""Metric, title and label of each panel."""


def draw(runs: Sequence[Path]) -> Figure:
    """The figure for the given run directories."""
    trainings = drawing.read_trainings(runs)
    names = drawing.labels(trainings)
    with drawing.style():
        figure, axes = drawing.panels(2, 2, "Reinforcement learning")
        for axis, (metric, title, unit) in zip(axes, PANELS, strict=True):
            for index, training in enumerate(trainings):
                curve = training.curve(metric, names[index])
                drawing.draw_curve(axis, curve, drawing.color(index))
            axis.set_title(title)
            axis.set_ylabel(unit)
            axis.set_xlabel("step")
            if metric == "accuracy":
                axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            if metric != "reward/mean":
                axis.set_ylim(bottom=0)
        drawing.legend(figure, axes[0])
    return figure
