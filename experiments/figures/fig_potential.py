"""Histogram of the improvement potential, and of the pass rates that it comes from (section 4.2).

Question   How many questions are there to learn from: neither solved nor out of reach?
Command    r1ci figure potential --runs runs/toy
Needs      a run whose potential is measured
Draws      questions by pass rate p and by potential 4p(1-p), colored by potential group
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import drawing
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import run_dir

GROUP_COLORS: Final = ("#08519C", "#3182BD", "#6BAED6", "#C6DBEF")
"""Group 1, with the most potential, is the darkest."""
RATES: Final = 20
"""Answers of a question: the first figure has a bar for each rate that they can have."""
BINS: Final = 25
"""Bars of the second figure: the paper's bounds, multiples of 0.04, lie between two bars."""


def draw(runs: Sequence[Path]) -> Figure:
    """The figure for one run directory.

    Raises:
        UserError: There are several, or the potential is not measured.
    """
    if len(runs) != 1:
        raise UserError(f"this figure shows one run, not {len(runs)}; name one with --runs")
    records = drawing.read_potential(runs[0])
    bounds = run_dir.RunDir.view(runs[0]).config["experiment"]["potential"]["lower_bounds"]
    groups = range(1, len(bounds) + 2)
    members = {group: [r for r in records if r["group"] == group] for group in groups}
    with drawing.style():
        title = f"Improvement potential of {len(records)} questions"
        figure, [by_rate, by_potential] = drawing.panels(1, 2, title)
        edges = [(index - 0.5) / RATES for index in range(RATES + 2)]
        _stack(by_rate, [[r["p"] for r in each] for each in members.values()], edges)
        by_rate.set_title("Pass rate")
        by_rate.set_xlabel("fraction p of correct answers")
        by_rate.set_ylabel("questions")
        edges = [index / BINS for index in range(BINS + 1)]
        _stack(by_potential, [[r["potential"] for r in each] for each in members.values()], edges)
        for bound in bounds:
            by_potential.axvline(bound, color=drawing.INK, linewidth=0.8, linestyle=(0, (4, 3)))
        by_potential.set_title("Potential")
        by_potential.set_xlabel("potential 4p(1-p)")
        handles, _ = by_rate.get_legend_handles_labels()
        names = [
            f"group {group}: {len(each)} ({len(each) / len(records):.0%})"
            for group, each in members.items()
        ]
        figure.legend(handles, names, loc="lower center", ncols=4, handlelength=1.2)
    return figure


def _stack(axis: Axes, values: Sequence[Sequence[float]], edges: Sequence[float]) -> None:
    """Draw the groups of questions on top of each other."""
    colors = [GROUP_COLORS[min(index, len(GROUP_COLORS) - 1)] for index in range(len(values))]
    axis.hist(
        [list(each) for each in values],
        bins=list(edges),
        stacked=True,
        color=colors,
        label=[f"group {index + 1}" for index in range(len(values))],
        rwidth=0.86,
    )
