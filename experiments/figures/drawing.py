"""What all figures share: how they look, and how they read the files of runs."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from r1ci_jax.config import ARM_PREFIX
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import results
from r1ci_jax.runtime import metrics, run_dir
from r1ci_jax.tools.report import charts

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Distinct for every kind of color vision (Okabe and Ito), the strongest first."""
INK: Final = "#333333"
PALE: Final = "#8C8C8C"

PANEL: Final = (3.6, 2.5)
"""Width and height of one panel in inches."""

_STYLE: Final[dict[Any, Any]] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "figure.dpi": 100,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one training."""

    label: str
    points: tuple[tuple[float, float], ...]
    """Step and value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """The records of one GRPO arm of one run."""

    run: str
    """Name of the run directory."""
    arm: str
    records: tuple[metrics.Record, ...]
    steps_per_stage: tuple[int, ...]
    """Number of steps of each curriculum stage that was entered, in order."""

    def curve(self, metric: str, label: str) -> Curve:
        """Return a metric by step; values that are not finite are left out."""
        points = [(r["step"], r[metric]) for r in self.records if r.get(metric) is not None]
        return Curve(label=label, points=tuple(points))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the look of these figures."""
    with matplotlib.rc_context(_STYLE):
        yield


def panels(rows: int, columns: int, title: str) -> tuple[Figure, list[Axes]]:
    """Make an empty figure with so many panels; they are listed row by row."""
    width, height = PANEL
    whole = rows * height + 0.75
    low = 0.32 / whole  # room for the legend
    layout = ConstrainedLayoutEngine(rect=(0, low, 1, 1 - low), wspace=0.06)
    figure = Figure(figsize=(columns * width, whole), layout=layout)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def legend(figure: Figure, axis: Axes) -> None:
    """Name the lines of a panel once, below all panels."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(len(labels), 4), handlelength=1.6)


def draw_curve(axis: Axes, curve: Curve, color: str) -> None:
    """Draw a curve; a long one pale, with its trailing mean."""
    if not curve.points:
        return
    xs, ys = zip(*curve.points, strict=True)
    if len(curve.points) < charts.SMOOTH_FROM:
        axis.plot(xs, ys, color=color, label=curve.label, marker="o", markersize=2.6)
        return
    axis.plot(xs, ys, color=color, alpha=0.22, linewidth=0.9)
    window = max(5, len(curve.points) // 20)
    mean = [y for _, y in charts.compute_trailing_mean(curve.points, window)]
    axis.plot(xs, mean, color=color, label=curve.label)


def mark_stages(axis: Axes, training: Training) -> None:
    """Shade every other curriculum stage, and number the stages."""
    start = 0.5
    for number, steps in enumerate(training.steps_per_stage):
        if number % 2 == 0:
            axis.axvspan(start, start + steps, color="#F3F3F3", zorder=0)
        axis.text(
            start + steps / 2,
            1.0,
            f"stage {number + 1}",
            transform=axis.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=PALE,
        )
        start += steps


def read_trainings(paths: Sequence[Path]) -> list[Training]:
    """Read the GRPO trainings of some runs.

    Raises:
        UserError: There are none.
    """
    found: list[Training] = []
    for path in paths:
        by_arm: dict[str, list[metrics.Record]] = {}
        for record in metrics.read(run_dir.RunDir.view(path).metrics_path):
            if record["stage"].startswith(ARM_PREFIX):
                by_arm.setdefault(record["stage"], []).append(record)
        for arm, records in by_arm.items():
            stages = [record.get("curriculum/stage", 1) for record in records]
            counts = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
            found.append(
                Training(
                    run=path.name,
                    arm=arm,
                    records=tuple(records),
                    steps_per_stage=tuple(counts.values()),
                )
            )
    if not found:
        raise UserError(
            f"no step of reinforcement learning in {', '.join(map(str, paths))}: train with "
            "r1ci run, or name other runs"
        )
    return found


def labels(trainings: Sequence[Training]) -> list[str]:
    """Name each training: by its arm, and by its run where there are several."""
    names = [results.model_name(each.arm).rpartition(", ")[2] for each in trainings]
    if len({each.run for each in trainings}) == 1:
        return names
    return [f"{each.run}: {name}" for each, name in zip(trainings, names, strict=True)]


def color(index: int) -> str:
    """Return the color of a line by its place."""
    return COLORS[index % len(COLORS)]


def has_metric(trainings: Sequence[Training], metric: str) -> bool:
    """Return True if some record has the metric."""
    return any(record.get(metric) is not None for each in trainings for record in each.records)


def read_potential(path: Path) -> list[dict[str, Any]]:
    """Read the potential of a run's questions.

    Raises:
        UserError: It was not measured.
    """
    records = metrics.read(run_dir.RunDir.view(path).potential_path)
    if not records:
        raise UserError(f"{path} has no potential yet: measure it with r1ci potential or r1ci run")
    return records


def combine_errors(*errors: float) -> float:
    """Return the standard error of a sum or difference of independent numbers."""
    return math.sqrt(sum(error**2 for error in errors))
