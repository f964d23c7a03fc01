"""The curriculum's stages: reward, and how many groups teach anything, step by step (Fig. 3c).

Question   Does the reward fall when a stage adds questions with less potential, and recover? How
           many groups of a step have rewards that differ?
Command    r1ci figure stages --runs runs/toy
Needs      a run with an arm of several stages
Draws      the arms with stages over shaded stages; others are left out
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.figures import drawing
from r1ci_jax.errors import UserError

EXPECTED = "group/expected_signal_fraction"


def draw(runs: Sequence[Path]) -> Figure:
    """The figure for the given run directories.

    Raises:
        UserError: No arm has several stages.
    """
    trainings = [each for each in drawing.read_trainings(runs) if len(each.steps_per_stage) > 1]
    if not trainings:
        raise UserError(
            f"no arm with several stages in {', '.join(map(str, runs))}: draw one with "
            'order "curriculum"'
        )
    names = drawing.labels(trainings)
    with drawing.style():
        figure, axes = drawing.panels(1, 2, "Stages of the curriculum")
        [reward, signal] = axes
        for axis in axes:
            drawing.mark_stages(axis, trainings[0])
            axis.set_xlabel("step")
        for index, training in enumerate(trainings):
            color = drawing.color(index)
            drawing.draw_curve(reward, training.curve("reward/mean", names[index]), color)
            drawing.draw_curve(signal, _signal(training, names[index]), color)
        if len(trainings) == 1 and drawing.has_metric(trainings, EXPECTED):
            expected = trainings[0].curve(EXPECTED, "expected from pass rates, 1 - p^G - (1-p)^G")
            drawing.draw_curve(signal, expected, drawing.COLORS[-1])
        reward.set_title("Mean reward", pad=14)
        reward.set_ylabel("reward")
        signal.set_title("Groups whose rewards differ", pad=14)
        signal.set_ylabel("of the step's groups")
        signal.set_ylim(0, 1.02)
        signal.yaxis.set_major_formatter(PercentFormatter(1.0))
        drawing.legend(figure, signal)
    return figure


def _signal(training: drawing.Training, label: str) -> drawing.Curve:
    """Return the share of groups whose rewards differ."""
    zero = training.curve("group/zero_advantage_fraction", label)
    return drawing.Curve(label=label, points=tuple((x, 1 - y) for x, y in zero.points))
