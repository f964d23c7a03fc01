"""The learning curves of one run, or of two over each other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from r1ci_jax.evaluate import tables
from r1ci_jax.runtime.metrics import Record
from r1ci_jax.tools.report.charts import Mark, Series, draw_line_chart


class Chart(NamedTuple):
    """A figure of the page: one line per training."""

    title: str
    stage: str
    """Beginning of the stage's name."""
    metric: str
    percent: bool = False
    """True for a fraction shown in percent."""
    expected: str = ""
    """Metric drawn beside it as a dashed line, where one run is drawn alone."""


CHARTS = (
    Chart("SFT: loss on sampled tokens", "sft", "optim/loss"),
    Chart("GRPO: mean reward", "grpo", "reward/mean"),
    Chart("GRPO: accuracy on training questions", "grpo", "accuracy", percent=True),
    Chart(
        "GRPO: groups with signal",
        "grpo",
        "group/signal_fraction",
        percent=True,
        expected="group/expected_signal_fraction",
    ),
    Chart("GRPO: code calls per trajectory", "grpo", "tool/calls_per_traj"),
    Chart("GRPO: code calls that failed", "grpo", "tool/error_rate", percent=True),
    Chart("GRPO: trajectories with a self-check", "grpo", "tool/self_check_rate", percent=True),
    Chart("GRPO: trajectories that end with an answer", "grpo", "stop/answer", percent=True),
    Chart("GRPO: tokens per trajectory", "grpo", "len/tokens"),
    Chart("GRPO: KL to the SFT model", "grpo", "optim/kl"),
    Chart("GRPO: gradient norm", "grpo", "optim/grad_norm"),
    Chart(
        "GRPO: sampler against trainer, log-probability difference",
        "grpo",
        "check/sampler_trainer_logprob_diff",
    ),
)

NUM_COLORS = 5
"""Colors of the page's palette; models take them in turn."""


NO_STEPS = "<p>No steps logged yet.</p>"


def assign_colors(experiments: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Give each model of the experiments a color; the same name has the same one."""
    models = dict.fromkeys(name for each in experiments for name in tables.list_models(each))
    return {model: index % NUM_COLORS for index, model in enumerate(models)}


def draw_run(
    records: Sequence[Record], experiment: Mapping[str, Any], colors: Mapping[str, int]
) -> str:
    """Draw the curves of one run, with its curriculum stages."""
    marks = _stage_marks(records, experiment)
    figures = [
        draw_line_chart(
            chart.title + ("; dashed: expected of pass rates" if chart.expected else ""),
            [
                *_series(records, chart.stage, chart.metric, colors),
                *_series(
                    records, chart.stage, chart.expected, colors, suffix=", expected", dashed=True
                ),
            ],
            marks=marks if chart.stage == "grpo" else (),
            percent=chart.percent,
        )
        for chart in CHARTS
    ]
    return "".join(figures) or NO_STEPS


def draw_pair(pair: Sequence[tuple[str, Sequence[Record]]], colors: Mapping[str, int]) -> str:
    """Draw the curves of two runs (label, records) over each other; the second is dashed."""
    figures = [
        draw_line_chart(
            chart.title,
            [
                line
                for index, (label, records) in enumerate(pair)
                for line in _series(
                    records,
                    chart.stage,
                    chart.metric,
                    colors,
                    prefix=f"{label}: ",
                    dashed=index == 1,
                )
            ],
            percent=chart.percent,
        )
        for chart in CHARTS
    ]
    return "".join(figures) or NO_STEPS


def _series(
    records: Sequence[Record],
    stage: str,
    metric: str,
    colors: Mapping[str, int],
    *,
    prefix: str = "",
    suffix: str = "",
    dashed: bool = False,
) -> list[Series]:
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record["stage"].startswith(stage) and record.get(metric) is not None:
            found.setdefault(record["stage"], []).append((record["step"], record[metric]))
    return [
        Series(
            name=f"{prefix}{tables.model_name(name)}{suffix}",
            color=colors.get(name, NUM_COLORS - 1),
            points=tuple(sorted(points)),
            is_dashed=dashed,
        )
        for name, points in found.items()
    ]


def _stage_marks(records: Sequence[Record], experiment: Mapping[str, Any]) -> list[Mark]:
    """Mark the first step of each curriculum stage, for arms that have a curriculum."""
    arms = {arm["name"] for arm in experiment.get("arms", ()) if arm["order"] != "uniform"}
    first: dict[int, float] = {}
    for record in records:
        number = record.get("curriculum/stage")
        if record["stage"] in arms and number is not None:
            first[int(number)] = min(record["step"], first.get(int(number), record["step"]))
    return [Mark(x=step, label=f"stage {number}") for number, step in sorted(first.items())]
